# SPDX-License-Identifier: Apache-2.0
"""Which pool a host is in, and which hosts change together."""

import pytest

from cyborg_reconciler.core.rollout import DEFAULT_POOL, TwoPoolsError, pool_of, waves, width_of
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.declared import Declared, Located
from cyborg_reconciler.documents.pool import RolloutPool


def pool(name: str, group: str, limit: int | str = 1) -> Located[RolloutPool]:
    spec = {"host_selector": {"groups": [group]}, "max_unavailable": limit}
    document = {"api_version": "cyborg/v1", "kind": "RolloutPool", "metadata": {"name": name}, "spec": spec}
    return Located(RolloutPool.model_validate(document, strict=False), f"{name}.yml", {"spec.host_selector": 6})


def test_a_host_of_no_pool_is_changed_alone_by_hand_and_not_rebooted() -> None:
    found = pool_of(Host("compute-1"), Declared(pools=(pool("gpu", "gpu"),)))
    assert found is DEFAULT_POOL
    assert (found.spec.max_unavailable, found.spec.approval, found.spec.reboot.allowed) == (1, "manual", False)


def test_a_host_is_in_the_pool_that_selects_it() -> None:
    found = pool_of(Host("compute-1", frozenset({"gpu"})), Declared(pools=(pool("gpu", "gpu"), pool("qat", "qat"))))
    assert found.metadata.name == "gpu"


def test_two_pools_that_select_one_host_are_both_named() -> None:
    declared = Declared(pools=(pool("gpu", "gpu"), pool("all", "all")))
    with pytest.raises(TwoPoolsError, match=r"gpu \(gpu.yml:6\) and all \(all.yml:6\)"):
        pool_of(Host("compute-1", frozenset({"gpu"})), declared)


@pytest.mark.parametrize(("limit", "size", "width"), [(3, 100, 3), ("10%", 100, 10), ("10%", 9, 1), ("50%", 5, 2)])
def test_a_share_of_a_pool_is_rounded_down_and_is_one_host_at_least(limit: int | str, size: int, width: int) -> None:
    assert width_of(pool("p", "g", limit).document, size) == width


def test_each_pool_keeps_its_own_limit_in_every_wave() -> None:
    small, large = pool("small", "s", 1).document, pool("large", "l", "50%").document
    pools = {"s1": small, "s2": small, "l1": large, "l2": large, "l3": large}
    found = waves(pools, pools, {"small": 2, "large": 4})
    assert found == (("s1", "l1", "l2"), ("s2", "l3"))
