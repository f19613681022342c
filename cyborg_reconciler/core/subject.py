# SPDX-License-Identifier: Apache-2.0
"""One host's facts, laid out for look-up: devices by address, modules by name, what is owned by path.

Built once a host by `lay_out`; read by `resolve`, the features and `plan`. Pure.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from typing import Final

from cyborg_reconciler.core.state import ABSENT, FieldPath, Observed, Unknown, Value
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.driver import DriverDocSpec, Match

#: Target, feature, the feature's own path; what is shorter in a host's record was not written by us.
SHORTEST_PATH: Final = 3

#: What a function without a driver is bound to.
UNBOUND: Final = "none"

VFIO: Final = "vfio-pci"

#: It makes a bus of its own, where the driver proper stands.
VIRTIO_PCI: Final = "virtio-pci"

#: Drivers that take no device by its ids: who is bound to one was bound on purpose.
#: Source: Linux, drivers/vfio/pci, drivers/pci/pci-stub.c, drivers/uio/uio_pci_generic.c.
BOUND_ON_PURPOSE: Final = frozenset({VFIO, "pci-stub", "uio_pci_generic", "igb_uio"})

#: The kernel's arguments: each one's values, in their order, by its name as the kernel compares it.
Arguments = Mapping[str, Sequence[str | bool]]


class Subject:
    """The facts of one host, with the drivers that there are for its devices. Not to be changed.

    Attributes:
        owned: the fields that this or another controller set on the host, by path; `before` gives what they were. What
            was set on another device, that stood where one stands now, is not among them.
        aside: devices that drivers are not set up for, and not judged by.
    """

    __slots__ = ("_arguments", "_modules", "_touched", "aside", "catalogue", "devices", "facts", "owned")

    def __init__(self, facts: reported.Facts, catalogue: Mapping[str, DriverDocSpec]) -> None:
        self.facts = facts
        self.catalogue = catalogue
        self.devices: Mapping[str, reported.Device] = {device.address: device for device in facts.devices}
        fields = facts.ownership.fields if facts.ownership else ()
        self.owned: Mapping[FieldPath, reported.OwnedField] = {
            tuple(field.path): field for field in fields if len(field.path) >= SHORTEST_PATH and self._is_of_this(field)
        }
        self.aside: Collection[str] = ()
        self._touched: Mapping[str, Collection[str]] | None = None
        self._modules: Mapping[str, reported.Module] | None = None
        self._arguments: tuple[Arguments | Unknown, Arguments | Unknown] | None = None

    def _is_of_this(self, field: reported.OwnedField) -> bool:
        device = self.devices.get(field.path[0])
        return device is None or not field.device or is_same(field.device, device)

    def setting_aside(self, addresses: Collection[str]) -> "Subject":
        """Return the same facts with the devices at *addresses* set aside."""
        other = copy(self)
        other.aside = addresses
        return other

    @property
    def modules(self) -> Mapping[str, reported.Module]:
        """The modules, by name with underscores; laid out when they are first asked for."""
        if self._modules is None:
            self._modules = {module.name: module for module in self.facts.drivers.modules}
        return self._modules

    @property
    def arguments(self) -> tuple[Arguments | Unknown, Arguments | Unknown]:
        """The kernel's arguments: those that run, and those of the next boot."""
        if self._arguments is None:
            kernel = self.facts.kernel
            running = parse_arguments(kernel.args_running)
            same = kernel.args_next_boot == kernel.args_running
            self._arguments = running, running if same else parse_arguments(kernel.args_next_boot)
        return self._arguments

    def before(self, path: FieldPath) -> Value:
        """Return what the owned field at *path* was before."""
        return from_json(self.owned[path].before)

    def module(self, name: str) -> reported.Module | None:
        """Return the module called *name*, with - or _; None when the facts do not list it."""
        return self.modules.get(module_name(name))

    def driven_by(self, name: str) -> list[reported.Device]:
        """Return the devices that the module called *name* drives, by its own word or by theirs."""
        module, name = self.module(name), module_name(name)
        named = module.devices if module is not None else ()
        return [
            device
            for device in self.devices.values()
            if device.address in named
            or name in {module_name(str(device.driver)), module_name(str(device.function_driver))}
        ]

    def named_as(self, desired: Value, driver: str, device: reported.Device) -> str:
        """Return the *driver* that has *device*, by the name of its module where that is what is *desired*.

        Both name a driver: qat_4xxx is the module whose PCI driver the kernel calls 4xxx.
        """
        module = self.module(desired) if isinstance(desired, str) else None
        return str(desired) if module is not None and device.address in module.devices else driver

    def touched(self, target: str) -> Collection[str]:
        """Return the features of *target* of which something is owned."""
        if self._touched is None:
            found: dict[str, set[str]] = {}
            for path in self.owned:
                found.setdefault(path[0], set()).add(path[1])
            self._touched = found
        return self._touched.get(target, ())

    def perhaps_driven_by(self, name: str) -> list[reported.Device]:
        """Return the devices that the module called *name* may drive: what drives them could not be read."""
        return [device for device in self.devices.values() if _may_be(device, module_name(name))]

    def modules_of(self, device: reported.Device) -> list[str]:
        """Return the names of the modules that drive *device*."""
        names = [module_name(name) for name in (device.driver, device.function_driver) if isinstance(name, str)]
        return [*names, *(one.name for one in self.modules.values() if device.address in one.devices)]

    def has(self, recorded: str) -> bool:
        """Return whether the device whose `place_of` was *recorded* may be the one that stands there now."""
        address, _, of = recorded.partition(" ")
        return address in self.devices and is_same(of, self.devices[address])

    def gone(self) -> list[str]:
        """Return where the devices stood, now gone, on which all was set that is owned; none where more is owned."""
        targets: set[str] = set()
        for field in self.facts.ownership.fields if self.facts.ownership else ():
            target = field.path[0] if field.path else ""
            is_there = target in self.devices and self._is_of_this(field)
            if is_there or not re.fullmatch(reported.ADDRESS, target):
                return []
            targets.add(target)
        return sorted(targets)

    def owns(self, target: str, feature: str) -> bool:
        """Return whether anything of *feature* on *target* is owned."""
        return feature in self.touched(target)


def identity(device: reported.Device) -> str:
    """Return which device this is, wherever it stands: its ids and, where it tells one, its serial."""
    serial = f" {device.serial}" if isinstance(device.serial, str) else ""
    return f"{ids_of(device)}{serial}"


def place_of(device: reported.Device) -> str:
    """Return where a device stands, and which it is: ``0000:6b:00.0 8086:4940 SN123``."""
    return f"{device.address} {identity(device)}"


def ids_of(device: reported.Device) -> str:
    """Return vendor and product of *device* as people write them: ``8086:4940``."""
    return ":".join(one if isinstance(one, str) else "unknown" for one in (device.vendor_id, device.product_id))


def is_same(recorded: str, device: reported.Device) -> bool:
    """Return whether *device* may be the one whose `identity` was *recorded*.

    A serial counts where both tell one; a device that does not tell its ids may be any.
    """
    if isinstance(device.vendor_id, reported.Unknown) or isinstance(device.product_id, reported.Unknown):
        return True
    ids, _, serial = recorded.partition(" ")
    ids_now, _, serial_now = identity(device).partition(" ")
    return ids == ids_now and (not serial or not serial_now or serial == serial_now)


def recorded_device(recorded: str) -> reported.Device:
    """Return what is known of the device, perhaps gone, whose `place_of` was *recorded*: its place, ids and serial."""
    gone = reported.Unknown("the device is not there")
    address, _, of = recorded.partition(" ")
    ids, _, serial = of.partition(" ")
    vendor_id, _, product_id = ids.partition(":")
    return reported.Device(
        address=address,
        vendor_id=gone if vendor_id in {"", "unknown"} else vendor_id,
        product_id=gone if product_id in {"", "unknown"} else product_id,
        class_id=gone,
        serial=serial or gone,
    )


def lay_out(facts: reported.Facts, catalogue: Mapping[str, DriverDocSpec]) -> Subject:
    """Return *facts* laid out for look-up."""
    return Subject(facts, catalogue)


def parse_arguments(words: Iterable[str] | reported.Unknown) -> Arguments | Unknown:
    """Return the words of a kernel's command line by name; a bare word has the value True."""
    if isinstance(words, reported.Unknown):
        return Unknown(words.unknown)
    found: dict[str, list[str | bool]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if "-" in name:
            name = module_name(name)
        if name in found:
            found[name].append(value if equals else True)
        else:
            found[name] = [value if equals else True]
    return found


def module_name(name: str) -> str:
    """Return *name* as the kernel compares it: with underscores."""
    return name.replace("-", "_")


def driver_name(name: str) -> str:
    """Return a driver's *name* as sysfs has it: people write vfio_pci for what the kernel calls vfio-pci."""
    return VFIO if module_name(name) == "vfio_pci" else name


def driver_proper(device: reported.Device) -> str | reported.Unknown | None:
    """Return what drives *device*: for a virtio function, the driver on the bus behind it, where there is one."""
    return device.function_driver if device.driver == VIRTIO_PCI else device.driver


def _may_be(device: reported.Device, module: str) -> bool:
    """Return whether the driver of *device* could not be read and may be that of *module*."""
    if isinstance(device.function_driver, reported.Unknown):
        return True
    if not isinstance(device.driver, reported.Unknown):
        return False
    fitting = device.modules
    return isinstance(fitting, reported.Unknown) or not fitting or module in map(module_name, fitting)


def matches(device: reported.Device, rules: Iterable[Match], *, perhaps: bool = False) -> bool:
    """Return whether one of a driver's match *rules* is for *device*; with *perhaps*, unknown ids may be any."""
    return any(
        (rule.vendor_id is None or _fits(device.vendor_id, (rule.vendor_id,), perhaps=perhaps))
        and (not rule.product_id or _fits(device.product_id, rule.product_id, perhaps=perhaps))
        and (rule.class_id is None or _fits(device.class_id, (rule.class_id,), perhaps=perhaps))
        for rule in rules
    )


def _fits(fact: str | reported.Unknown, beginnings: tuple[str, ...], *, perhaps: bool) -> bool:
    return fact.startswith(beginnings) if isinstance(fact, str) else perhaps


def lacks_ids(device: reported.Device) -> str:
    """Return which id of *device* could not be read, and why; empty when all are known."""
    for name in ("vendor_id", "product_id", "class_id"):
        fact = getattr(device, name)
        if isinstance(fact, reported.Unknown):
            return f"{name}, which could not be read: {fact.unknown}"
    return ""


def as_observed(fact: str | int | bool | reported.Unknown | None) -> Observed:  # noqa: FBT001 - a fact may be a boolean
    """Return a *fact* as a field's observed value."""
    if fact is None:
        return ABSENT
    if isinstance(fact, reported.Unknown):
        return Unknown(fact.unknown)
    return fact


def from_json(value: reported.Scalar | list[reported.Scalar]) -> Value:
    """Return a value of the host's record as a field's value."""
    if isinstance(value, list):
        return tuple(map(str, value))
    return ABSENT if value is None else value


def to_json(value: Value) -> reported.Scalar | list[str]:
    """Return a field's value as it travels."""
    if isinstance(value, tuple):
        return list(value)
    return None if value is ABSENT else value


def describe_holders(holders: Iterable[reported.Holder]) -> str:
    """Return who holds something, in words: ``qemu-system-x86 (pid 4711) on /dev/vfio/12, net ens1f0``."""
    words = []
    for holder in holders:
        who = f"{holder.name} (pid {holder.pid})" if holder.pid is not None else f"{holder.kind} {holder.name}"
        words.append(f"{who} on {holder.detail}" if holder.detail else who)
    return ", ".join(words)


def describe_protections(protections: Iterable[reported.Protection]) -> str:
    """Return what a device carries, in words: ``default route (bond0), connection``."""
    names = ((found.reason.replace("_", " "), found.via) for found in protections)
    return ", ".join(f"{name} ({via})" if via else name for name, via in names)
