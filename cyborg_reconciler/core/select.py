# SPDX-License-Identifier: Apache-2.0
"""Which hosts and which devices a selector selects: keys are AND, the items of a list are OR. Pure."""

import fnmatch
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, Protocol

from cyborg_reconciler.core.state import Host
from cyborg_reconciler.core.subject import lacks_ids, matches
from cyborg_reconciler.documents.base import Selector
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.facts import Device, Unknown
from cyborg_reconciler.documents.policy import DeviceSelector
from cyborg_reconciler.hardware import type_of

#: The type of a device whose ids could not be read and may stand for several.
UNKNOWN_TYPE: Final = "UNKNOWN"

#: Why it cannot be told whether a device is still the one that a policy selected.
LOST: Final = "of which the device shows none now: select it by addresses"


#: Classes of devices whose name, or whose serial, is told by their driver.
NETWORK: Final = "02"
STORAGE: Final = "01"


class Choice(NamedTuple):
    """Whether a device is selected; *unknown* names the fact that was missing to tell."""

    selected: bool
    unknown: str = ""


YES: Final = Choice(selected=True)
NO: Final = Choice(selected=False)


class Choose(Protocol):
    """Whether a device is selected: see `compile_selector`."""

    def __call__(self, device: Device, catalogue: Mapping[str, DriverDocSpec], *, touched: Collection[str]) -> Choice:
        """Return the choice; *touched*: the features of the device that something of ours is set of."""


def device_type(device: Device, catalogue: Mapping[str, DriverDocSpec]) -> str:
    """Return the type of *device*: what a driver that names it says, else what its ids or its class stand for."""
    for spec in catalogue.values():
        if spec.match and spec.device_type != "GENERIC" and matches(device, spec.match, perhaps=True):
            return spec.device_type if matches(device, spec.match) else UNKNOWN_TYPE
    read = [fact if isinstance(fact, str) else None for fact in (device.vendor_id, device.product_id, device.class_id)]
    return type_of(*read) or UNKNOWN_TYPE


def selects_host(selector: Selector, host: Host) -> bool:
    """Return whether *selector* selects *host*. ``all`` is every host's group."""
    groups = host.groups | {"all"}
    return (
        (not selector.groups or any(fnmatch.filter(groups, pattern) for pattern in selector.groups))
        and (not selector.names or any(fnmatch.fnmatchcase(host.name, pattern) for pattern in selector.names))
        and all(host.labels.get(key) == value for key, value in selector.labels.items())
    )


def compile_selector(selector: DeviceSelector) -> Choose:
    """Return *selector* as a function of a device, the catalogue, and the features of it that we have set something of.

    An NVMe drive that vfio-pci drives tells no serial, and a net device may be renamed or moved away. A device that we
    have *touched* is not let go for that: what was set would be undone, the name would come back, and so on for ever.
    """
    given = {"vendor_id": selector.vendor_id, "product_id": selector.product_id, "class_id": selector.class_id}
    ids = {name: tuple(_many(wanted)) for name, wanted in given.items() if wanted}
    types = _many(selector.device_type)
    addresses, serials, net_names = map(frozenset, (selector.addresses, selector.serials, selector.net_names))

    def choose(device: Device, catalogue: Mapping[str, DriverDocSpec], *, touched: Collection[str]) -> Choice:
        if addresses and device.address not in addresses:
            return NO
        found = _by_ids(device, ids)
        if types and found != NO:
            of_type = _by_type(device, types, catalogue)
            found = of_type if found == YES or of_type == NO else found
        return _by_identity(device, serials, net_names, touched) if found == YES else found

    return choose


def _by_ids(device: Device, wanted: Mapping[str, tuple[str, ...]]) -> Choice:
    """Return whether the ids of *device* begin as *wanted*; one that speaks against it outweighs what is unknown."""
    unclear = False
    for name, beginnings in wanted.items():
        fact = getattr(device, name)
        if isinstance(fact, Unknown):
            unclear = True
        elif not fact.startswith(beginnings):
            return NO
    return Choice(selected=False, unknown=lacks_ids(device)) if unclear else YES


def _by_type(device: Device, types: frozenset[str], catalogue: Mapping[str, DriverDocSpec]) -> Choice:
    kind = device_type(device, catalogue)
    return Choice(selected=False, unknown=lacks_ids(device)) if kind == UNKNOWN_TYPE else Choice(kind in types)


def _by_identity(
    device: Device, serials: frozenset[str], net_names: frozenset[str], touched: Collection[str]
) -> Choice:
    selected = True
    if serials:
        if isinstance(device.serial, Unknown):
            return Choice(selected=False, unknown=f"serial, which could not be read: {device.serial.unknown}")
        if device.serial is None and touched and str(device.class_id).startswith(STORAGE):
            return Choice(selected=False, unknown=f"serial, {LOST}")
        selected = device.serial in serials
    if selected and net_names:
        if not device.net_names and "sriov" in touched and str(device.class_id).startswith(NETWORK):
            return Choice(selected=False, unknown=f"net_names, {LOST}")
        selected = not net_names.isdisjoint(device.net_names)
    return Choice(selected)


def _many(value: str | tuple[str, ...] | None) -> frozenset[str]:
    return frozenset((value,) if isinstance(value, str) else value or ())
