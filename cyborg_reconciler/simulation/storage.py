# SPDX-License-Identifier: Apache-2.0
"""What does the kernel show of disks and mounts? Called by `interfaces` when a driver binds, and at boot.

Does I/O on the tree. Source: Linux, Documentation/ABI/stable/sysfs-block and sysfs-class-nvme; proc(5), mountinfo.
"""

from typing import Final

from cyborg_reconciler.simulation.machine import Disk, Machine
from cyborg_reconciler.simulation.tree import Tree

SECTORS_A_GIB: Final = 2097152
#: Majors as Linux gives them out; a disk and up to 15 partitions share sixteen minors.
NVME_MAJOR, VIRTIO_MAJOR, MINORS_A_DISK = 259, 254, 16
#: Dynamic major of the character devices of NVMe controllers.
CONTROLLER_MAJOR: Final = 241


def number(disk: Disk, partition: int = 0) -> str:
    """Return ``major:minor`` of a disk (0) or of one of its partitions: of nvme3n1 and of vdd, the fourth sixteen."""
    digits = controller(disk).removeprefix("nvme")
    if digits.isdigit():
        return f"{NVME_MAJOR}:{int(digits) * MINORS_A_DISK + partition}"
    return f"{VIRTIO_MAJOR}:{(ord(disk.name[-1]) - ord('a')) * MINORS_A_DISK + partition}"


def partition_name(disk: Disk, partition: int) -> str:
    """Return the partition's name: ``nvme0n1p2``, ``vda2``."""
    return f"{disk.name}p{partition}" if disk.name[-1].isdigit() else f"{disk.name}{partition}"


def controller(disk: Disk) -> str:
    """Return the NVMe controller behind the namespace: ``nvme0`` of ``nvme0n1``."""
    return disk.name.rpartition("n")[0]


def add_nvme(tree: Tree, disk: Disk, serial: str, parent: str) -> None:
    """Write an NVMe controller with one namespace below the device folder *parent*."""
    name = controller(disk)
    folder = f"{parent}/nvme/{name}"
    values = {"model": f"{disk.model:<40}", "serial": f"{serial:<20}", "firmware_rev": "1.0     "}
    tree.attributes(folder, values | {"transport": "pcie", "state": "live", "address": parent.rpartition("/")[2]})
    tree.link(f"{folder}/device", parent)
    tree.link(f"{folder}/subsystem", "/sys/class/nvme")
    tree.link(f"/sys/class/nvme/{name}", folder)
    tree.attributes(folder, {"dev": f"{CONTROLLER_MAJOR}:{name.removeprefix('nvme')}"})
    tree.link(f"/sys/dev/char/{CONTROLLER_MAJOR}:{name.removeprefix('nvme')}", folder)
    add_disk(tree, disk, f"{folder}/{disk.name}")


def add_disk(tree: Tree, disk: Disk, folder: str) -> None:
    """Write a disk and its partitions in *folder*."""
    _add_block(tree, folder, disk.name, {"dev": number(disk), "size": str(disk.size_gib * SECTORS_A_GIB)})
    tree.attributes(folder, {"removable": "0", "uevent": f"DEVNAME={disk.name}\nDEVTYPE=disk"})
    tree.link(f"{folder}/device", folder.rpartition("/")[0])
    tree.link(f"/sys/block/{disk.name}", folder)
    for index, _ in enumerate(disk.mounts, start=1):
        name = partition_name(disk, index)
        values = {"dev": number(disk, index), "partition": str(index), "size": str(SECTORS_A_GIB)}
        _add_block(tree, f"{folder}/{name}", name, values | {"uevent": f"DEVNAME={name}\nDEVTYPE=partition"})


def _add_block(tree: Tree, folder: str, name: str, values: dict[str, str]) -> None:
    tree.attributes(folder, values | {"ro": "0"})
    tree.folder(f"{folder}/holders")
    tree.folder(f"{folder}/slaves")
    tree.link(f"{folder}/subsystem", "/sys/class/block")
    tree.link(f"/sys/class/block/{name}", folder)
    tree.link(f"/sys/dev/block/{values['dev']}", folder)


def remove_disk(tree: Tree, disk: Disk) -> None:
    """Take away the links to a disk and its partitions; their folders go with the device's."""
    names = [disk.name, *(partition_name(disk, index) for index, _ in enumerate(disk.mounts, start=1))]
    for partition, name in enumerate(names):
        tree.remove(f"/sys/class/block/{name}")
        tree.remove(f"/sys/block/{name}")
        tree.remove(f"/sys/dev/block/{number(disk, partition)}")


def remove_nvme(tree: Tree, disk: Disk, parent: str) -> None:
    """Take away what `add_nvme` wrote."""
    remove_disk(tree, disk)
    tree.remove(f"/sys/class/nvme/{controller(disk)}")
    tree.remove(f"/sys/dev/char/{CONTROLLER_MAJOR}:{controller(disk).removeprefix('nvme')}")
    tree.remove(f"{parent}/nvme")


def mount(tree: Tree, machine: Machine) -> None:
    """Write the mounts as they are after boot."""
    lines = ["22 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw"]
    lines.append("23 27 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:2 - sysfs sysfs rw")
    for disk in [each.disk for each in machine.functions if each.disk]:
        for index, point in enumerate(disk.mounts, start=1):
            if point.startswith("/"):
                device = f"/dev/{partition_name(disk, index)}"
                kind = "vfat" if point.endswith("efi") else "ext4"
                place = f"{number(disk, index)} / {point}"
                lines.append(f"{27 + len(lines)} 1 {place} rw,relatime shared:1 - {kind} {device} rw")
    tree.replace("/proc/1/mountinfo", "\n".join(lines) + "\n")
    tree.replace("/proc/1/mounts", "".join(f"{_short(line)}\n" for line in lines))
    tree.replace("/proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")


def _short(line: str) -> str:
    """Return a line of mountinfo in the words of /proc/mounts."""
    before, _, after = line.partition(" - ")
    kind, device, _ = after.split(" ")
    fields = before.split(" ")
    return f"{device} {fields[4]} {kind} {fields[5]} 0 0"


def mounted(tree: Tree, disk: Disk) -> list[str]:
    """Return where *disk* and its partitions are mounted, as /proc says it."""
    names = {f"/dev/{partition_name(disk, index)}" for index, _ in enumerate(disk.mounts, start=1)}
    entries = [line.split(" ") for line in tree.text("/proc/1/mounts").splitlines()]
    return [entry[1] for entry in entries if entry[0] in names]
