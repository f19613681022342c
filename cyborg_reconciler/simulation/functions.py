# SPDX-License-Identifier: Apache-2.0
"""What does the kernel show of a PCI function that no driver has touched? Written at boot, and when VFs appear.

Called by `pci`. Does I/O on the tree.

Source: Linux, Documentation/ABI/testing/sysfs-bus-pci, sysfs-kernel-iommu_groups; drivers/pci/pci-sysfs.c.
"""

import struct
from typing import Final

from cyborg_reconciler.simulation.machine import Function, Machine
from cyborg_reconciler.simulation.tree import READ_ONLY, READ_WRITE, WRITE_ONLY, Tree

PCI: Final = "/sys/bus/pci"
GROUPS: Final = "/sys/kernel/iommu_groups"
#: What `driver_override` shows when there is none.
NO_OVERRIDE: Final = "(null)"

#: Large resource items of the VPD and the tag that ends it. Source: PCI 3.0, appendix I.
VPD_NAME, VPD_READ_ONLY, VPD_END = 0x82, 0x90, 0x78
CONFIG_HEAD: Final = struct.Struct("<HHHHBBBBBBBB")
CONFIG_BYTES: Final = 256
SUBSYSTEM_OFFSET: Final = 0x2C
COMMAND_ENABLED: Final = 0x0006  # memory space, bus master


def device(address: str) -> str:
    """Return the link that stands for the function on its bus."""
    return f"{PCI}/devices/{address}"


def home(function: Function, machine: Machine) -> str:
    """Return the real folder of *function*: the root bus, the bridges above it, itself."""
    chain = [function.address]
    above = machine.function(function.under) if function.under else None
    while above is not None:
        chain.append(above.address)
        above = machine.function(above.under) if above.under else None
    domain, bus, _ = chain[-1].split(":")
    return "/".join([f"/sys/devices/pci{domain}:{bus}", *reversed(chain)])


def add_function(tree: Tree, function: Function, folder: str) -> None:
    """Write the folder of *function* and its link on the bus."""
    tree.attributes(folder, attributes(function))
    tree.attributes(folder, {"driver_override": NO_OVERRIDE, "numa_node": str(function.numa_node)}, READ_WRITE)
    for name in ("remove", "rescan", "reset"):
        tree.write(f"{folder}/{name}", "", WRITE_ONLY)
    tree.write(f"{folder}/config", config(function), READ_WRITE)
    tree.write(f"{folder}/resource0", "", READ_WRITE)
    tree.write(f"{folder}/uevent", uevent(function, None), READ_WRITE)
    tree.link(f"{folder}/subsystem", PCI)
    tree.link(device(function.address), folder)
    if function.serial or function.part_number:
        tree.write(f"{folder}/vpd", vpd(function), READ_ONLY)
    if function.sriov:
        add_sriov(tree, function, folder)


def attributes(function: Function) -> dict[str, str]:
    """Return the read-only attributes of *function*."""
    values = {
        "vendor": f"0x{function.vendor_id}",
        "device": f"0x{function.product_id}",
        "subsystem_vendor": f"0x{function.subsystem_vendor_id}",
        "subsystem_device": f"0x{function.subsystem_id}",
        "class": f"0x{function.class_id}",
        "revision": f"0x{function.revision}",
        "modalias": function.modalias,
        "irq": "16",
        "enable": "0",
    }
    for prefix, link in (("current", function.link), ("max", function.link_max)):
        if link is not None:
            speed = link[0] if link[0] == "Unknown" else f"{link[0]} GT/s PCIe"
            values |= {f"{prefix}_link_speed": speed, f"{prefix}_link_width": str(link[1])}
    return values


def add_sriov(tree: Tree, function: Function, folder: str) -> None:
    """Write the attributes of the SR-IOV capability."""
    sriov = function.sriov
    if sriov is None:
        return
    offsets = {"sriov_offset": str(sriov.offset), "sriov_stride": str(sriov.stride)}
    totals = {"sriov_totalvfs": str(sriov.total_vfs), "sriov_vf_device": sriov.vf_device_id}
    tree.attributes(folder, offsets | totals)
    tree.attributes(folder, {"sriov_numvfs": "0", "sriov_drivers_autoprobe": "1"}, READ_WRITE)


def uevent(function: Function, driver: str | None) -> str:
    """Return the text of `uevent`."""
    lines = [f"DRIVER={driver}"] if driver else []
    lines += [
        f"PCI_CLASS={int(function.class_id, 16):X}",
        f"PCI_ID={function.vendor_id.upper()}:{function.product_id.upper()}",
        f"PCI_SUBSYS_ID={function.subsystem_vendor_id.upper()}:{function.subsystem_id.upper()}",
        f"PCI_SLOT_NAME={function.address}",
        f"MODALIAS={function.modalias}",
    ]
    return "\n".join(lines) + "\n"


def config(function: Function) -> bytes:
    """Return the configuration space: its header, and nothing in the capabilities."""
    base, sub, interface = (int(function.class_id[i : i + 2], 16) for i in (0, 2, 4))
    vendor, product = int(function.vendor_id, 16), int(function.product_id, 16)
    kind = 1 if function.is_bridge else 0
    revision = int(function.revision, 16)
    head = CONFIG_HEAD.pack(vendor, product, COMMAND_ENABLED, 0, revision, interface, sub, base, 0, 0, kind, 0)
    data = bytearray(head.ljust(CONFIG_BYTES, b"\0"))
    if not function.is_bridge:
        subsystem = (int(function.subsystem_vendor_id, 16), int(function.subsystem_id, 16))
        struct.pack_into("<HH", data, SUBSYSTEM_OFFSET, *subsystem)
    return bytes(data)


def vpd(function: Function) -> bytes:
    """Return the vital product data: a name, part and serial number, and the checksum over all of it."""
    name = (function.name or "Simulated device").encode()
    data = struct.pack("<BH", VPD_NAME, len(name)) + name
    fields = b""
    for keyword, value in ((b"PN", function.part_number), (b"SN", function.serial)):
        if value:
            fields += keyword + bytes([len(value)]) + value.encode()
    data += struct.pack("<BH", VPD_READ_ONLY, len(fields) + 4) + fields + b"RV\x01"
    return data + bytes([-sum(data) & 0xFF, VPD_END])


# -------------------------------------------------------------------------------------------------------------- IOMMU
def add_to_group(tree: Tree, folder: str, number: int) -> None:
    """Put the function in *folder* into IOMMU group *number*; the group comes with its first member."""
    address = folder.rpartition("/")[2]
    group = f"{GROUPS}/{number}"
    if not tree.exists(group):
        tree.attributes(group, {"type": "DMA-FQ", "reserved_regions": "0x00000000fee00000 0x00000000feefffff msi"})
    tree.link(f"{group}/devices/{address}", folder)
    tree.link(f"{folder}/iommu_group", group)


def leave_group(tree: Tree, folder: str) -> None:
    """Take the function in *folder* out of its IOMMU group, which goes with its last member."""
    number = tree.target_name(f"{folder}/iommu_group")
    if number is None:
        return
    tree.remove(f"{GROUPS}/{number}/devices/{folder.rpartition('/')[2]}")
    tree.remove(f"{folder}/iommu_group")
    if not tree.names(f"{GROUPS}/{number}/devices"):
        tree.remove(f"{GROUPS}/{number}")


def group_number(tree: Tree, function: Function, machine: Machine) -> int:
    """Return the group of *function*: its author's choice, that of its slot's function 0, or the next free one."""
    if function.iommu_group is not None:
        return function.iommu_group
    if not function.isolated:
        first = f"{function.address.partition('.')[0]}.0"
        number = tree.target_name(f"{device(first)}/iommu_group")
        if number is not None:
            return int(number)
    taken = {int(name) for name in tree.names(GROUPS)}
    taken |= {each.iommu_group for each in machine.functions if each.iommu_group is not None}
    return next(number for number in range(len(taken) + 1) if number not in taken)


def remove_function(tree: Tree, folder: str) -> None:
    """Take away everything that `add_function` wrote."""
    leave_group(tree, folder)
    tree.remove(device(folder.rpartition("/")[2]))
    tree.remove(folder)
