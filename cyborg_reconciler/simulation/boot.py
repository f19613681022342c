# SPDX-License-Identifier: Apache-2.0
"""What happens between power-on and the first login? Called when a tree is written, and by the reboot tool.

What a running kernel shows is thrown away and made anew from the machine, the disk and the boot loader's choice.
Does I/O on the tree.
"""

import os
import uuid
from typing import TYPE_CHECKING, Final

from cyborg_reconciler.simulation import disk, functions, grub, network, storage
from cyborg_reconciler.simulation.holding import add_process
from cyborg_reconciler.simulation.initramfs import read_initramfs
from cyborg_reconciler.simulation.machine import Machine
from cyborg_reconciler.simulation.modprobe_config import (
    LOAD_FOLDERS,
    ModprobeConfig,
    parse_config,
    parse_load,
    read_files,
)
from cyborg_reconciler.simulation.tree import OWN_FOLDER, READ_WRITE, WRITE_ONLY, Tree

if TYPE_CHECKING:
    from cyborg_reconciler.simulation.kernel import Kernel

#: What does not outlive a boot.
VOLATILE: Final = ("/sys", "/proc", "/dev", "/tmp")  # noqa: S108 -- the simulated host's own
SOCKET: Final = "kernel.sock"
#: Written while a boot is under way: a process that finds it at its start boots again.
MARK: Final = f"{OWN_FOLDER}/booting"
IOMMU_ARGUMENTS: Final = ("intel_iommu=on", "amd_iommu=on")
#: The variable's name ends with the GUID of EFI's global variables; the first four bytes are its attributes.
SECURE_BOOT: Final = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
EFI_ATTRIBUTES: Final = b"\x06\0\0\0"


def boot(kernel: "Kernel") -> list[str]:
    """Boot the host: afterwards /sys and /proc show what the disk and the hardware make of it.

    Returns the units that udev wants for what it found; the caller runs them.
    """
    tree, machine = kernel.tree, kernel.machine
    tree.write(MARK, "")
    stop(tree)
    release, line = read_choice(tree, machine)
    write_proc(tree, machine, release, line)
    write_sys(tree, machine, line)
    for function in machine.functions:
        kernel.pci.add(function)
    start_builtin(kernel)
    early, files = read_initramfs(tree, machine.family, release)
    load_early(kernel, early, parse_config(files, line.split()))
    load_listed(kernel)
    storage.mount(tree, machine)
    units = kernel.settle()
    tree.remove(MARK)
    return units


def stop(tree: Tree) -> None:
    """Forget all that a running kernel and its programs keep."""
    for folder in VOLATILE:
        tree.remove(folder)
        tree.folder(folder)
    for name in tree.names("/run"):
        if name != SOCKET:
            tree.remove(f"/run/{name}")
    for folder in ("/run/lock", "/run/systemd/system", "/run/udev"):
        tree.folder(folder)
    tree.write("/run/udev/control", "")
    for key in ("new_ids", "units"):
        tree.remove(f"{OWN_FOLDER}/{key}.json")


def read_choice(tree: Tree, machine: Machine) -> tuple[str, str]:
    """Return the kernel that boots and its command line; with fixed arguments, those of the first boot."""
    release, line = grub.read_next_boot(tree)
    if machine.boot_args_fixed:
        first = tree.state("fixed_boot")
        if first is None:
            tree.keep("fixed_boot", [release, line])
        else:
            release, line = first
    return release, line


def write_proc(tree: Tree, machine: Machine, release: str, line: str) -> None:
    """Write /proc as it is before the first module."""
    add_process(tree, 1, "systemd")
    tree.link("/proc/self", "/proc/1")
    tree.link("/proc/net", "/proc/self/net")
    tree.link("/proc/mounts", "/proc/self/mounts")
    version = f"Linux version {release} (debian-kernel@lists.debian.org) (gcc-12) #1 SMP PREEMPT_DYNAMIC"
    values = {"cmdline": line, "version": version, "uptime": "42.00 80.00", "filesystems": "nodev\tsysfs\n\text4"}
    tree.attributes("/proc", values)
    tree.write("/proc/modules", "")
    kernel = {"osrelease": release, "ostype": "Linux", "hostname": machine.name, "arch": "x86_64", "tainted": "0"}
    tree.attributes("/proc/sys/kernel", kernel)
    tree.attributes("/proc/sys/kernel/random", {"boot_id": str(uuid.uuid4())})


def write_sys(tree: Tree, machine: Machine, line: str) -> None:
    """Write /sys as it is before the first device."""
    for folder in ("bus/pci/devices", "bus/pci/drivers", "bus/virtio/devices", "bus/virtio/drivers", "class/net"):
        tree.folder(f"/sys/{folder}")
    for folder in ("class/block", "block", "module", "kernel/iommu_groups", "dev/block", "firmware"):
        tree.folder(f"/sys/{folder}")
    for name in ("drivers_probe", "rescan"):
        tree.write(f"{functions.PCI}/{name}", "", WRITE_ONLY)
    tree.attributes(functions.PCI, {"drivers_autoprobe": "1"}, READ_WRITE)
    for slot, address in {each.slot: each.address.partition(".")[0] for each in machine.functions}.items():
        if slot:
            tree.attributes(f"{functions.PCI}/slots/{slot}", {"address": address})
    identity = {
        "product_uuid": disk.system_uuid(machine),
        "product_name": "Simulated",
        "sys_vendor": "Cyborg Reconciler",
    }
    tree.attributes("/sys/devices/virtual/dmi/id", identity)
    tree.link("/sys/class/dmi/id", "/sys/devices/virtual/dmi/id")
    lockdown = "none [integrity] confidentiality" if machine.secure_boot else "[none] integrity confidentiality"
    tree.attributes("/sys/kernel/security", {"lockdown": lockdown})
    if machine.secure_boot is not None:
        tree.write(SECURE_BOOT, EFI_ATTRIBUTES + bytes([machine.secure_boot]))
    asked = any(argument in line.split() for argument in IOMMU_ARGUMENTS)
    if machine.iommu == "on" or (machine.iommu == "argument" and asked):
        tree.attributes("/sys/devices/virtual/iommu/dmar0/intel-iommu", {"version": "1:0"})
        tree.link("/sys/class/iommu/dmar0", "/sys/devices/virtual/iommu/dmar0")
    network.add_loopback(tree)


def start_builtin(kernel: "Kernel") -> None:
    """Register the drivers of the kernel's image."""
    for module in kernel.machine.builtin:
        kernel.tree.folder(f"/sys/module/{module.name}")
        kernel.modules.start(module)


def load_early(kernel: "Kernel", names: list[str], config: ModprobeConfig) -> None:
    """Load what the initramfs loads: modules of its list whose devices are there, by its own configuration."""
    for name in names:
        modaliases = {each for address in kernel.pci.addresses() for each in kernel.modaliases(address)}
        asked = {module for modalias in modaliases for module in kernel.modules.resolve(modalias, config)}
        if name in asked and name not in config.blacklist:
            kernel.modules.load_quietly(name, config)


def load_listed(kernel: "Kernel") -> None:
    """Load what modules-load.d names; what the devices ask for comes when the kernel settles."""
    config = kernel.config()
    for name in parse_load(read_files(kernel.tree, LOAD_FOLDERS)):
        if name not in config.blacklist:
            kernel.modules.load_quietly(name, config)


def is_interrupted(tree: Tree) -> bool:
    """Say whether a boot was under way when the kernel's process ended."""
    return os.path.exists(tree.path(MARK))
