# SPDX-License-Identifier: Apache-2.0
"""Which drivers are registered on a bus, what code is behind each, and which functions does each match?

Called by `pci` and `modules`. Does I/O on the tree: a driver's code is in its module's file.
"""

import fnmatch
import os
from typing import Final

from cyborg_reconciler.simulation.machine import KERNEL, Machine, Module
from cyborg_reconciler.simulation.module_file import decode_module_file
from cyborg_reconciler.simulation.tree import WRITE_ONLY, Tree

BUSES: Final = "/sys/bus"
OVERRIDE_ONLY: Final = "vfio_pci:"


class Drivers:
    """The code of modules, and the drivers that loaded modules have registered."""

    def __init__(self, tree: Tree, machine: Machine) -> None:
        self.tree = tree
        self.builtin = {module.name: module for module in machine.builtin}
        self._listing: tuple[str, str, dict[str, str]] = ("", "", {})
        self._files: dict[str, tuple[int, Module | None]] = {}

    def release(self) -> str:
        """Return the release of the kernel that runs."""
        return self.tree.text("/proc/sys/kernel/osrelease", KERNEL)

    def files(self) -> dict[str, str]:
        """Return where the modules of the kernel that runs lie, by name: what depmod last wrote."""
        folder = f"/lib/modules/{self.release()}"
        text = self.tree.text(f"{folder}/modules.dep")
        if (folder, text) != self._listing[:2]:
            paths = [line.partition(":")[0] for line in text.splitlines()]
            self._listing = (folder, text, {module_name(path): f"{folder}/{path}" for path in paths})
        return self._listing[2]

    def code(self, name: str) -> Module | None:
        """Return the module *name*, None where there is none for the kernel that runs."""
        if name in self.builtin:
            return self.builtin[name]
        path = self.files().get(name)
        return self.read(path) if path else None

    def read(self, path: str) -> Module | None:
        """Return the module in the file *path*, None where it is none; files are read once, until they change."""
        try:
            changed_ns = os.stat(self.tree.path(path)).st_mtime_ns
        except FileNotFoundError:
            return None
        known = self._files.get(path)
        if known is None or known[0] != changed_ns:
            with open(self.tree.path(path), "rb") as file:
                known = self._files[path] = (changed_ns, _decode(file.read()))
        return known[1]

    def registered(self, bus: str) -> dict[str, Module]:
        """Return the drivers of *bus* by name, each with its module."""
        folder = f"{BUSES}/{bus}/drivers"
        found = {}
        for driver in self.tree.names(folder):
            name = self.tree.target_name(f"{folder}/{driver}/module")
            module = self.code(name) if name else None
            if module:
                found[driver] = module
        return found

    def register(self, module: Module) -> None:
        """Make the driver's folder, through which it is told to bind and unbind."""
        if module.driver is None:
            return
        folder = f"{BUSES}/{module.bus}/drivers/{module.driver}"
        for name in ("bind", "unbind", "new_id", "remove_id", "uevent"):
            self.tree.write(f"{folder}/{name}", "", WRITE_ONLY)
        self.tree.link(f"{folder}/module", f"/sys/module/{module.name}")
        self.tree.link(f"/sys/module/{module.name}/drivers/{module.bus}:{module.driver}", folder)

    def unregister(self, module: Module) -> None:
        """Take the driver's folder away; it has let go of its devices before."""
        self.tree.remove(f"{BUSES}/{module.bus}/drivers/{module.driver}")
        self.forget_ids(module.driver or "")

    # ---------------------------------------------------------------------------------------------------- dynamic ids
    def dynamic_ids(self, driver: str) -> list[str]:
        """Return the ids that were added to *driver* by hand, each as ``8086 4941``."""
        return list((self.tree.state("new_ids") or {}).get(driver, []))

    def add_id(self, driver: str, ids: str) -> None:
        """Add ids to *driver*."""
        known = self.tree.state("new_ids") or {}
        self.tree.keep("new_ids", known | {driver: [*known.get(driver, []), ids]})

    def forget_ids(self, driver: str, ids: str | None = None) -> bool:
        """Forget *ids* of *driver*, or all; say whether there were any."""
        known = self.tree.state("new_ids") or {}
        before = known.get(driver, [])
        after = [each for each in before if ids is not None and each != ids]
        if before != after:
            self.tree.keep("new_ids", known | {driver: after})
        return bool(before != after)


def module_name(path: str) -> str:
    """Return the name of the module in the file *path*, as the kernel says it."""
    return os.path.basename(path).partition(".ko")[0].replace("-", "_")


def _decode(data: bytes) -> Module | None:
    try:
        return decode_module_file(data)
    except ValueError:
        return None


def matches(module: Module, modalias: str) -> bool:
    """Say whether the driver of *module* lists *modalias*."""
    return any(fnmatch.fnmatchcase(modalias, alias) for alias in module.aliases)
