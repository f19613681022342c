# SPDX-License-Identifier: Apache-2.0
"""What does the kernel's PCI core do when it is told to bind, unbind, probe or make VFs? The kernel's process asks it.

Does I/O on the tree, which is all that it remembers. Errors are those of the kernel, as OSError.

Source: Linux 6.1, drivers/pci/pci-driver.c, pci-sysfs.c, iov.c; drivers/base/bus.c and dd.c.
"""

import errno
import os
import re
from typing import Final

from cyborg_reconciler.simulation import functions
from cyborg_reconciler.simulation.drivers import Drivers, matches
from cyborg_reconciler.simulation.functions import NO_OVERRIDE, PCI, device
from cyborg_reconciler.simulation.holding import holders_of
from cyborg_reconciler.simulation.interfaces import MAKERS
from cyborg_reconciler.simulation.machine import Function, Machine, Module, virtual_function, virtual_index
from cyborg_reconciler.simulation.tree import READ_WRITE, Tree

U16_MAX: Final = 0xFFFF
VFIO: Final = "vfio-pci"
#: The ids that `new_id` takes: vendor and device, then optionally subsystem, class and mask.
NEW_ID: Final = re.compile(r"([0-9a-fA-F]{1,8})\s+([0-9a-fA-F]{1,8})(\s+[0-9a-fA-F]{1,8}){0,5}")


def fail(number: int, text: str = "") -> OSError:
    """Return the kernel's error, with what it would say in its log."""
    return OSError(number, text or os.strerror(number))


class Pci:
    """The PCI bus of one host.

    Attributes:
        events: what udev has not been told of yet: (action, address).
    """

    def __init__(self, tree: Tree, machine: Machine, drivers: Drivers) -> None:
        self.tree, self.machine, self.drivers = tree, machine, drivers
        self.hardware = {function.address: function for function in machine.functions}
        self.events: list[tuple[str, str]] = []

    # ---------------------------------------------------------------------------------------------------------- reads
    def addresses(self) -> list[str]:
        """Return the addresses of the functions on the bus."""
        return self.tree.names(f"{PCI}/devices")

    def folder(self, address: str) -> str:
        """Return the real folder of the function at *address*. Raises: OSError (ENODEV)."""
        if not self.tree.exists(device(address)) or "/" in address or not address:
            raise fail(errno.ENODEV)
        return self.tree.resolve(device(address))

    def function(self, address: str) -> Function:
        """Return the function at *address*, a VF's made from its PF."""
        known = self.hardware.get(address)
        if known:
            return known
        physical = self.hardware[self.tree.target_name(f"{device(address)}/physfn") or ""]
        return virtual_function(physical, virtual_index(physical, address))

    def driver(self, address: str) -> str | None:
        """Return the driver that the function is bound to."""
        return self.tree.target_name(f"{device(address)}/driver")

    def virtual_functions(self, address: str) -> list[str]:
        """Return the addresses of a PF's VFs by index."""
        links = [name for name in self.tree.names(device(address)) if name.startswith("virtfn")]
        links.sort(key=lambda name: int(name.removeprefix("virtfn")))
        return [self.tree.target_name(f"{device(address)}/{name}") or "" for name in links]

    # -------------------------------------------------------------------------------------------------------- binding
    def match(self, module: Module, address: str) -> bool:
        """Say whether the driver of *module* takes the function: pci_match_device."""
        override = self.tree.text(f"{device(address)}/driver_override", NO_OVERRIDE)
        if override != NO_OVERRIDE:
            return override == module.driver
        function = self.function(address)
        ids = f"{function.vendor_id} {function.product_id}"
        return matches(module, function.modalias) or ids in self.drivers.dynamic_ids(module.driver or "")

    def attach(self, address: str) -> None:
        """Offer an unbound function to the drivers that are there; the first that takes it keeps it."""
        if self.driver(address) is not None:
            return
        for module in self.drivers.registered("pci").values():
            if self.match(module, address):
                try:
                    self.probe(module, address)
                except OSError:
                    continue
                return

    def attach_driver(self, module: Module) -> None:
        """Offer a driver the functions that nobody drives, as when it is loaded."""
        for address in self.addresses():
            if self.driver(address) is None and self.match(module, address):
                try:
                    self.probe(module, address)
                except OSError:
                    continue

    def probe(self, module: Module, address: str) -> None:
        """Bind the function to the driver of *module*. Raises: OSError."""
        folder, function = self.folder(address), self.function(address)
        self._refuse_probe(module, function, folder)
        driver = module.driver or ""
        self.tree.link(f"{folder}/driver", f"{PCI}/drivers/{driver}")
        self.tree.link(f"{PCI}/drivers/{driver}/{address}", folder)
        self.tree.replace(f"{folder}/uevent", functions.uevent(function, driver), READ_WRITE)
        self.tree.replace(f"{folder}/enable", "1\n", READ_WRITE)
        for word in module.makes:
            MAKERS[word][0](self.tree, self.machine, function, folder)
        self.events.append(("bind", address))

    def _refuse_probe(self, module: Module, function: Function, folder: str) -> None:
        physical = self.tree.target_name(f"{folder}/physfn")
        free = self.tree.text(f"{folder}/driver_override", NO_OVERRIDE) != NO_OVERRIDE
        if physical and not free and self.tree.text(f"{device(physical)}/sriov_drivers_autoprobe") == "0":
            raise fail(errno.ENODEV)  # pci_device_can_probe
        if "vfio" in module.makes and (function.is_bridge or not self.tree.exists(f"{folder}/iommu_group")):
            raise fail(errno.EINVAL)

    def bind(self, driver: str, address: str) -> None:
        """Serve a write to a driver's ``bind``. Raises: OSError (ENODEV; EBUSY where another driver has it)."""
        module = self.drivers.registered("pci").get(driver)
        self.folder(address)
        if module is None or not self.match(module, address):
            raise fail(errno.ENODEV)
        if self.driver(address) is not None:
            raise fail(errno.EBUSY)
        self.probe(module, address)

    def unbind(self, driver: str, address: str) -> None:
        """Serve a write to a driver's ``unbind``. Raises: OSError (ENODEV where the driver does not have it).

        A kernel waits until a user program closes a device of vfio-pci; here that is EBUSY, so that nobody waits
        forever.
        """
        self.folder(address)
        if self.driver(address) != driver:
            raise fail(errno.ENODEV)
        self.refuse_held([address, *self.virtual_functions(address)])
        self.release(address)

    def refuse_held(self, addresses: list[str]) -> None:
        """Raise EBUSY where a program has one of *addresses* open."""
        for address in addresses:
            holders = holders_of(self.tree, address)
            if holders:
                raise fail(errno.EBUSY, f"{address} is in use by pid {holders[0]}")

    def release(self, address: str) -> None:
        """Let the driver go, its VFs first."""
        driver = self.driver(address)
        if driver is None:
            return
        if self.virtual_functions(address):
            self.remove_vfs(address)
        folder, function = self.folder(address), self.function(address)
        self.tree.remove(f"{folder}/driver")
        self.tree.remove(f"{PCI}/drivers/{driver}/{address}")
        module = self.drivers.registered("pci").get(driver)
        for word in reversed(module.makes if module else ()):
            MAKERS[word][1](self.tree, self.machine, function, folder)
        self.tree.replace(f"{folder}/uevent", functions.uevent(function, None), READ_WRITE)
        self.tree.replace(f"{folder}/enable", "0\n", READ_WRITE)
        self.events.append(("unbind", address))

    def override(self, address: str, value: str) -> None:
        """Serve a write to ``driver_override``: an empty line takes it back."""
        text = value.rstrip("\n") or NO_OVERRIDE
        self.tree.replace(f"{self.folder(address)}/driver_override", f"{text}\n", READ_WRITE)

    def new_id(self, driver: str, value: str) -> None:
        """Serve a write to ``new_id``. Raises: OSError (EINVAL, EEXIST)."""
        fields = NEW_ID.fullmatch(value.strip())
        module = self.drivers.registered("pci").get(driver)
        if fields is None or module is None:
            raise fail(errno.EINVAL)
        ids = f"{int(fields[1], 16):04x} {int(fields[2], 16):04x}"
        vendor, product = ids.upper().split(" ")
        known = matches(module, f"pci:v0000{vendor}d0000{product}sv00000000sd00000000bc00sc00i00")
        if known or ids in self.drivers.dynamic_ids(driver):
            raise fail(errno.EEXIST)
        self.drivers.add_id(driver, ids)
        self.attach_driver(module)

    def remove_id(self, driver: str, value: str) -> None:
        """Serve a write to ``remove_id``. Raises: OSError (EINVAL, ENODEV)."""
        fields = NEW_ID.fullmatch(value.strip())
        if fields is None:
            raise fail(errno.EINVAL)
        if not self.drivers.forget_ids(driver, f"{int(fields[1], 16):04x} {int(fields[2], 16):04x}"):
            raise fail(errno.ENODEV)

    # ---------------------------------------------------------------------------------------------------------- SR-IOV
    def set_vfs(self, address: str, value: str) -> None:
        """Serve a write to ``sriov_numvfs``: sriov_numvfs_store.

        Raises: OSError: EINVAL for no number, ERANGE above the total, ENOENT without a driver that makes VFs, EBUSY
        when there are VFs and another number of them is wanted.
        """
        wanted = parse_number(value)
        folder = self.folder(address)
        total, present = (int(self.tree.text(f"{folder}/sriov_{name}", "0")) for name in ("totalvfs", "numvfs"))
        if wanted > total:
            raise fail(errno.ERANGE)
        if wanted == present:
            return
        driver = self.driver(address)
        module = self.drivers.registered("pci").get(driver or "")
        if module is None:
            raise fail(errno.ENOENT, "no driver bound to device; cannot configure SR-IOV")
        if not module.sriov or (driver == VFIO and self._vfio_makes_none()):
            raise fail(errno.ENOENT, "driver does not support SR-IOV configuration via sysfs")
        if wanted and present:
            raise fail(errno.EBUSY, f"{present} VFs already enabled. Disable before enabling {wanted} VFs")
        if wanted:
            self.add_vfs(address, wanted)
        else:
            self.refuse_held(self.virtual_functions(address))
            self.remove_vfs(address)

    def _vfio_makes_none(self) -> bool:
        return self.tree.text("/sys/module/vfio_pci/parameters/enable_sriov") != "Y"

    def set_autoprobe(self, address: str, value: str) -> None:
        """Serve a write to ``sriov_drivers_autoprobe``, a boolean. Raises: OSError (EINVAL)."""
        first = value.strip()[:1].lower()
        if first not in {"0", "1", "y", "n", "t", "f"}:
            raise fail(errno.EINVAL)
        text = "1\n" if first in {"1", "y", "t"} else "0\n"
        self.tree.replace(f"{self.folder(address)}/sriov_drivers_autoprobe", text, READ_WRITE)

    def add_vfs(self, address: str, count: int) -> None:
        """Make VFs 0 to *count* - 1 of the function at *address*, and offer each to the drivers."""
        folder, physical = self.folder(address), self.function(address)
        parent = os.path.dirname(folder)
        for index in range(count):
            virtual = virtual_function(physical, index)
            place = f"{parent}/{virtual.address}"
            functions.add_function(self.tree, virtual, place)
            self.tree.link(f"{place}/physfn", folder)
            self.tree.link(f"{folder}/virtfn{index}", place)
            if self.tree.exists(f"{folder}/iommu_group"):
                number = functions.group_number(self.tree, virtual, self.machine)
                functions.add_to_group(self.tree, place, number)
            self.events.append(("add", virtual.address))
            self.attach(virtual.address)
        self.tree.replace(f"{folder}/sriov_numvfs", f"{count}\n", READ_WRITE)

    def remove_vfs(self, address: str) -> None:
        """Take the VFs of the function at *address* away, whoever drives them."""
        folder = self.folder(address)
        self.tree.replace(f"{folder}/sriov_numvfs", "0\n", READ_WRITE)
        for index, virtual in reversed(list(enumerate(self.virtual_functions(address)))):
            self.release(virtual)
            functions.remove_function(self.tree, self.folder(virtual))
            self.tree.remove(f"{folder}/virtfn{index}")
            self.events.append(("remove", virtual))

    # -------------------------------------------------------------------------------------------------------- hot-plug
    def add(self, function: Function) -> None:
        """Find the function of the machine, as at boot or on a rescan; udev offers it to drivers."""
        folder = functions.home(function, self.machine)
        functions.add_function(self.tree, function, folder)
        if self.tree.exists("/sys/class/iommu"):
            functions.add_to_group(self.tree, folder, functions.group_number(self.tree, function, self.machine))
        self.events.append(("add", function.address))

    def remove(self, address: str) -> None:
        """Serve a write to ``remove``: the function goes from the bus until a rescan, and what is below it too."""
        folder = self.folder(address)
        below = [each for each in self.addresses() if self.folder(each).startswith(f"{folder}/")]
        for each in [*reversed(below), address]:
            if self.tree.exists(device(each)):
                self.release(each)
                functions.remove_function(self.tree, self.folder(each))
                self.events.append(("remove", each))

    def rescan(self) -> None:
        """Serve a write to ``rescan``: functions of the machine that are not on the bus come back."""
        for function in self.machine.functions:
            if not self.tree.exists(device(function.address)):
                self.add(function)
                self.attach(function.address)


def parse_number(value: str) -> int:
    """Return the number as kstrtou16 reads it, here with its error turned into EINVAL. Raises: OSError."""
    try:
        number = int(value.strip(), 0)
    except ValueError:
        raise fail(errno.EINVAL) from None
    if not 0 <= number <= U16_MAX:
        raise fail(errno.EINVAL)
    return number
