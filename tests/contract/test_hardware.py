# SPDX-License-Identifier: Apache-2.0
"""Agent and controller say the same of the same hardware: what it is, what it is called, whether a reboot is due."""

import json
from uuid import UUID

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.agent.drivers.pci import PciDriver
from cyborg_reconciler.agent.readers import Host
from cyborg_reconciler.core.accelerators import units, uuid_of
from cyborg_reconciler.core.select import UNKNOWN_TYPE
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.simulation import demo_machines, write_tree

HOST = UUID("6d1c3a52-0df8-4c3d-9f6e-0a4b7f3d8a11")
UNREADABLE = {"unknown": "I/O error"}
GPU = "0000:3b:00.0"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The facts of the demo's hosts, by name."""
    folder = tmp_path_factory.mktemp("hosts")
    for machine in demo_machines():
        write_tree(machine, folder / machine.name)
    return {one.name: gather(Tree(str(folder / one.name)), connection="local") for one in demo_machines()}


def of_the_agent(facts):
    """What the agent says of each function: uuid, type, how it stands to SR-IOV, whether a reboot is due."""
    return {
        one.address: (
            one.document(HOST)["uuid"] if one.identity else None,
            one.device_type,
            one.acc_type,
            one.reboot_required,
        )
        for one in PciDriver(Host("/")).discover(facts)
    }


def of_the_controller(facts):
    """The same of the controller, without a catalogue, of which the agent knows nothing."""
    return {
        one.address: (
            str(uuid_of(one, HOST)) if one.identity else None,
            one.device_type.replace(UNKNOWN_TYPE, "GENERIC"),  # the agent has no word for what may be anything
            one.acc_type,
            one.reboot_required,
        )
        for one in units(decode_facts(json.dumps(facts)), {})
    }


def changed(facts, **fields):
    """The facts, with each function's *fields* changed: by a value, or by what a function makes of its address."""
    devices = [
        device | {name: value(device["address"]) if callable(value) else value for name, value in fields.items()}
        for device in facts["devices"]
    ]
    return {**facts, "devices": devices}


def number_of(address):
    """A number that no two functions of a host have."""
    return int(address.replace(":", "").replace(".", ""), 16)


CHANGES = {
    "as it is": {},
    "all have one serial": {"serial": "0000-0000", "vendor_id": "8086", "product_id": "4940"},
    "the ports of two cards": {"serial": lambda address: address[:7], "vendor_id": "8086", "product_id": "1521"},
    "VFs of a GPU": {"physfn": lambda address: None if address == GPU else GPU, "vf_index": number_of},
    "VFs of nobody": {"physfn": "0000:ff:00.0", "vf_index": 0},
    "VFs without an index": {"physfn": lambda address: None if address == GPU else GPU, "vf_index": None},
    "FPGAs": {"vendor_id": "8086", "product_id": "bccf", "class_id": "120000"},
    **{f"no {fact}": {fact: UNREADABLE} for fact in ("serial", "vendor_id", "product_id", "class_id", "physfn")},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_agent_and_controller_call_every_function_the_same(recorded, change):
    for facts in recorded.values():
        seen = changed(facts, **change)
        said = of_the_agent(seen)
        assert said == of_the_controller(seen)
        assert set(said) == {device["address"] for device in facts["devices"]}
        names = [uuid for uuid, *_ in said.values() if uuid]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("due", [["nouveau"], UNREADABLE])
def test_agent_and_controller_agree_whether_a_reboot_is_due(recorded, due):
    facts = recorded["gpu-1"]
    seen = {**facts, "drivers": {**facts["drivers"], "initramfs_due": due}}
    assert of_the_agent(seen) == of_the_controller(seen)
