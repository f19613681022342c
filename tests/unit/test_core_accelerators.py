# SPDX-License-Identifier: Apache-2.0
"""Which hardware a host has, which accelerators are among it, and which uuids they keep."""

from typing import Any
from uuid import UUID, uuid5

import pytest
from msgspec.structs import replace

from cyborg_reconciler.core.accelerators import Known, Unit, settle, units, uuid_of
from tests.scenarios.story import driver_of, facts_of

HOST = UUID("8e45a2ea-5364-4b0d-a252-bf8becaa606e")
ADDRESS = "0000:6b:00.0"
UNREADABLE = {"unknown": "I/O error"}
ROLES = {"roles": {"install": "a.b.c", "uninstall": "a.b.c"}}
QAT = {"name": "qat", "device_type": "CRYPTO", "match": [{"vendor_id": "8086"}], "kernel_module": "qat_4xxx", **ROLES}
PLAIN = {"total_vfs": None, "num_vfs": None}
GENERIC = {"name": "generic-pci", "device_type": "GENERIC"}


def found(*devices: dict[str, Any], drivers=(GENERIC,), host: dict[str, Any] | None = None) -> tuple[Unit, ...]:
    located = [driver_of(words) for words in drivers]
    catalogue = {one.document.metadata.name: one.document.spec for one in located}
    return units(facts_of({"devices": devices, **(host or {})}), catalogue)


def one(*, drivers=(GENERIC,), host: dict[str, Any] | None = None, **device: Any) -> Unit:
    return found(device, drivers=drivers, host=host)[0]


# ---------------------------------------------------------------------------------------------------------- which it is
def test_a_serial_makes_a_function_known_wherever_it_stands() -> None:
    here, there = one(serial="S1"), one(serial="S1", address="0000:18:00.0")
    assert here.identity == there.identity == ("8086:4940 S1 .0",)
    assert uuid_of(here, HOST) == uuid_of(there, HOST) == uuid5(HOST, "8086:4940 S1 .0")


def test_what_has_no_serial_or_does_not_tell_it_is_known_by_its_place() -> None:
    assert one().identity == one(serial=UNREADABLE).identity == ("8086:4940 0000:6b:00.0",)


def test_a_vf_is_known_by_its_pf_and_its_index() -> None:
    pf, first, second = found({"serial": "S1", "num_vfs": 2})
    assert second.identity == ("8086:4940 S1 .0", "vf 1")
    assert uuid_of(second, HOST) == uuid5(uuid5(HOST, pf.identity[0]), "vf 1") != uuid_of(first, HOST)


def test_a_serial_that_several_functions_have_tells_none_from_the_other() -> None:
    one_chip, other = found({"serial": "BOARD"}, {"serial": "BOARD", "address": "0000:6c:00.0"})
    assert one_chip.identity == ("8086:4940 0000:6b:00.0",)
    assert other.identity == ("8086:4940 0000:6c:00.0",)


def test_the_ports_of_one_card_share_a_serial_and_are_told_apart() -> None:
    ports = found({"serial": "S1"}, {"serial": "S1", "address": "0000:6b:00.1"})
    assert [port.identity for port in ports] == [("8086:4940 S1 .0",), ("8086:4940 S1 .1",)]


@pytest.mark.parametrize("fact", ["vendor_id", "product_id", "physfn"])
def test_what_cannot_be_read_has_no_identity(fact) -> None:
    unit = one(**{fact: UNREADABLE})
    assert unit.identity == ()
    assert uuid_of(unit, HOST) is None


def test_a_vf_whose_pf_cannot_be_read_has_no_identity() -> None:
    _, vf = found({"vendor_id": UNREADABLE, "num_vfs": 1})
    assert vf.identity == ()


# ------------------------------------------------------------------------------------------------------ which it stays
OLD = UUID(int=1)
OTHER = UUID(int=2)


@pytest.mark.parametrize(
    ("known", "device", "kept"),
    [
        ((ADDRESS, "8086:4940", None), {"serial": "S1"}, True),
        ((ADDRESS, "8086:4940", "S1"), {"serial": None}, True),
        ((ADDRESS, "8086:4940", "S1"), {"serial": UNREADABLE}, True),
        ((ADDRESS, "8086:4940", "S1"), {"serial": "S1", "address": "0000:18:00.0"}, True),
        ((ADDRESS, "8086:4940", "S1"), {"vendor_id": UNREADABLE}, True),
        ((ADDRESS, "8086:4940", "S1"), {"serial": "S2"}, False),
        ((ADDRESS, "8086:4940", "S1"), {"serial": "S1", "address": "0000:18:00.1"}, False),
        ((ADDRESS, "10de:20b0", None), {}, False),
        (("0000:18:00.0", "8086:4940", None), {}, False),
    ],
)
def test_hardware_keeps_its_uuid_while_it_may_be_the_same(known, device, kept) -> None:
    unit = one(**device)
    settled = settle([unit], HOST, [Known(OLD, *known)])
    assert settled == {unit.address: OLD if kept else uuid_of(unit, HOST)}


def test_vfs_follow_what_their_pf_keeps() -> None:
    pf, vf = found({"serial": "S1", "num_vfs": 1})
    settled = settle([pf, vf], HOST, [Known(OLD, ADDRESS, "8086:4940")])
    assert settled == {pf.address: OLD, vf.address: uuid5(OLD, "vf 0")}


def test_a_card_that_moved_takes_its_uuid_along_and_leaves_none_to_its_successor() -> None:
    successor, moved = found({"serial": "S2"}, {"serial": "S1", "address": "0000:6c:00.0"})
    settled = settle([successor, moved], HOST, [Known(OLD, ADDRESS, "8086:4940", "S1")])
    assert settled == {moved.address: OLD, successor.address: uuid_of(successor, HOST)}


def test_two_that_change_places_change_nothing_else() -> None:
    here, there = found({"serial": "S2"}, {"serial": "S1", "address": "0000:6c:00.0"})
    known = [Known(OLD, ADDRESS, "8086:4940", "S1"), Known(OTHER, "0000:6c:00.0", "8086:4940", "S2")]
    assert settle([here, there], HOST, known) == {here.address: OTHER, there.address: OLD}


def test_no_two_units_get_one_uuid() -> None:
    nameless, moved = found({}, {"serial": "S1", "address": "0000:6c:00.0"})
    first = uuid_of(one(), HOST)
    assert first is not None
    settled = settle([nameless, moved], HOST, [Known(first, "0000:6c:00.0", "8086:4940", "S1")])
    assert settled[moved.address] == first
    assert settled[nameless.address] not in {first, None}


def test_what_cannot_be_read_and_was_never_seen_gets_no_uuid() -> None:
    assert settle([one(product_id=UNREADABLE)], HOST, ()) == {}


# ----------------------------------------------------------------------------------------------------------- what it is
@pytest.mark.parametrize(
    ("device", "kind", "offered"),
    [
        ({}, "CRYPTO", True),
        ({"class_id": "030200", "vendor_id": "10de"}, "GPU", True),
        ({"class_id": "120000"}, "PROCESSING", True),
        ({"class_id": "010802"}, "NVME", True),
        ({"vendor_id": "10ee", "class_id": "120000"}, "FPGA", True),
        ({"product_id": "0b30", "class_id": "120000"}, "FPGA", True),
        ({"product_id": "0b30", "class_id": UNREADABLE}, "FPGA", True),
        ({"class_id": "060400"}, "GENERIC", False),
        ({"class_id": "088000"}, "GENERIC", False),
        ({"class_id": "030000", "vendor_id": "1a03"}, "GPU", False),
        ({"class_id": UNREADABLE}, "UNKNOWN", None),
        ({"physfn": UNREADABLE}, "CRYPTO", None),
    ],
)
def test_a_class_or_an_id_tells_accelerators_from_other_hardware(device, kind, offered) -> None:
    unit = one(**device)
    assert (unit.device_type, unit.is_accelerator) == (kind, offered)
    assert (unit.attach_info is None) == (offered is False)


def test_what_a_driver_of_the_catalogue_is_for_is_an_accelerator_whatever_its_class() -> None:
    edu = {"name": "edu", "device_type": "PROCESSING", "match": [{"vendor_id": "1234"}]}
    unit = one(vendor_id="1234", class_id="00ff00", drivers=[GENERIC, edu])
    assert (unit.device_type, unit.is_accelerator, unit.driver) == ("PROCESSING", True, "edu")


def test_a_pf_with_vfs_offers_them_and_not_itself() -> None:
    pf, *vfs = found({"num_vfs": 2})
    assert (pf.acc_type, pf.is_accelerator, pf.attach_info) == ("PF", False, None)
    assert [(vf.acc_type, vf.parent, vf.is_accelerator) for vf in vfs] == [("VF", ADDRESS, True)] * 2
    assert vfs[0].attach_info == {"type": "PCI", "address": "0000:6b:01.0"}
    assert pf.capability == {"num": 16, "total_vfs": 16, "num_vfs": 2}


def test_a_pf_offers_itself_while_it_has_no_vfs_even_where_their_number_is_unknown() -> None:
    assert one(num_vfs=0).is_accelerator
    assert one(num_vfs=UNREADABLE).is_accelerator


def test_a_capability_tells_what_is_known_and_leaves_out_what_is_not() -> None:
    types = [
        {"type_id": "nvidia-468", "name": "A100-4C", "available": 10},
        {"type_id": "nvidia-470", "name": UNREADABLE},
    ]
    unit = one(**PLAIN, numa_node=1, link_speed_max="16.0 GT/s", link_width_max=UNREADABLE, mdev_types=types)
    assert unit.capability == {
        "num": 10,
        "numa_node": 1,
        "link": {"speed_max": "16.0 GT/s"},
        "mdev_types": {"nvidia-468": {"name": "A100-4C", "available": 10}, "nvidia-470": {}},
    }
    assert unit.attach_info == {"type": "MDEV", "address": ADDRESS, "mdev_types": ["nvidia-468", "nvidia-470"]}
    assert unit.acc_type == "PCI"


# --------------------------------------------------------------------------------------------------------- how it fares
LOADED = {"modules": [{"name": "qat_4xxx", "loaded": True, "devices": [ADDRESS]}]}
IDLE = {"modules": [{"name": "qat_4xxx", "loaded": True}]}


@pytest.mark.parametrize(
    ("host", "device", "required", "health"),
    [
        (LOADED, {}, False, "Healthy"),
        (IDLE, {"driver": "qat_4xxx"}, False, "Healthy"),
        (IDLE, {"driver": "vfio-pci"}, False, "Healthy"),
        (IDLE, {"driver": None, "driver_override": "none"}, False, "Healthy"),
        (IDLE, {"driver": "other"}, True, "Healthy"),
        (IDLE, {"driver": None}, True, "Degraded"),
        (IDLE, {"driver": UNREADABLE}, True, "Unknown"),
        ({"modules": [{"name": "qat_4xxx"}]}, {"driver": None}, True, "Healthy"),
        ({"modules": [{"name": "qat_4xxx", "path": None}]}, {"driver": None}, True, "Healthy"),
        ({"modules": [{"name": "qat_4xxx", "loaded": UNREADABLE}]}, {"driver": None}, True, "Unknown"),
        ({}, {"driver": None}, True, "Healthy"),
    ],
)
def test_a_driver_that_is_not_as_its_entry_says_is_to_be_set_up(host, device, required, health) -> None:
    unit = one(drivers=[GENERIC, QAT], host=host, **device)
    assert (unit.driver, unit.setup_required, unit.health) == ("qat", required, health)
    assert bool(unit.reason) == (health != "Healthy")


def test_a_driver_for_the_next_kernel_is_part_of_the_set_up() -> None:
    dkms = {**QAT, "version": "1.0", "dkms": {"path": "qat", "package": "qat"}}
    build = {"name": "qat", "version": "1.0", "kernel": "6.1.0-40-amd64", "state": "installed"}
    whole = {"modules": [{**LOADED["modules"][0], "disk_version": "1.0", "loaded_version": "1.0"}]}
    here = {"release": "6.1.0-40-amd64", "headers": True, "initramfs": True, "next_boot": False}
    newer = {**here, "release": "6.1.0-41-amd64", "next_boot": True}
    assert not one(drivers=[dkms], host={**whole, "drivers": {"dkms": [build]}}).setup_required
    kernels = {"kernel": {"kernels": [here, newer]}}
    assert one(drivers=[dkms], host={**whole, "drivers": {"dkms": [build]}, **kernels}).setup_required


def test_a_driver_that_installs_nothing_needs_no_set_up() -> None:
    assert not one(driver=None).setup_required


def test_a_vf_is_set_up_with_its_pf() -> None:
    of_pf = {**QAT, "match": [{"product_id": ["4940"]}]}
    _, vf = found({"num_vfs": 1, "driver": None}, drivers=[GENERIC, of_pf], host=IDLE)
    assert (vf.driver, vf.setup_required) == ("qat", True)


def test_of_two_drivers_that_are_equally_close_none_is_named() -> None:
    assert one(drivers=[GENERIC, QAT, {**QAT, "name": "other"}]).driver == ""


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ({"protected": [{"reason": "root_disk", "via": "nvme0n1"}]}, "carries the root disk (nvme0n1)"),
        ({"protected": UNREADABLE}, "may be touched: I/O error"),
        ({"product_id": UNREADABLE}, "product_id, which could not be read: I/O error"),
        ({"driver": UNREADABLE}, "driver, which could not be read: I/O error"),
        ({"num_vfs": UNREADABLE}, "num_vfs, which could not be read: I/O error"),
    ],
)
def test_what_may_not_be_touched_or_was_not_read_is_not_known_to_be_well(device, why) -> None:
    unit = one(**device)
    assert unit.health == "Unknown"
    assert why in unit.reason


@pytest.mark.parametrize(
    ("host", "required"),
    [
        ({}, False),
        ({"kernel": {"next_boot": "quiet iommu=pt", "running": "quiet"}}, True),
        ({"kernel": {"next_boot": "quiet", "running": "quiet BOOT_IMAGE=/vmlinuz"}}, False),
        ({"kernel": {"next_boot": UNREADABLE, "running": "quiet"}}, False),
        ({"drivers": {"initramfs_due": ["nouveau"]}}, True),
        ({"drivers": {"initramfs_due": UNREADABLE}}, False),
    ],
)
def test_a_reboot_is_required_where_what_is_configured_does_not_run(host, required) -> None:
    assert one(host=host).reboot_required is required


def test_units_are_values() -> None:
    assert one() == one()
    assert replace(one(), num=2) != one()


def test_what_ids_stand_for_is_kept_of_such_as_are_ids_alone() -> None:
    kinds: dict[Any, Any] = {}
    devices = [
        {"address": f"0000:0{number}:00.0", "class_id": class_id}
        for number, class_id in enumerate(("0b4000", "0" * 900_000, {"unknown": "0" * 900_000}))
    ]
    units(facts_of({"devices": devices}), {}, kinds)
    assert [class_id for _, _, class_id in kinds] == ["0b4000"]
