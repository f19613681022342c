# SPDX-License-Identifier: Apache-2.0
"""Are the accelerators that are made of what hosts report those that a person would name?"""

import json

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.adapters.declarations.catalogue import read_catalogue
from cyborg_reconciler.core.accelerators import units
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.simulation import samples
from cyborg_reconciler.simulation.hosts import write_tree

CATALOGUE = {located.document.metadata.name: located.document.spec for located in read_catalogue()}
MACHINES = {machine.name: machine for machine in (*samples.demo_machines(), samples.guest_1())}

#: What stands where, of what type, by which driver; whether anything speaks against its being offered.
NAMED = {
    "gpu-1": {
        "0000:01:00.0": ("NIC", "PCI", "generic-pci", "Unknown"),
        "0000:02:00.0": ("NVME", "PCI", "generic-pci", "Unknown"),
        "0000:3b:00.0": ("GPU", "PF", "generic-pci", "Healthy"),
    },
    "qat-1": {
        "0000:01:00.0": ("NIC", "PCI", "generic-pci", "Unknown"),
        "0000:02:00.0": ("NVME", "PCI", "generic-pci", "Unknown"),
        "0000:6b:00.0": ("CRYPTO", "PF", "generic-pci", "Healthy"),
    },
    "nic-1": {
        "0000:02:00.0": ("NVME", "PCI", "generic-pci", "Unknown"),
        "0000:c2:00.0": ("NVME", "PCI", "generic-pci", "Healthy"),
        "0000:ca:00.0": ("NIC", "PF", "generic-pci", "Unknown"),
        "0000:ca:00.1": ("NIC", "PF", "generic-pci", "Healthy"),
    },
    "guest-1": {
        "0000:00:02.0": ("NIC", "PCI", "generic-pci", "Unknown"),
        "0000:00:05.0": ("CRYPTO", "PCI", "virtio-crypto", "Healthy"),
        "0000:01:00.0": ("NIC", "PF", "generic-pci", "Healthy"),
    },
}


@pytest.mark.parametrize("name", NAMED)
def test_every_function_is_hardware_and_some_are_accelerators(name, tmp_path):
    write_tree(MACHINES[name], tmp_path)
    facts = decode_facts(json.dumps(gather(Tree(str(tmp_path)), connection="local")))
    found = units(facts, CATALOGUE)
    offered = {
        unit.address: (unit.device_type, unit.acc_type, unit.driver, str(unit.health))
        for unit in found
        if unit.is_accelerator is not False
    }
    assert [unit.address for unit in found] == [device.address for device in facts.devices]
    assert offered == NAMED[name]
    assert all(unit.identity and not unit.reboot_required for unit in found)
    assert not any(unit.setup_required for unit in found)
    assert json.loads(json.dumps([dict(unit.capability) for unit in found]))
