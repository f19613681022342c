# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which PCI functions does a host have, and what does the kernel say of each?

`facts` calls `read_devices`. Does I/O: each attribute is read once, and only where the kernel offers it.
Source: Linux, Documentation/ABI/testing/sysfs-bus-pci, sysfs-kernel-iommu_groups and sysfs-bus-vfio-mdev.
"""

import time

from ansible_collections.openstack.cyborg.plugins.module_utils.topology import PCI_DEVICES
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import (
    Unreadable,
    clean,
    is_unknown,
    parsed,
    unknown,
)

#: Reading VPD goes word by word through a register of the device, which on some cards takes milliseconds each: so it
#: is read of accelerator-like functions only (network, display, processors, encryption, processing; NVMe), at most
#: 2 KiB of each, and no further function is begun after 5 s. The kernel gives up on one that is silent for 125 ms.
VPD_CLASSES = ("02", "03", "0b", "10", "12", "0108")
VPD_LIMIT_BYTES = 2048
VPD_TIME_S = 5
#: All ids in one read. Source: Linux, drivers/pci/pci-driver.c, `pci_uevent`.
MODALIAS = "pci:v0000....d0000....sv0000....sd0000....bc..sc..i.."
IDS = {
    "vendor_id": "vendor",
    "product_id": "device",
    "subsystem_vendor_id": "subsystem_vendor",
    "subsystem_id": "subsystem_device",
}


def parse_hex(text):
    """Return ``"1521"`` of ``"0x1521"``. Raises: ValueError."""
    int(text, 16)
    return text.lower()[2:] if text.lower().startswith("0x") else text.lower()


def parse_override(text):
    """Return the driver_override, None for the kernel's ``(null)``."""
    return None if text in ("", "(null)") else clean(text)


def parse_node(text):
    """Return the NUMA node, None for -1: the firmware did not say."""
    return int(text) if int(text) >= 0 else None


def parse_link(text):
    """Return a link's speed. Raises: ValueError when the kernel does not know it."""
    if text.startswith("Unknown"):
        raise ValueError(text)
    return clean(text)


#: Fact → attribute and how to read it. What is not offered for a function is None.
ATTRIBUTES = (
    ("modalias", "modalias", clean),
    ("revision", "revision", lambda text: parse_hex(text).zfill(2)),
    ("driver_override", "driver_override", parse_override),
    ("numa_node", "numa_node", parse_node),
    ("total_vfs", "sriov_totalvfs", int),
    ("num_vfs", "sriov_numvfs", int),
    ("vf_autoprobe", "sriov_drivers_autoprobe", lambda text: bool(int(text))),
)
#: Not read of a VF: its link is the PF's, and its own registers say nothing.
LINK_ATTRIBUTES = (
    ("link_speed", "current_link_speed", parse_link),
    ("link_width", "current_link_width", int),
    ("link_speed_max", "max_link_speed", parse_link),
    ("link_width_max", "max_link_width", int),
)

EVERY_ATTRIBUTE = ATTRIBUTES + LINK_ATTRIBUTES
#: What a function is, and what it cannot be touched without: it counts as protected where one of these is unknown.
WEIGHTY = ("vendor_id", "product_id", "class_id", "iommu_group", "physfn")
#: All that is unknown of a function that cannot be looked into.
EVERY_FACT = (
    *(fact for fact, _attribute, _parse in EVERY_ATTRIBUTE),
    *(*IDS, "class_id", "driver", "iommu_group", "physfn", "mdev_types", "nvme_names"),
    *("function_driver", "function_modalias"),
)


def read_devices(tree, topology):
    """Return ``{address: facts}`` of every function, in the order of addresses. Raises: Unreadable.

    Boot state, modules, holders and protections are added by others; ``function_modalias`` is theirs to take away.
    """
    on_nets, on_blocks = topology.on(topology.nets), topology.on(topology.blocks)
    slots = _read_slots(tree)
    reading_until = time.monotonic() + VPD_TIME_S
    devices = {}
    for address in topology.functions:
        device, names = _read_function(tree, address)
        if device is None:
            continue  # it went away since it was listed: a VF, or a card that was unplugged
        device["net_names"] = list(map(clean, on_nets.get(address, [])))
        device["block_names"] = on_blocks.get(address, [])
        device["slot"] = slots if is_unknown(slots) else slots.get(address[:-2])
        device["macs"] = _read_macs(tree, on_nets.get(address, []))
        devices[address] = device
        _read_identity(tree, device, reading_until if "vpd" in names else None)
    _relate(devices)
    return devices


def read_function(tree, address):
    """Return what the function's own attributes say, None where there is no such function."""
    return _read_function(tree, address)[0]


def _read_function(tree, address):
    """Return the facts, and the names of the attributes; None for a function that is not there, or not any more."""
    base = f"{PCI_DEVICES}/{address}"
    try:
        device, names = _look_into(tree, base)
    except Unreadable as exc:
        device, names = dict.fromkeys(EVERY_FACT, unknown(exc.reason)), frozenset()
        device["vfs"] = []
    if device is None or (any(map(is_unknown, device.values())) and tree.is_absent(base)):
        return None, names
    missing = [device[fact]["unknown"] for fact in WEIGHTY if is_unknown(device[fact])]
    device["protected"] = [{"reason": "unknown", "via": why} for why in missing[:1]]
    device["address"] = address
    return device, names


def _look_into(tree, base):
    folder = tree.open_folder(base)
    if folder is None:
        return None, frozenset()
    with folder:
        names = folder.names
        if "modalias" not in names and not tree.exists(base):
            return None, names
        physfn = tree.link_fact(f"{base}/physfn") if "physfn" in names else None
        wanted = ATTRIBUTES if physfn else EVERY_ATTRIBUTE
        texts = folder.read_attributes([attribute for _fact, attribute, _parse in wanted if attribute in names])
    device = {
        fact: _fact(f"{base}/{attribute}", texts.get(attribute), parse) for fact, attribute, parse in EVERY_ATTRIBUTE
    }
    virtfns = sorted(int(name[6:]) for name in names if name.startswith("virtfn") and name[6:].isdigit())
    device.update(
        driver=tree.link_fact(f"{base}/driver") if "driver" in names else None,
        iommu_group=tree.link_fact(f"{base}/iommu_group", int) if "iommu_group" in names else None,
        physfn=physfn,
        vfs=[tree.link_name(f"{base}/virtfn{index}") or "" for index in virtfns],
        mdev_types=_read_mdev_types(tree, base) if "mdev_supported_types" in names else [],
        nvme_names=_list(tree, f"{base}/nvme") if "nvme" in names else [],
        **_read_virtio(tree, base, names),
    )
    device.update(_ids(tree, base, device["modalias"]))
    return device, names


def _list(tree, name):
    try:
        return tree.listdir(name) or []
    except Unreadable as exc:
        return unknown(exc.reason)


def _fact(name, text, parse):
    return unknown(text.reason) if isinstance(text, Unreadable) else parsed(name, text, parse)


def _ids(tree, base, modalias):
    """Return the ids: of the modalias, which holds them all in one read, else of their own attributes."""
    if isinstance(modalias, str) and len(modalias) == len(MODALIAS) and modalias.startswith("pci:v"):
        said = modalias.lower()
        ids = dict(zip(IDS, (said[9:13], said[18:22], said[28:32], said[38:42])))
        return dict(ids, class_id=said[44:46] + said[48:50] + said[51:53])
    ids = {fact: tree.fact(f"{base}/{attribute}", parse_hex) for fact, attribute in IDS.items()}
    ids["class_id"] = tree.fact(f"{base}/class", parse_hex)
    nothing = {fact: unknown(f"{base}: no {fact}") for fact in WEIGHTY if fact in ids and ids[fact] is None}
    return dict(ids, **nothing)


def _read_virtio(tree, base, names):
    """Return what hangs on the virtio bus behind a virtio-pci function: there is the driver that does the work."""
    children = [name for name in names if name.startswith("virtio")]
    if not children:
        return {"function_driver": None, "function_modalias": None}
    child = f"{base}/{children[0]}"
    return {"function_driver": tree.link_fact(f"{child}/driver"), "function_modalias": tree.fact(f"{child}/modalias")}


def _read_mdev_types(tree, base):
    folder = f"{base}/mdev_supported_types"
    names = _list(tree, folder)
    if is_unknown(names):
        return names
    return [
        {
            "type_id": clean(name),
            "name": tree.fact(f"{folder}/{name}/name"),
            "available": tree.fact(f"{folder}/{name}/available_instances", int),
        }
        for name in names
    ]


def _read_slots(tree):
    """Return ``{"0000:3b:00": "4"}``, the names of the slots on the board."""
    slots, names = {}, _list(tree, "/sys/bus/pci/slots")
    if is_unknown(names):
        return names
    for name in names:
        address = tree.fact(f"/sys/bus/pci/slots/{name}/address")
        if isinstance(address, str):
            slots.setdefault(address, clean(name))
    return slots


def _read_macs(tree, names):
    macs = []
    for name in names:
        # A port of a bond has the bond's address; its own is the identity.
        mac = tree.fact(f"/sys/class/net/{name}/bonding_slave/perm_hwaddr")
        mac = mac or tree.fact(f"/sys/class/net/{name}/address")
        if is_unknown(mac):
            return mac
        if mac not in (None, "", "00:00:00:00:00:00"):
            macs.append(mac)
    return macs


def _read_identity(tree, device, reading_until):
    """Add serial and part number: of the NVMe controller, else of the Vital Product Data where they are worth it."""
    nvme, class_id = device["nvme_names"], device["class_id"]
    device["serial"] = device["part_number"] = nvme if is_unknown(nvme) else None
    if isinstance(device["physfn"], str) or is_unknown(nvme):
        return  # what a VF has of its own is its PF's
    if nvme:
        device["serial"] = tree.fact(f"/sys/class/nvme/{nvme[0]}/serial", lambda text: clean(text.strip()))
    if not reading_until:
        return
    name = f"{PCI_DEVICES}/{device['address']}/vpd"
    if device["serial"] is not None or not str(class_id).startswith(VPD_CLASSES):
        device["part_number"] = unknown(f"{name}: not read: that is slow, and seldom worth it of such a function")
        device["serial"] = device["serial"] or device["part_number"]
        return
    try:
        found = _read_vpd(tree, name, reading_until)
        device["serial"], device["part_number"] = found.get("SN"), found.get("PN")
    except (Unreadable, ValueError) as exc:
        device["serial"] = device["part_number"] = unknown(f"{exc}")


def _read_vpd(tree, name, reading_until):
    if time.monotonic() > reading_until:
        raise Unreadable(f"{name}: not read, since the VPD of others took {VPD_TIME_S} s already")
    from ansible_collections.openstack.cyborg.plugins.module_utils.vpd import parse_vpd

    return parse_vpd(tree.read_bytes(name, VPD_LIMIT_BYTES) or b"")


def _relate(devices):
    """Fill in what one function's facts say of others: the members of its IOMMU group, its index among the PF's VFs."""
    groups = {}
    for address, device in devices.items():
        groups.setdefault(str(device["iommu_group"]), []).append(address)
        device["vf_index"] = None
    for device in devices.values():
        device["iommu_members"] = groups[str(device["iommu_group"])] if isinstance(device["iommu_group"], int) else []
        for index, address in enumerate(device["vfs"]):
            if address in devices:
                devices[address]["vf_index"] = index
