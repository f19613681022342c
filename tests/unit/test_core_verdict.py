# SPDX-License-Identifier: Apache-2.0
"""Where a host stands, by its plan."""

import pytest

from cyborg_reconciler.core.state import Action, Disruption, Health, Plan, Reason, Sync, Unknown, Wait
from cyborg_reconciler.core.verdict import judge, unobserved

ACTION = Action("host", "sriov", (), Disruption.NONE, "", None)


def plan(*reasons: Reason, acts: bool = False) -> Plan:
    waits = tuple(Wait(reason, "why") for reason in reasons)
    return Plan("compute-1", 1, "f", actions=(ACTION,) if acts else (), waits=waits)


@pytest.mark.parametrize(
    ("found", "sync", "health"),
    [
        (plan(), Sync.SYNCED, Health.HEALTHY),
        (plan(acts=True), Sync.OUT_OF_SYNC, Health.PROGRESSING),
        (plan(Reason.DEVICE_IN_USE), Sync.OUT_OF_SYNC, Health.DEGRADED),
        (plan(Reason.DEVICE_IN_USE, acts=True), Sync.OUT_OF_SYNC, Health.DEGRADED),
        (plan(Reason.SUSPENDED), Sync.OUT_OF_SYNC, Health.SUSPENDED),
        (plan(Reason.SUSPENDED, acts=True), Sync.OUT_OF_SYNC, Health.PROGRESSING),
        (plan(Reason.MODE_WARN, Reason.DEVICE_IN_USE), Sync.OUT_OF_SYNC, Health.DEGRADED),
        (plan(Reason.WINDOW_CLOSED), Sync.OUT_OF_SYNC, Health.PROGRESSING),
        (plan(Reason.UNKNOWN), Sync.UNKNOWN, Health.UNKNOWN),
        (plan(Reason.FACTS_STALE), Sync.UNKNOWN, Health.UNKNOWN),
    ],
)
def test_a_host_stands_where_its_plan_says(found: Plan, sync: Sync, health: Health) -> None:
    verdict = judge(found)
    assert (verdict.sync, verdict.health) == (sync, health)
    assert verdict.verified == (sync is Sync.SYNCED)


def test_a_field_that_could_not_be_read_leaves_all_unknown() -> None:
    blind = Plan("compute-1", 1, "f", blind_spots=((("host", "kernel_args", "iommu"), Unknown("gone")),))
    assert judge(blind).sync is Sync.UNKNOWN


def test_a_host_that_does_not_answer_is_missing() -> None:
    assert unobserved(Wait(Reason.UNREACHABLE, "no route to host")).health is Health.MISSING
    assert unobserved(Wait(Reason.UNKNOWN, "no Python")).health is Health.UNKNOWN
