# SPDX-License-Identifier: Apache-2.0
"""Is a machine the host that its token was minted for, by what it says of itself?

Asked by `agents` for a look-up. Pure.
"""

from collections.abc import Sequence


def is_itself(host: str, hostname: str, claimants: Sequence[str]) -> bool:
    """Say whether a machine with the token of *host* is that host, whoever else claims to be known by the same.

    It is so by its very name; else by whatever it is known by, or called, unless it is called as another claimant is.

    >>> is_itself("compute-7", "compute-7", ["evil"]), is_itself("compute-7", "evil", ["compute-7", "evil"])
    (True, False)
    """
    if hostname.lower() == host.lower():
        return True
    if any(_is_called(hostname, other) for other in claimants if other != host):
        return False
    return host in claimants or _is_called(hostname, host)


def _is_called(hostname: str, host: str) -> bool:
    """Say whether a machine that calls itself *hostname* may be *host*: one of the names may have a domain.

    >>> _is_called("Compute-7", "compute-7.example.com"), _is_called("compute-8", "compute-7")
    (True, False)
    """
    return hostname.lower().partition(".")[0] == host.lower().partition(".")[0]
