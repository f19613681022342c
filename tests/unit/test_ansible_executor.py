# SPDX-License-Identifier: Apache-2.0
"""How long may a run take? What its host's plan says of reboots counts."""

from cyborg_reconciler.adapters.ansible.executor import longest_reboot_s
from cyborg_reconciler.documents.plan import (
    PLAN_VERSION,
    ActionsSegment,
    HostPlan,
    PlanDocument,
    RebootSegment,
    Segment,
)


def of_host(*segments: Segment) -> HostPlan:
    return HostPlan(generation=1, digest="d", fingerprint="f", segments=list(segments))


def test_a_run_has_the_time_of_its_longest_reboot_on_top():
    hosts = {
        "one": of_host(ActionsSegment(steps=[])),
        "two": of_host(ActionsSegment(steps=[]), RebootSegment(id="reboot", boot_id="b", timeout_s=7200)),
        "three": of_host(RebootSegment(id="reboot", boot_id="b", timeout_s=600)),
    }
    plan = PlanDocument(
        plan_version=PLAN_VERSION,
        uuid="u",
        created_at="2026-11-28T00:00:00+00:00",
        controller_id="c",
        fencing_token=1,
        hosts=hosts,
        policies_digest="p",
    )
    assert longest_reboot_s(plan) == 7200
