# SPDX-License-Identifier: Apache-2.0
"""What does the host's kernel answer to a write, and what does a tool do? The whole of a simulated host, in one object.

Made by the process behind ``/run/kernel.sock`` and by `write_tree`. Does I/O on the tree, which is all that it
remembers: another `Kernel` on the same tree goes on where this one stopped.
"""

import errno
import os
import re
import threading
from typing import TYPE_CHECKING, Final

from cyborg_reconciler.simulation import boot, holding, network, udev
from cyborg_reconciler.simulation.drivers import Drivers
from cyborg_reconciler.simulation.functions import PCI, device
from cyborg_reconciler.simulation.machine import decode
from cyborg_reconciler.simulation.modprobe_config import ModprobeConfig, parse_config, read_files
from cyborg_reconciler.simulation.modules import Modules
from cyborg_reconciler.simulation.pci import Pci, fail
from cyborg_reconciler.simulation.tree import OWN_FOLDER, READ_WRITE, Tree

if TYPE_CHECKING:
    from collections.abc import Callable

FUNCTION_ATTRIBUTE: Final = re.compile(r"/sys/devices/pci.*/(?P<address>[0-9a-f]{4,}:[0-9a-f:]+\.[0-7])/(?P<name>\w+)")
DRIVER_ATTRIBUTE: Final = re.compile(r"/sys/bus/pci/drivers/(?P<driver>[^/]+)/(?P<name>\w+)")
VIRTIO_ATTRIBUTE: Final = re.compile(r"/sys/bus/virtio/drivers/(?P<driver>[^/]+)/(?P<name>bind|unbind)")
ANY_WRITE: Final = 0o222


class Kernel:
    """The kernel of one host, with its udev.

    Attributes:
        lock: held for one write or one tool's work; not while a unit's program runs, which writes too.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.machine = decode(tree.text(f"{OWN_FOLDER}/machine.json"))
        self.drivers = Drivers(tree, self.machine)
        self.pci = Pci(tree, self.machine, self.drivers)
        self.modules = Modules(tree, self.drivers, self.pci)
        self.lock = threading.RLock()
        self._threads: list[threading.Thread] = []

    # ---------------------------------------------------------------------------------------------------------- writes
    def write(self, name: str, value: str) -> None:
        """Write *value* to the attribute *name*. Raises: OSError, as the kernel would."""
        with self.lock:
            place = self.tree.resolve(f"{os.path.dirname(name)}") + f"/{os.path.basename(name)}"
            if not os.path.isfile(self.tree.path(place)):
                raise fail(errno.EISDIR if self.tree.exists(place) else errno.ENOENT)
            if not os.stat(self.tree.path(place)).st_mode & ANY_WRITE:
                raise fail(errno.EACCES)
            try:
                self._dispatch(place, value)
            finally:
                units = self.settle()
        self.start_units(units)

    def _dispatch(self, place: str, value: str) -> None:
        if match := DRIVER_ATTRIBUTE.fullmatch(place):
            self._driver_attribute(match["driver"], match["name"], value)
        elif match := FUNCTION_ATTRIBUTE.fullmatch(place):
            self._function_attribute(match["address"], match["name"], value, place)
        elif match := VIRTIO_ATTRIBUTE.fullmatch(place):
            serve = self.modules.bind_virtio if match["name"] == "bind" else self.modules.unbind_virtio
            serve(match["driver"], value.strip())
        elif place == f"{PCI}/drivers_probe":
            self.pci.folder(value.strip())
            self.pci.attach(value.strip())
        elif place == f"{PCI}/rescan":
            self.pci.rescan()
        else:
            self._plain(place, value)

    def _driver_attribute(self, driver: str, name: str, value: str) -> None:
        serve: dict[str, Callable[[str, str], None]] = {
            "bind": self.pci.bind,
            "unbind": self.pci.unbind,
            "new_id": self.pci.new_id,
            "remove_id": self.pci.remove_id,
        }
        if name not in serve:
            raise fail(errno.EINVAL)
        serve[name](driver, value.strip())

    def _function_attribute(self, address: str, name: str, value: str, place: str) -> None:
        serve: dict[str, Callable[[str, str], None]] = {
            "sriov_numvfs": self.pci.set_vfs,
            "sriov_drivers_autoprobe": self.pci.set_autoprobe,
            "driver_override": self.pci.override,
        }
        if name in serve:
            serve[name](address, value)
        elif name == "remove":
            self.pci.remove(address)
        elif name == "rescan":
            self.pci.rescan()
        elif name not in {"reset", "uevent"}:
            self._plain(place, value)

    def _plain(self, place: str, value: str) -> None:
        self.tree.replace(place, value.rstrip("\n") + "\n", READ_WRITE)

    # ------------------------------------------------------------------------------------------------------------ udev
    def config(self) -> ModprobeConfig:
        """Return what modprobe is told by the disk and the command line."""
        return parse_config(read_files(self.tree), self.arguments())

    def arguments(self) -> list[str]:
        """Return the words of the running kernel's command line."""
        return self.tree.text("/proc/cmdline").split()

    def modaliases(self, address: str) -> list[str]:
        """Return the modaliases of the function at *address* and of the virtio device behind it."""
        if not self.tree.exists(device(address)):
            return []
        behind = [self.tree.text(f"{device(address)}/{name}/modalias") for name in self.behind(address)]
        return [self.pci.function(address).modalias, *behind]

    def behind(self, address: str) -> list[str]:
        """Return the names of the virtio devices behind the function at *address*."""
        return [name for name in self.tree.names(device(address)) if name.startswith("virtio")]

    def plug(self) -> None:
        """Load the modules that new devices ask for; a device that appears by that asks in its turn."""
        config, known, index = self.config(), set[str](), 0
        while index < len(self.pci.events):
            action, address = self.pci.events[index]
            index += 1
            for modalias in self.modaliases(address)[action == "bind" :] if action in {"add", "bind"} else []:
                if modalias not in known:
                    known.add(modalias)
                    self.modules.autoload(modalias, config)
            for name in self.behind(address) if action == "bind" else []:
                self.modules.attach_virtio(name)

    def settle(self) -> list[str]:
        """Bring up to date what follows from a change, and return the units that udev wants for it."""
        with self.lock:
            self.plug()
            events, self.pci.events = self.pci.events, []
            self.modules.settle()
            network.refresh(self.tree, self.machine)
            rules = udev.read_rules(self.tree) if events else []
            return list(dict.fromkeys(unit for event in events for unit in self._units(rules, *event)))

    def _units(self, rules: list[str], action: str, address: str) -> list[str]:
        if not rules or not self.tree.exists(device(address)):
            return []
        function = self.pci.function(address)
        properties = {
            "ACTION": action,
            "KERNEL": address,
            "SUBSYSTEM": "pci",
            "DRIVER": self.pci.driver(address) or "",
            "PCI_SLOT_NAME": address,
            "ATTR{vendor}": f"0x{function.vendor_id}",
            "ATTR{device}": f"0x{function.product_id}",
        }
        return udev.units_for(rules, properties)

    def start_units(self, units: list[str]) -> None:
        """Start *units* as systemd does: beside what goes on."""
        if units:
            thread = threading.Thread(target=self.run_units, args=(units,), daemon=True)
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]
            thread.start()

    def run_units(self, units: list[str]) -> None:
        """Run *units* one after the other, and keep what came of each for ``systemctl status``."""
        for unit in units:
            status, output = udev.run_unit(self.tree, unit)
            with self.lock:
                self.tree.keep("units", (self.tree.state("units") or {}) | {unit: [status, output]})

    def wait_for_units(self) -> None:
        """Wait until the units that were started have ended."""
        for thread in list(self._threads):
            thread.join()

    # ------------------------------------------------------------------------------------------------- boot and holding
    def boot(self) -> None:
        """Boot, and let udev start what it finds."""
        with self.lock:
            self.pci.events.clear()
            units = boot.boot(self)
        self.run_units(units)

    def hold(self, what: str, name: str) -> int:
        """Start a process that has a device or module open; return its pid."""
        with self.lock:
            pid = holding.hold(self.tree, what, name)
            self.settle()
            return pid

    def release(self, pid: int) -> None:
        """End a process."""
        with self.lock:
            holding.release(self.tree, pid)
            self.settle()
