# SPDX-License-Identifier: Apache-2.0
"""What appears when a driver binds to a function, and goes when it lets go? Called by `pci`.

A driver's module says what it makes (`Module.makes`); each such word is one entry of `MAKERS`. Does I/O on the tree.
"""

import itertools
import os
from collections.abc import Callable
from typing import Final

from cyborg_reconciler.simulation import network, storage
from cyborg_reconciler.simulation.holding import VFIO_DRIVERS
from cyborg_reconciler.simulation.machine import Function, Machine
from cyborg_reconciler.simulation.tree import READ_WRITE, Tree

VIRTIO: Final = "/sys/bus/virtio"
#: Red Hat's vendor id; virtio 1.0 device ids of PCI are 0x1040 plus the type. Source: virtio 1.2, section 4.1.2.
VIRTIO_VENDOR: Final = "00001AF4"
#: Source: Linux, Documentation/admin-guide/devices.txt; vfio's major is a dynamic one.
DRM_MAJOR, RENDER_MINOR, VFIO_MAJOR = 226, 128, 243

Maker = Callable[[Tree, Machine, Function, str], None]


def make_net(tree: Tree, _machine: Machine, function: Function, folder: str) -> None:
    """Make the net devices."""
    for port in function.ports:
        network.add_port(tree, port, folder)


def unmake_net(tree: Tree, _machine: Machine, function: Function, folder: str) -> None:
    """Take the net devices away; the routes through them go when the kernel settles."""
    if function.ports:
        network.remove_ports(tree, folder)


def make_nvme(tree: Tree, _machine: Machine, function: Function, folder: str) -> None:
    """Make the NVMe controller and its namespace."""
    if function.disk:
        storage.add_nvme(tree, function.disk, function.serial or "SIMULATED", folder)


def unmake_nvme(tree: Tree, _machine: Machine, function: Function, folder: str) -> None:
    """Take them away."""
    if function.disk:
        storage.remove_nvme(tree, function.disk, folder)


def make_block(tree: Tree, _machine: Machine, function: Function, folder: str) -> None:
    """Make the disk of a virtio device."""
    if function.disk:
        storage.add_disk(tree, function.disk, f"{folder}/block/{function.disk.name}")


def unmake_block(tree: Tree, _machine: Machine, function: Function, folder: str) -> None:
    """Take it away."""
    if function.disk:
        storage.remove_disk(tree, function.disk)
        tree.remove(f"{folder}/block")


def make_drm(tree: Tree, _machine: Machine, _function: Function, folder: str) -> None:
    """Make a graphics card and its render node."""
    index = len([name for name in tree.names("/sys/class/drm") if name.startswith("card")])
    for name, minor in ((f"card{index}", index), (f"renderD{RENDER_MINOR + index}", RENDER_MINOR + index)):
        place = f"{folder}/drm/{name}"
        tree.attributes(place, {"uevent": f"DEVNAME=dri/{name}", "dev": f"{DRM_MAJOR}:{minor}"})
        tree.link(f"{place}/device", folder)
        tree.link(f"/sys/class/drm/{name}", place)
        tree.link(f"/sys/dev/char/{DRM_MAJOR}:{minor}", place)
        tree.write(f"/dev/dri/{name}", "")


def unmake_drm(tree: Tree, _machine: Machine, _function: Function, folder: str) -> None:
    """Take them away."""
    for name in tree.names(f"{folder}/drm"):
        tree.remove(f"/sys/dev/char/{tree.text(f'{folder}/drm/{name}/dev')}")
        tree.remove(f"/sys/class/drm/{name}")
        tree.remove(f"/dev/dri/{name}")
    tree.remove(f"{folder}/drm")


def make_nvidia(tree: Tree, _machine: Machine, function: Function, _folder: str) -> None:
    """Make the nodes that the vendor's tools open, and say whose they are; the nodes stay when the driver lets go."""
    information = f"Model: \t\t {function.name}\nBus Location: \t {function.address}\nDevice Minor: \t 0\n"
    tree.write(f"/proc/driver/nvidia/gpus/{function.address}/information", information)
    for name in ("nvidia0", "nvidiactl"):
        if not tree.exists(f"/dev/{name}"):
            tree.write(f"/dev/{name}", "")


def unmake_nvidia(tree: Tree, _machine: Machine, function: Function, _folder: str) -> None:
    """Take away what says whose the nodes are."""
    tree.remove(f"/proc/driver/nvidia/gpus/{function.address}")


def make_mdev(tree: Tree, _machine: Machine, function: Function, folder: str) -> None:
    """Make the list of mediated device types. Source: Documentation/ABI/testing/sysfs-bus-vfio-mdev."""
    for each in function.mdev_types:
        values = {"name": each.name, "available_instances": str(each.available), "device_api": "vfio-pci"}
        tree.attributes(f"{folder}/mdev_supported_types/{each.type_id}", values)
        tree.folder(f"{folder}/mdev_supported_types/{each.type_id}/devices")
    if function.mdev_types:
        tree.link(f"/sys/class/mdev_bus/{function.address}", folder)


def unmake_mdev(tree: Tree, _machine: Machine, function: Function, folder: str) -> None:
    """Take it away."""
    tree.remove(f"{folder}/mdev_supported_types")
    tree.remove(f"/sys/class/mdev_bus/{function.address}")


def make_vfio(tree: Tree, _machine: Machine, _function: Function, folder: str) -> None:
    """Make the node of the IOMMU group, through which a user program holds the device."""
    group = tree.target_name(f"{folder}/iommu_group")
    tree.write("/dev/vfio/vfio", "")
    tree.write(f"/dev/vfio/{group}", "")
    place = f"/sys/devices/virtual/vfio/{group}"
    tree.attributes(place, {"dev": f"{VFIO_MAJOR}:{group}", "uevent": f"DEVNAME=vfio/{group}"})
    tree.link(f"/sys/class/vfio/{group}", place)
    tree.link(f"/sys/dev/char/{VFIO_MAJOR}:{group}", place)


def unmake_vfio(tree: Tree, _machine: Machine, _function: Function, folder: str) -> None:
    """Take it away with the last member of the group that VFIO lets go."""
    group = tree.target_name(f"{folder}/iommu_group")
    others = set(tree.names(f"/sys/kernel/iommu_groups/{group}/devices")) - {os.path.basename(folder)}
    drivers = [tree.target_name(f"/sys/bus/pci/devices/{other}/driver") or "" for other in others]
    if not any(driver.endswith(VFIO_DRIVERS) for driver in drivers):
        links = (f"/sys/class/vfio/{group}", f"/sys/dev/char/{VFIO_MAJOR}:{group}")
        for name in (f"/dev/vfio/{group}", *links, f"/sys/devices/virtual/vfio/{group}"):
            tree.remove(name)


def make_qat(tree: Tree, _machine: Machine, _function: Function, folder: str) -> None:
    """Make the accelerator's own attributes. Source: Linux, Documentation/ABI/testing/sysfs-driver-qat."""
    tree.attributes(f"{folder}/qat", {"state": "up", "cfg_services": "sym;asym"}, READ_WRITE)
    tree.write("/dev/qat_adf_ctl", "")


def unmake_qat(tree: Tree, _machine: Machine, _function: Function, folder: str) -> None:
    """Take them away."""
    tree.remove(f"{folder}/qat")


def make_virtio(tree: Tree, _machine: Machine, function: Function, folder: str) -> None:
    """Make the device on the virtio bus; its own driver binds there."""
    if function.virtio is None:
        return
    taken = set(tree.names(f"{VIRTIO}/devices"))
    name = next(name for name in map("virtio{}".format, itertools.count()) if name not in taken)
    modalias = f"virtio:d{function.virtio:08X}v{VIRTIO_VENDOR}"
    values = {"device": f"0x{function.virtio:04x}", "vendor": "0x1af4", "status": "0x0000000f", "modalias": modalias}
    tree.attributes(f"{folder}/{name}", values | {"uevent": f"MODALIAS={modalias}"})
    tree.link(f"{folder}/{name}/subsystem", VIRTIO)
    tree.link(f"{VIRTIO}/devices/{name}", f"{folder}/{name}")


def unmake_virtio(tree: Tree, machine: Machine, function: Function, folder: str) -> None:
    """Take it away, its driver first."""
    for name in tree.names(folder):
        if name.startswith("virtio"):
            unmake_block(tree, machine, function, f"{folder}/{name}")
            unmake_net(tree, machine, function, f"{folder}/{name}")
            driver = tree.target_name(f"{folder}/{name}/driver")
            tree.remove(f"{VIRTIO}/drivers/{driver}/{name}")
            tree.remove(f"{VIRTIO}/devices/{name}")
            tree.remove(f"{folder}/{name}")


#: What a module makes → how it appears, and how it goes.
MAKERS: Final[dict[str, tuple[Maker, Maker]]] = {
    "net": (make_net, unmake_net),
    "nvme": (make_nvme, unmake_nvme),
    "block": (make_block, unmake_block),
    "drm": (make_drm, unmake_drm),
    "nvidia": (make_nvidia, unmake_nvidia),
    "mdev": (make_mdev, unmake_mdev),
    "vfio": (make_vfio, unmake_vfio),
    "qat": (make_qat, unmake_qat),
    "virtio": (make_virtio, unmake_virtio),
}
