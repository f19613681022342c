# SPDX-License-Identifier: Apache-2.0
"""Which modules does a kernel have, what do they need, which devices do they drive? Written as depmod writes it.

Called by `disk` and by the depmod and dkms tools. Does I/O on the tree. Source: depmod(8), modules.dep(5).
"""

import os

from cyborg_reconciler.simulation.drivers import Drivers, module_name
from cyborg_reconciler.simulation.machine import Module
from cyborg_reconciler.simulation.modprobe_config import canonical
from cyborg_reconciler.simulation.tree import Tree


def find_files(tree: Tree, kernel: str) -> dict[str, str]:
    """Return the modules of *kernel*, name → path below its folder; ``updates/`` goes before the kernel's own."""
    base = tree.path(f"/lib/modules/{kernel}")
    found: dict[str, str] = {}
    for folder in ("kernel", "extra", "updates"):
        for place, _, names in sorted(os.walk(f"{base}/{folder}")):
            for name in sorted(names):
                if name.endswith(".ko"):
                    found[module_name(name)] = os.path.relpath(f"{place}/{name}", base)
    return found


def closure(module: Module, modules: dict[str, Module]) -> list[str]:
    """Return all that *module* needs, directly or not, the nearest first."""
    needed: list[str] = []
    waiting = [canonical(name) for name in module.depends]
    while waiting:
        name = waiting.pop(0)
        if name not in needed and name in modules:
            needed.append(name)
            waiting += [canonical(each) for each in modules[name].depends]
    return needed


def write_lists(tree: Tree, drivers: Drivers, kernel: str) -> None:
    """Write modules.dep and modules.alias of *kernel* from the modules that lie there."""
    base = f"/lib/modules/{kernel}"
    files = find_files(tree, kernel)
    modules = {name: module for name, path in files.items() if (module := drivers.read(f"{base}/{path}"))}
    needs = {name: " ".join(files[each] for each in closure(module, modules)) for name, module in modules.items()}
    tree.replace(f"{base}/modules.dep", "".join(f"{files[name]}: {needs[name]}".rstrip() + "\n" for name in modules))
    aliases = [f"alias {alias} {module.name}" for module in modules.values() for alias in module.aliases]
    tree.replace(f"{base}/modules.alias", "\n".join(["# Aliases extracted from modules themselves.", *aliases]) + "\n")
    tree.replace(f"{base}/modules.order", "".join(f"{path}\n" for path in files.values()))
