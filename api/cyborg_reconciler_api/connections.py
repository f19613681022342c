# SPDX-License-Identifier: Apache-2.0
"""How many connections has each of gunicorn's processes? Counted in memory that they share; see docs/adr/0042.

Made by `gunicorn_conf` before there are processes, filled by `gunicorn_worker`. No I/O.
"""

import mmap
from typing import Any, Final

#: Processes that are told apart: more than gunicorn has at a time, also while it replaces them.
PLACES: Final = 256


class Served:
    """The connections of this process that a thread serves or is to serve, those of event streams among them.

    Attributes:
        count: how many; changed by gunicorn's main thread alone.
    """

    count = 0


#: Those of the process that imported this.
SERVED: Final = Served()


class Connections:
    """The number of connections of each process that takes some, by its place."""

    def __init__(self) -> None:
        #: One more than there are; 0 where there is no process.
        self._counts: Any = memoryview(mmap.mmap(-1, 4 * PLACES)).cast("i")

    def tell(self, process: int, count: int) -> None:
        """Enter how many a *process* has, which gunicorn numbers from 1."""
        self._counts[process % PLACES] = count + 1

    def forget(self, process: int) -> None:
        """Enter that a *process* has ended."""
        self._counts[process % PLACES] = 0

    def fewest(self) -> int:
        """Return how many the process has that has fewest; 0 where there is none."""
        return min(filter(None, self._counts), default=1) - 1
