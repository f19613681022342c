# SPDX-License-Identifier: Apache-2.0
"""How are modules loaded, counted and unloaded? The kernel's process asks, for modprobe, for udev and at boot.

Does I/O on the tree. Source: Linux, kernel/module/main.c and Documentation/ABI/stable/sysfs-module; modprobe(8).
"""

import contextlib
import errno
import fnmatch
import os
from typing import Final

from cyborg_reconciler.simulation import storage
from cyborg_reconciler.simulation.drivers import Drivers, matches
from cyborg_reconciler.simulation.holding import nodes_of, open_files
from cyborg_reconciler.simulation.interfaces import MAKERS, VIRTIO
from cyborg_reconciler.simulation.machine import Module
from cyborg_reconciler.simulation.modprobe_config import ModprobeConfig, canonical
from cyborg_reconciler.simulation.module_file import srcversion
from cyborg_reconciler.simulation.pci import Pci, fail
from cyborg_reconciler.simulation.tree import READ_WRITE, Tree

SYS: Final = "/sys/module"
LIST: Final = "/proc/modules"
CORE_BYTES: Final = 65536
#: Commands of `install` lines that mean: never.
NEVER: Final = ("/bin/false", "/bin/true", "/usr/bin/false", "/usr/bin/true")


class Modules:
    """The loaded modules of one host."""

    def __init__(self, tree: Tree, drivers: Drivers, pci: Pci) -> None:
        self.tree, self.drivers, self.pci = tree, drivers, pci
        self._aliases: tuple[str, list[tuple[str, str]]] = ("", [])

    # ---------------------------------------------------------------------------------------------------------- reads
    def loaded(self) -> list[str]:
        """Return the loaded modules, the newest first."""
        return [line.split(" ", 1)[0] for line in self.tree.text(LIST).splitlines()]

    def is_loaded(self, name: str) -> bool:
        """Say whether the module is loaded."""
        return self.tree.exists(f"{SYS}/{name}/initstate")

    def users(self, name: str) -> list[str]:
        """Return the loaded modules that need *name*."""
        return self.tree.names(f"{SYS}/{name}/holders")

    def resolve(self, alias: str, config: ModprobeConfig) -> list[str]:
        """Return the modules that *alias* (a modalias, or a name) stands for."""
        if canonical(alias) in self.drivers.builtin or canonical(alias) in self.drivers.files():
            return [canonical(alias)]
        if alias in config.aliases:
            return [config.aliases[alias]]
        return [module for pattern, module in self.aliases() if fnmatch.fnmatchcase(alias, pattern)]

    def aliases(self) -> list[tuple[str, str]]:
        """Return the lines of modules.alias: pattern, module."""
        text = self.tree.text(f"/lib/modules/{self.drivers.release()}/modules.alias")
        if text != self._aliases[0]:
            lines = [line.split(" ") for line in text.splitlines() if line.startswith("alias ")]
            self._aliases = (text, [(line[1], line[2]) for line in lines])
        return self._aliases[1]

    # --------------------------------------------------------------------------------------------------------- loading
    def autoload(self, modalias: str, config: ModprobeConfig) -> None:
        """Load what *modalias* asks for, as udev does: blacklists count, failures are nobody's business."""
        for name in self.resolve(modalias, config):
            if name not in config.blacklist:
                self.load_quietly(name, config)

    def load_quietly(self, name: str, config: ModprobeConfig) -> None:
        """Load the module *name*; where that fails, nobody is told."""
        with contextlib.suppress(OSError):
            self.load(name, config)

    def load(self, name: str, config: ModprobeConfig, options: dict[str, str] | None = None) -> None:
        """Load the module *name* and what it needs.

        Raises: OSError: ENOENT where there is no such module, EKEYREJECTED where Secure Boot refuses it.
        """
        if name in self.drivers.builtin or self.is_loaded(name):
            return
        module = self.drivers.code(name)
        if module is None:
            raise fail(errno.ENOENT)
        if config.install.get(name, "").startswith(NEVER):
            raise fail(errno.EPERM)
        for needed in module.depends:
            self.load(canonical(needed), config)
        if self.locked() and module.signer is None:
            raise fail(errno.EKEYREJECTED)
        self._enter(module, config.options.get(name, {}) | (options or {}))
        self.start(module)

    def locked(self) -> bool:
        """Say whether the kernel loads signed modules only."""
        return "[integrity]" in self.tree.text("/sys/kernel/security/lockdown")

    def _enter(self, module: Module, options: dict[str, str]) -> None:
        folder = f"{SYS}/{module.name}"
        values = {"initstate": "live", "refcnt": "0", "coresize": str(CORE_BYTES), "srcversion": srcversion(module)}
        if module.version:
            values["version"] = module.version
        tainted = ("O" if not module.path.startswith("kernel/") else "") + ("" if module.signer else "E")
        self.tree.attributes(folder, values | {"taint": tainted})
        self.tree.folder(f"{folder}/holders")
        known = {name: options.get(name, value) for name, value in module.parameters.items()}
        if known:
            self.tree.attributes(f"{folder}/parameters", known, READ_WRITE)
        for needed in module.depends:
            self.tree.link(f"{SYS}/{canonical(needed)}/holders/{module.name}", folder)
        line = f"{module.name} {CORE_BYTES} 0 - Live 0x0000000000000000\n"
        self.tree.replace(LIST, f"{line}{self.tree.text(LIST)}\n".replace("\n\n", "\n"))

    def start(self, module: Module) -> None:
        """Register the module's driver, and offer it the devices that nobody drives."""
        if module.driver is None:
            return
        self.drivers.register(module)
        if module.bus == "virtio":
            self._attach_virtio(module)
            return
        for ids in self.tree.text(f"{SYS}/{module.name}/parameters/ids").split(","):
            if module.driver == "vfio-pci" and ":" in ids:
                self.drivers.add_id(module.driver, " ".join(ids.lower().split(":")[:2]))
        self.pci.attach_driver(module)

    def _attach_virtio(self, module: Module) -> None:
        for name in self.tree.names(f"{VIRTIO}/devices"):
            with contextlib.suppress(OSError):
                self.bind_virtio(module.driver or "", name)

    def attach_virtio(self, name: str) -> None:
        """Offer a device of the virtio bus to the drivers that are there."""
        for driver, module in self.drivers.registered("virtio").items():
            if matches(module, self.tree.text(f"{VIRTIO}/devices/{name}/modalias")):
                with contextlib.suppress(OSError):
                    self.bind_virtio(driver, name)

    def bind_virtio(self, driver: str, name: str) -> None:
        """Bind a device of the virtio bus. Raises: OSError (ENODEV, EBUSY)."""
        module = self.drivers.registered("virtio").get(driver)
        folder = self.tree.resolve(f"{VIRTIO}/devices/{name}")
        if module is None or not matches(module, self.tree.text(f"{folder}/modalias")):
            raise fail(errno.ENODEV)
        if self.tree.exists(f"{folder}/driver"):
            raise fail(errno.EBUSY)
        self.tree.link(f"{folder}/driver", f"{VIRTIO}/drivers/{driver}")
        self.tree.link(f"{VIRTIO}/drivers/{driver}/{name}", folder)
        function = self.pci.function(os.path.basename(os.path.dirname(folder)))
        for word in module.makes:
            MAKERS[word][0](self.tree, self.pci.machine, function, folder)

    def unbind_virtio(self, driver: str, name: str) -> None:
        """Unbind a device of the virtio bus. Raises: OSError (ENODEV)."""
        module = self.drivers.registered("virtio").get(driver)
        folder = self.tree.resolve(f"{VIRTIO}/devices/{name}")
        if module is None or self.tree.target_name(f"{folder}/driver") != driver:
            raise fail(errno.ENODEV)
        function = self.pci.function(os.path.basename(os.path.dirname(folder)))
        for word in module.makes:
            MAKERS[word][1](self.tree, self.pci.machine, function, folder)
        self.tree.remove(f"{folder}/driver")
        self.tree.remove(f"{VIRTIO}/drivers/{driver}/{name}")

    # ------------------------------------------------------------------------------------------------------- unloading
    def unload(self, name: str) -> None:
        """Unload the module *name*.

        Raises: OSError: ENOENT where it is not loaded, EBUSY where it is built in, EWOULDBLOCK where it is in use.
        """
        if name in self.drivers.builtin:
            raise fail(errno.EBUSY, "is builtin")
        if not self.is_loaded(name):
            raise fail(errno.ENOENT)
        if self.refcounts().get(name):
            raise fail(errno.EWOULDBLOCK)
        module = self.drivers.code(name)
        if module and module.driver:
            self._stop(module)
        self._leave(name)

    def unload_unused(self, name: str) -> None:
        """Unload *name* and then what it needed and nobody else does. Raises: OSError, as `unload` does."""
        if not self.is_loaded(name):
            return
        module = self.drivers.code(name)
        self.unload(name)
        for needed in map(canonical, module.depends if module else ()):
            if self.is_loaded(needed) and not self.refcounts()[needed]:
                self.unload_unused(needed)

    def _stop(self, module: Module) -> None:
        folder = f"/sys/bus/{module.bus}/drivers/{module.driver}"
        for device in self.tree.names(folder):
            if not os.path.islink(self.tree.path(f"{folder}/{device}")) or device == "module":
                continue
            if module.bus == "pci":
                self.pci.release(device)
            else:
                self.unbind_virtio(module.driver or "", device)
        self.drivers.unregister(module)

    def _leave(self, name: str) -> None:
        for other in self.loaded():
            self.tree.remove(f"{SYS}/{other}/holders/{name}")
        self.tree.remove(f"{SYS}/{name}")
        lines = [line for line in self.tree.text(LIST).splitlines() if not line.startswith(f"{name} ")]
        self.tree.replace(LIST, "".join(f"{line}\n" for line in lines))

    # -------------------------------------------------------------------------------------------------------- counting
    def refcounts(self) -> dict[str, int]:
        """Return how often each loaded module is used: by other modules, open files and mounts."""
        counts = {name: len(self.users(name)) for name in self.loaded()}
        files = open_files(self.tree)
        for node in files:
            name = canonical(os.path.basename(node))
            if name in counts:
                counts[name] += len(files[node])
        for driver, module in self.drivers.registered("pci").items():
            if module.name in counts:
                counts[module.name] += sum(self._uses(address, files) for address in self._bound(driver))
        return counts

    def _bound(self, driver: str) -> list[str]:
        return [name for name in self.tree.names(f"/sys/bus/pci/drivers/{driver}") if ":" in name]

    def _uses(self, address: str, files: dict[str, list[int]]) -> int:
        disk = self.pci.function(address).disk
        mounts = len(storage.mounted(self.tree, disk)) if disk else 0
        return mounts + (sum(len(files.get(node, [])) for node in nodes_of(self.tree, address)) if files else 0)

    def settle(self) -> None:
        """Write the reference counts where the kernel shows them."""
        counts = self.refcounts()
        lines = []
        for name in self.loaded():
            users, count = self.users(name), counts[name]
            text = "".join(f"{user}," for user in users) or "-"
            taint = self.tree.text(f"{SYS}/{name}/taint")
            marks = f" ({taint})" if taint else ""
            lines.append(f"{name} {CORE_BYTES} {count} {text} Live 0x0000000000000000{marks}\n")
            if self.tree.text(f"{SYS}/{name}/refcnt") != str(count):
                self.tree.replace(f"{SYS}/{name}/refcnt", f"{count}\n")
        if "".join(lines) != f"{self.tree.text(LIST)}\n":
            self.tree.replace(LIST, "".join(lines))
