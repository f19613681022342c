# SPDX-License-Identifier: Apache-2.0
"""Who has a device or a module open? Asked by the kernel before it lets go; a test makes a process that holds one.

A process is what it is on a host: ``/proc/<pid>`` with a `comm` and the links of its open files. Does I/O on the tree.
"""

import errno
import itertools
import re
from typing import Final

from cyborg_reconciler.simulation.functions import device
from cyborg_reconciler.simulation.tree import Tree

FIRST_PID: Final = 4711
#: What the names of VFIO's drivers end in. Source: Linux, drivers/vfio/pci.
VFIO_DRIVERS: Final = ("vfio-pci", "vfio_pci")
ADDRESS: Final = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")


def hold(tree: Tree, what: str, name: str) -> int:
    """Start a process called *name* that has the device or module *what* open, and return its pid.

    *what* is an address, or the name of a module, whose node in /dev is then open. Raises: OSError (ENXIO) where the
    function has no node that a program could open, as without a driver.
    """
    nodes = nodes_of(tree, what) if ADDRESS.fullmatch(what) else [f"/dev/{what}"]
    if not nodes:
        raise OSError(errno.ENXIO, f"{what} has no node that a program could open")
    pid = next(pid for pid in itertools.count(FIRST_PID) if not tree.exists(f"/proc/{pid}"))
    add_process(tree, pid, name)
    tree.folder(f"/proc/{pid}/fd")
    tree.link_text(f"/proc/{pid}/fd/0", "/dev/null")
    tree.link_text(f"/proc/{pid}/fd/23", nodes[0])
    return pid


def add_process(tree: Tree, pid: int, name: str) -> None:
    """Write what /proc says of a process."""
    folder = f"/proc/{pid}"
    tree.write(f"{folder}/comm", f"{name[:15]}\n")
    tree.write(f"{folder}/cmdline", f"/usr/bin/{name}\0")
    tree.write(f"{folder}/status", f"Name:\t{name[:15]}\nState:\tS (sleeping)\nPid:\t{pid}\nPPid:\t1\n")
    tree.write(f"{folder}/stat", f"{pid} ({name[:15]}) S 1 {pid} {pid} 0 -1\n")
    tree.folder(f"{folder}/fd")


def release(tree: Tree, pid: int) -> None:
    """End the process that `hold` started."""
    tree.remove(f"/proc/{pid}")


def nodes_of(tree: Tree, address: str) -> list[str]:
    """Return every file through which the function at *address* is used, the usual one first."""
    folder = tree.resolve(device(address))
    nodes = []
    if (tree.target_name(f"{folder}/driver") or "").endswith(VFIO_DRIVERS):
        nodes.append(f"/dev/vfio/{tree.target_name(f'{folder}/iommu_group')}")
    nodes += [f"/dev/dri/{name}" for name in reversed(tree.names(f"{folder}/drm"))]
    for name in tree.names(f"{folder}/nvme"):
        spaces = [each for each in tree.names(f"{folder}/nvme/{name}") if each.startswith(name)]
        nodes += [f"/dev/{each}" for each in [*spaces, name]]
    if tree.target_name(f"{folder}/driver") == "nvidia":
        nodes.append("/dev/nvidia0")
    return nodes


def open_files(tree: Tree) -> dict[str, list[int]]:
    """Return the files that processes have open, each with their pids."""
    found: dict[str, list[int]] = {}
    for name in tree.names("/proc"):
        if name.isdigit():
            for handle in tree.names(f"/proc/{name}/fd"):
                target = tree.link_target(f"/proc/{name}/fd/{handle}")
                if target:
                    found.setdefault(target, []).append(int(name))
    return found


def holders_of(tree: Tree, address: str) -> list[int]:
    """Return the pids of the processes that use the function at *address*."""
    files = open_files(tree)
    return sorted({pid for node in nodes_of(tree, address) for pid in files.get(node, [])})
