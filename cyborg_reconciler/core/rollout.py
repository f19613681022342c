# SPDX-License-Identifier: Apache-2.0
"""Which pool a host is in, and which hosts are changed together. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cyborg_reconciler.core.select import selects_host
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.base import Metadata, Selector
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.pool import PoolSpec, RolloutPool

#: The pool of hosts that no RolloutPool selects: one at a time, with a person's approval, without a reboot.
DEFAULT_POOL: Final = RolloutPool(
    api_version="cyborg/v1",
    kind="RolloutPool",
    metadata=Metadata(name="default"),
    spec=PoolSpec(host_selector=Selector(groups=("all",))),
)


class TwoPoolsError(Exception):
    """Two pools select one host; the text names them."""


def pool_of(host: Host, declared: Declared) -> RolloutPool:
    """Return the pool that *host* is in.

    Raises:
        TwoPoolsError: more than one pool selects it.
    """
    pools = [located for located in declared.pools if selects_host(located.document.spec.host_selector, host)]
    if len(pools) > 1:
        names = " and ".join(
            f"{pool.document.metadata.name} ({pool.file}:{pool.line('spec.host_selector')})" for pool in pools
        )
        msg = f"the pools {names} both select it; narrow one host_selector"
        raise TwoPoolsError(msg)
    return pools[0].document if pools else DEFAULT_POOL


def waves(
    hosts: Iterable[str], pools: Mapping[str, RolloutPool], sizes: Mapping[str, int]
) -> Sequence[tuple[str, ...]]:
    """Return which of *hosts* are changed together: of each pool, at most its max_unavailable in a wave.

    Args:
        hosts: that have something to be done, in order.
        pools: the pool of each of them.
        sizes: how many hosts each pool has in all, by its name; a percentage is of these.
    """
    by_pool: dict[str, list[str]] = {}
    for host in hosts:
        by_pool.setdefault(pools[host].metadata.name, []).append(host)
    found: list[list[str]] = []
    for members in by_pool.values():
        pool = pools[members[0]]
        width = width_of(pool, sizes.get(pool.metadata.name, len(members)))
        for number, start in enumerate(range(0, len(members), width)):
            if number == len(found):
                found.append([])
            found[number] += members[start : start + width]
    return tuple(map(tuple, found))


def width_of(pool: RolloutPool, size: int) -> int:
    """Return how many hosts of a pool of *size* may be changed at once: at least one."""
    limit = pool.spec.max_unavailable
    if isinstance(limit, int):
        return limit
    return max(1, math.floor(size * int(limit.rstrip("%")) / 100))
