# SPDX-License-Identifier: Apache-2.0
"""What did an initramfs take along when it was built? Written by update-initramfs and dracut, read at boot.

A blacklist that came later is not in it, so a module that it loads early is loaded all the same: as on a host.
Does I/O on the tree.
"""

import json
from typing import Final

from cyborg_reconciler.simulation.modprobe_config import read_files
from cyborg_reconciler.simulation.tree import Tree

PATHS: Final = {"debian": "/boot/initrd.img-{}", "redhat": "/boot/initramfs-{}.img"}


def write_initramfs(tree: Tree, family: str, kernel: str, modules: tuple[str, ...]) -> str:
    """Build the initramfs of *kernel* and return its path."""
    path = PATHS[family].format(kernel)
    tree.replace(path, json.dumps({"modules": modules, "modprobe.d": read_files(tree)}))
    return path


def read_initramfs(tree: Tree, family: str, kernel: str) -> tuple[list[str], dict[str, str]]:
    """Return the modules that the initramfs of *kernel* loads, and its copy of modprobe's configuration."""
    text = tree.text(PATHS[family].format(kernel))
    content = json.loads(text) if text else {"modules": [], "modprobe.d": {}}
    return content["modules"], content["modprobe.d"]
