# SPDX-License-Identifier: Apache-2.0
"""What lies on a host's disk when it has been installed? `write_tree` calls it once; a reboot leaves all of it alone.

Does I/O on the tree.
"""

import shlex
import sys
import uuid
from pathlib import Path
from typing import Final

from cyborg_reconciler.simulation import depmod, grub
from cyborg_reconciler.simulation.drivers import Drivers
from cyborg_reconciler.simulation.initramfs import write_initramfs
from cyborg_reconciler.simulation.machine import Machine, encode, encode_module_json
from cyborg_reconciler.simulation.module_file import encode_module
from cyborg_reconciler.simulation.tree import EXECUTABLE, OWN_FOLDER, READ_ONLY, Tree

FOLDERS: Final = (
    "/boot/grub",
    "/dev",
    "/etc/default/grub.d",
    "/etc/modprobe.d",
    "/etc/modules-load.d",
    "/etc/systemd/system",
    "/etc/udev/rules.d",
    "/proc",
    "/run/lock",
    "/tmp",  # noqa: S108 -- the simulated host's own
    "/usr/bin",
    "/usr/lib/modprobe.d",
    "/usr/lib/udev/rules.d",
    "/usr/sbin",
    "/usr/src",
    "/var/lib/dkms",
    "/var/lib/dpkg/info",
    OWN_FOLDER,
)
MERGED: Final = {"/bin": "/usr/bin", "/lib": "/usr/lib", "/sbin": "/usr/sbin"}

COMMON_TOOLS: Final = (
    *("modprobe", "rmmod", "insmod", "lsmod", "modinfo", "depmod"),
    *("systemctl", "udevadm", "dkms", "reboot", "uname", "hostname", "mokutil"),
)
FAMILY_TOOLS: Final = {
    "debian": ("update-grub", "update-initramfs", "lsinitramfs"),
    "redhat": ("grubby", "kernel-install", "dracut", "lsinitrd", "rpm"),
}
#: Each tool is this: a shell that starts Python without its site packages, which takes the words to the kernel.
TOOL: Final = """#!/bin/sh
exec {python} -IS {client} {name} "$@"
"""
OS_RELEASE: Final = {
    "debian": """PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
""",
    "redhat": """NAME="Rocky Linux"
VERSION="9.4 (Blue Onyx)"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.4"
PLATFORM_ID="platform:el9"
PRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"
""",
}
PACKAGE_VERSION: Final = "6.1.119-1"
GRUB_SETTINGS: Final = """# Run 'update-grub' after a change of this file.

GRUB_DEFAULT=0
GRUB_TIMEOUT=5
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="{args}"
"""


def machine_id(machine: Machine) -> str:
    """Return the machine id: the same for the same name, so that facts of two runs can be compared."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"{machine.name}.machine-id.invalid").hex


def system_uuid(machine: Machine) -> str:
    """Return what the firmware calls the system's UUID."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{machine.name}.system-uuid.invalid"))


def install(tree: Tree, machine: Machine) -> None:
    """Write the disk of *machine*: distribution, kernels, boot loader, tools."""
    for folder in FOLDERS:
        tree.folder(folder)
    for link, folder in MERGED.items():
        tree.link(link, folder)
    tree.write(f"{OWN_FOLDER}/machine.json", encode(machine))
    write_etc(tree, machine)
    write_tools(tree, machine)
    drivers = Drivers(tree, machine)
    for kernel in machine.kernels:
        write_kernel(tree, machine, kernel)
        depmod.write_lists(tree, drivers, kernel)
    if machine.family == "debian":
        write_packages(tree, machine)
    for path, text in machine.files.items():
        tree.write(path, text)
    for kernel in machine.kernels:
        write_initramfs(tree, machine.family, kernel, machine.early_modules)
    write_boot_loader(tree, machine)


def write_etc(tree: Tree, machine: Machine) -> None:
    """Write who the host is, and what its distribution is called."""
    tree.write("/etc/hostname", f"{machine.name}\n")
    tree.write("/etc/machine-id", f"{machine_id(machine)}\n", READ_ONLY)
    tree.write("/usr/lib/os-release", OS_RELEASE[machine.family])
    tree.link("/etc/os-release", "/usr/lib/os-release")
    tree.write("/etc/modules-load.d/modules.conf", "# Modules to load at boot, one name a line.\n")
    if machine.family == "debian":
        tree.write("/etc/debian_version", "12.8\n")
    else:
        tree.write("/etc/redhat-release", "Rocky Linux release 9.4 (Blue Onyx)\n")


def write_tools(tree: Tree, machine: Machine) -> None:
    """Write the programs: each takes its words to the kernel's process, which answers for it."""
    client = "/usr/lib/simulation/client.py"
    source = Path(__file__).with_name("client.py")
    tree.write(client, source.read_text(encoding="utf-8"))
    for name in (*COMMON_TOOLS, *FAMILY_TOOLS[machine.family]):
        text = TOOL.format(python=shlex.quote(sys.executable), client=shlex.quote(tree.path(client)), name=name)
        tree.write(f"/usr/sbin/{name}", text, EXECUTABLE)


def write_kernel(tree: Tree, machine: Machine, kernel: str) -> None:
    """Write a kernel's image, modules and headers."""
    base = f"/lib/modules/{kernel}"
    for module in machine.modules:
        tree.write(f"{base}/{module.path}", encode_module(module, kernel))
    tree.write(f"{base}/modules.builtin", "".join(f"{module.path}\n" for module in machine.builtin))
    aliases = [f"{module.name}.alias={alias}" for module in machine.builtin for alias in module.aliases]
    tree.write(f"{base}/modules.builtin.modinfo", "".join(f"{line}\0" for line in aliases))
    tree.write(f"/boot/vmlinuz-{kernel}", "\n".join(encode_module_json(module) for module in machine.builtin) + "\n")
    tree.write(f"/boot/config-{kernel}", "CONFIG_MODULES=y\nCONFIG_PCI_IOV=y\nCONFIG_VFIO_PCI=m\n")
    headers = f"/usr/src/linux-headers-{kernel}"
    tree.write(f"{headers}/Makefile", f"# Headers of {kernel}.\n")
    tree.link(f"/usr/lib/modules/{kernel}/build", headers)


def write_packages(tree: Tree, machine: Machine) -> None:
    """Write what dpkg keeps of the kernels' packages. Source: dpkg(1); deb-control(5)."""
    stanzas = []
    for kernel in machine.kernels:
        package = f"linux-image-{kernel}"
        stanzas.append(f"Package: {package}\nStatus: install ok installed\nVersion: {PACKAGE_VERSION}\n")
        files = [f"/boot/vmlinuz-{kernel}", *(f"/lib/modules/{kernel}/{module.path}" for module in machine.modules)]
        tree.write(f"/var/lib/dpkg/info/{package}.list", "\n".join(["/.", *files]) + "\n")
    tree.write("/var/lib/dpkg/status", "\n".join(stanzas))


def write_boot_loader(tree: Tree, machine: Machine) -> None:
    """Write GRUB's settings, and what they mean for the next boot."""
    if machine.family == "debian":
        tree.write(grub.SETTINGS, GRUB_SETTINGS.format(args=machine.grub_args))
        grub.write_menu(tree)
        return
    tree.write(grub.SETTINGS, f'GRUB_TIMEOUT=5\nGRUB_ENABLE_BLSCFG=true\nGRUB_CMDLINE_LINUX="{machine.grub_args}"\n')
    tree.write(grub.ENTRIES_MENU, grub.ENTRIES_MENU_TEXT)
    identity = machine_id(machine)
    options = f"{grub.ROOT_ARGUMENT} ro {machine.grub_args}".rstrip()
    tree.write(grub.NEW_KERNELS, f"{options}\n")
    for kernel in machine.kernels:
        grub.write_entry(tree, identity, kernel, options)
    tree.write(grub.ENVIRONMENT, f"# GRUB Environment Block\nsaved_entry={identity}-{machine.kernels[0]}\n")
