# SPDX-License-Identifier: Apache-2.0
"""Which policies declare a device's state and binding: by stories."""

from cyborg_reconciler.core.rules import HostRules
from tests.scenarios.story import looked_at

PF, VF = "0000:6b:00.0", "0000:6b:01.1"


def rules(*policies, **host):
    desired, subject, _ = looked_at({"policies": list(policies), "host": host})
    return HostRules(desired, subject)


def test_a_vf_has_the_state_of_its_pf_and_the_driver_that_is_said_of_it_there():
    policy = {"name": "mine", "device_selector": {"product_id": "4940"}, "state": "ready"}
    found = rules({**policy, "sriov": {"groups": [{"vfs": "1", "driver": "vfio-pci"}]}}, device={"num_vfs": 2})
    assert found.state(VF) == found.state(PF) == ("ready", "mine (mine.yml:7)")
    assert found.binding(VF) == ("vfio-pci", "mine (mine.yml:9)")
    assert found.binding("0000:6b:01.0") is None


def test_a_pf_that_is_to_have_vfs_is_bound_to_what_makes_them():
    policy = {"name": "mine", "device_selector": {"product_id": "4940"}, "sriov": {"num_vfs": 2}}
    said = rules(policy).binding(PF)
    assert said is not None
    assert said.policy.startswith("mine (")
    assert rules({**policy, "sriov": {"num_vfs": 0}}).binding(PF) is None


def test_of_a_device_that_a_policy_may_select_or_not_nothing_is_told():
    policy = {"name": "mine", "device_selector": {"serials": ["S1"]}, "state": "ready", "binding": {"driver": "none"}}
    found = rules(policy, device={"serial": {"unknown": "vpd: I/O error"}})
    assert (found.state(PF), found.binding(PF)) == (None, None)
