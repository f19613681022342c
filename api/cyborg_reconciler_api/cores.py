# SPDX-License-Identifier: Apache-2.0
"""On which core is a process of gunicorn's to stay? See docs/adr/0043. Pure; called by `gunicorn_conf`."""

from collections import Counter
from collections.abc import Collection, Iterable


def core_for(allowed: Collection[int], taken: Iterable[int | None], processes: int) -> int | None:
    """Return the core, of those *allowed*, that a new one of so many *processes* is to stay on.

    *taken*: those of the others. None where it is to run wherever the kernel puts it: there are more cores than
    processes, or some cores would have more of them than others.
    """
    if processes % len(allowed):
        return None
    stay = Counter(taken)
    return min(sorted(allowed), key=stay.__getitem__)
