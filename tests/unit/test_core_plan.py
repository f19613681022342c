# SPDX-License-Identifier: Apache-2.0
"""How a plan travels: the segments that the collection walks, and the digest that an approval binds to."""

from typing import Any

import pytest

from cyborg_reconciler.core.plan import to_document
from cyborg_reconciler.documents.plan import ActionsSegment, RebootSegment, RoleSegment, Step
from cyborg_reconciler.documents.pool import Reboot
from tests.scenarios.story import looked_at, plan_of

ROLES = {"install": "a.b.install", "uninstall": "a.b.uninstall"}
GIVEN: dict[str, Any] = {
    "drivers": [{"name": "qat", "device_type": "CRYPTO", "kernel_module": "qat_4xxx", "roles": ROLES}],
    "policies": [
        {
            "name": "all",
            "driver": {"name": "qat"},
            "kernel_args": {"intel_iommu": "on"},
            "kernel_modules": {"load": ["vfio"]},
            "sriov": {"num_vfs": 2},
        }
    ],
    "host": {"modules": [{"name": "qat_4xxx"}, {"name": "vfio"}]},
    "reboot": {"allowed": True},
}


def test_actions_are_gathered_around_roles_and_the_reboot_ends_the_plan() -> None:
    desired, subject, plan = looked_at(GIVEN)
    document = to_document(plan, desired, subject, Reboot(allowed=True, timeout_s=600))
    first, role, second, reboot = document.segments
    assert isinstance(first, ActionsSegment)
    assert [step.id for step in first.steps] == ["kernel_args", "kernel_modules vfio"]
    assert isinstance(role, RoleSegment)
    assert (role.role, role.args["state"]) == ("a.b.install", "present")
    assert isinstance(second, ActionsSegment)
    assert [step.id for step in second.steps] == ["sriov 0000:6b:00.0"]
    assert reboot == RebootSegment(id="reboot", boot_id="boot-1", timeout_s=600)
    assert (document.digest, document.fingerprint) == (plan.digest, "f")


def test_nothing_to_do_makes_no_segment() -> None:
    desired, subject, plan = looked_at({})
    assert to_document(plan, desired, subject, Reboot()).segments == []


@pytest.mark.parametrize(
    ("vendor_id", "recorded"), [("8086", "0000:6b:00.0 8086:4940 S1"), ("10de", "0000:6c:00.0 10de:1eb8"), (None, "")]
)
def test_what_is_asked_of_the_host_for_a_device_is_recorded_with_it(vendor_id, recorded) -> None:
    selector = {"device_selector": {"vendor_id": vendor_id}} if vendor_id else {}
    given = {
        "policies": [{"name": "args", "kernel_args": {"iommu": "pt"}, **selector}, {"sriov": {"num_vfs": 1}}],
        "host": {
            "devices": [{"serial": "S1"}, {"address": "0000:6c:00.0", "vendor_id": "10de", "product_id": "1eb8"}],
        },
    }
    desired, subject, plan = looked_at(given)
    (segment,) = to_document(plan, desired, subject, Reboot()).segments
    assert isinstance(segment, ActionsSegment)
    devices = {own.path[1]: own.device for step in segment.steps for own in step.own}
    assert devices == {"kernel_args": recorded, "sriov": "8086:4940 S1"}


def test_a_vf_comes_and_goes_and_its_pf_is_what_is_recorded() -> None:
    of_vfs = {"name": "vfs", "device_selector": {"product_id": "4941"}, "kernel_args": {"iommu": "pt"}}
    desired, _, _ = looked_at({"policy": of_vfs, "host": {"device": {"vf_devices": [{}]}}})
    assert desired.through == {"vfs": "0000:6b:00.0"}


def test_an_approval_is_of_just_these_actions() -> None:
    four = plan_of({"policy": {"sriov": {"num_vfs": 4}}})
    again = plan_of({"policy": {"name": "other", "priority": 70, "sriov": {"num_vfs": 4}}})
    more = plan_of({"policy": {"sriov": {"num_vfs": 4, "vf_driver": "vfio-pci"}}})
    assert four.digest == again.digest
    assert len({four.digest, more.digest, plan_of({}).digest}) == 3


def test_strings_of_the_host_stay_data() -> None:
    hostile = "{{ lookup('pipe', 'touch /tmp/x') }}"
    given = {
        "policy": {"kernel_args": {"quiet": True}},
        "host": {"kernel": {"args": ["ro", f"quiet={hostile}"], "running": ["quiet"]}},
    }
    step = plan_of(given).actions[0].call
    assert isinstance(step, Step)
    assert [own.before for own in step.own] == [hostile]
