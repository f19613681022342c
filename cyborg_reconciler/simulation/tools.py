# SPDX-License-Identifier: Apache-2.0
"""What does a program of the host do, print and return? Asked by the kernel's process for every tool that is called.

Each tool is one function of the kernel and its words; `TOOLS` lists them. Does I/O on the tree.
"""

from collections.abc import Callable
from typing import Final

from cyborg_reconciler.simulation import boot_tools, dkms, module_tools, service_tools
from cyborg_reconciler.simulation.kernel import Kernel
from cyborg_reconciler.simulation.result import Result

Tool = Callable[[Kernel, list[str]], Result]

#: These hold the kernel's lock while they work.
BRIEF: Final[dict[str, Tool]] = {
    "modprobe": module_tools.modprobe,
    "insmod": module_tools.insmod,
    "rmmod": module_tools.rmmod,
    "lsmod": module_tools.lsmod,
    "modinfo": module_tools.modinfo,
    "depmod": module_tools.depmod,
    "rpm": module_tools.rpm,
    "update-grub": boot_tools.update_grub,
    "grubby": boot_tools.grubby,
    "kernel-install": boot_tools.kernel_install,
    "update-initramfs": boot_tools.update_initramfs,
    "dracut": boot_tools.dracut,
    "lsinitramfs": boot_tools.list_initramfs,
    "lsinitrd": boot_tools.list_initramfs,
    "dkms": dkms.dkms,
    "uname": service_tools.uname,
    "hostname": service_tools.hostname,
    "mokutil": service_tools.mokutil,
}
#: These run programs of the host, which write to the kernel themselves.
LONG: Final[dict[str, Tool]] = {
    "systemctl": service_tools.systemctl,
    "udevadm": service_tools.udevadm,
    "reboot": boot_tools.reboot,
}


def run(kernel: Kernel, words: list[str]) -> Result:
    """Run the tool *words[0]* with the rest of *words*."""
    name, *rest = words
    if name in LONG:
        return LONG[name](kernel, rest)
    if name not in BRIEF:
        return Result(127, stderr=f"{name}: command not found\n")
    with kernel.lock:
        try:
            result = BRIEF[name](kernel, rest)
        finally:
            units = kernel.settle()
    kernel.start_units(units)
    return result
