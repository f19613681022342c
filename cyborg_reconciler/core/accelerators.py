# SPDX-License-Identifier: Apache-2.0
"""Which hardware does a host have, which accelerators are among it, and which of them is which, wherever it stands?

Called by the conductor with what a host reported, by its agent or by Ansible: the answer is the same. `offer` says
which of them are ready. Pure.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

import msgspec

from cyborg_reconciler.core.catalogue import fitting
from cyborg_reconciler.core.features import driver as drivers
from cyborg_reconciler.core.features.base import protection_of
from cyborg_reconciler.core.select import UNKNOWN_TYPE, device_type
from cyborg_reconciler.core.state import HOST, Health, Unknown
from cyborg_reconciler.core.subject import (
    BOUND_ON_PURPOSE,
    Subject,
    driver_proper,
    lacks_ids,
    lay_out,
    matches,
)
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.facts import Unknown as Unread
from cyborg_reconciler.hardware import GENERIC, Function, identities, uuid_in

#: What holds the machine together. Source: PCI Code and ID Assignment Specification, section 1.
BRIDGES: Final = "06"

#: Vendor, product and class of a function.
Ids = tuple[str | Unread, str | Unread, str | Unread]

#: Digits of the longest of them, which is the class.
ID_DIGITS: Final = 6

#: What could be read.
READABLE: Final = (str, int)

#: Whose displays are those of management controllers. Source: the PCI ID Repository, Matrox and ASPEED.
MANAGEMENT_DISPLAYS: Final = frozenset(("102b", "1a03"))


class Unit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One piece of hardware.

    Attributes:
        address: of the PCI function.
        identity: what its uuid is made of, see `uuid_of`; empty where that could not be read.
        serial: None where it has none, or where that could not be read.
        parent: the address of a VF's PF.
        vendor_id, product_id: None where they could not be read.
        device_type: what its driver says, else what its class stands for; ``UNKNOWN`` where that cannot be told.
        acc_type: ``PF`` (it can make VFs), ``VF``, or ``PCI`` for a function that is neither.
        is_accelerator: it may be offered; None where that cannot be told. A PF with VFs offers them, and not itself.
        num: how many of it there are.
        capability: what the facts tell of what it can do, as plain data; ``num`` is how many can use it at a time.
        attach_info: how a compute service attaches it; None for what is no accelerator.
        driver: the catalogue's, for a VF its PF's; empty where there is none, or none alone.
        setup_required: it is not set up as the driver's entry says, or that could not be read.
        reboot_required: something is configured on the host that takes effect with the next boot.
        health, reason: as far as the facts tell.
    """

    address: str
    identity: tuple[str, ...]
    serial: str | None = None
    parent: str | None = None
    vendor_id: str | None = None
    product_id: str | None = None
    device_type: str = GENERIC
    acc_type: str = "PCI"
    is_accelerator: bool | None = False
    num: int = 1
    capability: Mapping[str, Any] = msgspec.field(default_factory=dict)
    attach_info: Mapping[str, Any] | None = None
    driver: str = ""
    setup_required: bool = False
    reboot_required: bool = False
    health: Health = Health.HEALTHY
    reason: str = ""


class Kind(NamedTuple):
    """What the ids of a function tell: its type, the driver that is for it (empty: none alone), and if one names it."""

    device_type: str
    driver: str
    is_named: bool


#: Of a catalogue, what was found by ids: most functions of a host are alike, and hosts of a fleet are.
Kinds = dict[Ids, Kind]


class Setup(NamedTuple):
    """What a device lacks of what its driver's entry says, empty where it lacks nothing; and what that says of it."""

    lack: str = ""
    health: Health = Health.HEALTHY


#: Of what lacks nothing.
SET_UP: Final = Setup()


@dataclass(frozen=True, slots=True)
class Known:
    """Hardware that was seen before, but for VFs.

    Attributes:
        address: where it was seen last.
        ids: vendor and product, ``8086:4940``.
        serial: None where none was ever read.
    """

    uuid: UUID
    address: str
    ids: str
    serial: str | None = None


@dataclass(frozen=True, slots=True)
class _Host:
    """What the units of one host have in common: see `identities`, `_reboot_required`; PFs with VFs.

    Attributes:
        kinds: what `_kind` found. installed: what `_installed` found, by driver.
    """

    subject: Subject
    identities: Mapping[str, tuple[str, ...]]
    with_vfs: frozenset[str]
    reboot_required: bool
    kinds: Kinds
    installed: dict[str, Setup] = field(default_factory=dict)


def units(
    facts: reported.Facts, catalogue: Mapping[str, DriverDocSpec], kinds: Kinds | None = None
) -> tuple[Unit, ...]:
    """Return the hardware of a host, in the order of its facts: every PCI function, supported or not.

    Who asks of many hosts by one catalogue gives all the same *kinds*, empty at first.
    """
    subject = lay_out(facts, catalogue)
    with_vfs = frozenset(device.physfn for device in facts.devices if isinstance(device.physfn, str))
    names, is_due = identities(map(_function, facts.devices)), _reboot_required(facts)
    host = _Host(subject, names, with_vfs, is_due, {} if kinds is None else kinds)
    return tuple(_unit(device, host) for device in facts.devices)


def _unit(device: reported.Device, host: _Host) -> Unit:
    # A VF is set up with its PF.
    pf = host.subject.devices.get(device.physfn) if isinstance(device.physfn, str) else None
    kind = _kind(device, host)
    offered = _is_accelerator(device, kind, host)
    driver = kind.driver if pf is None else _kind(pf, host).driver
    setup = _setup(pf or device, driver, host)
    doubt = _doubt(device)
    return Unit(
        address=device.address,
        identity=host.identities[device.address],
        serial=_known(device.serial),
        parent=_known(device.physfn),
        vendor_id=_known(device.vendor_id),
        product_id=_known(device.product_id),
        device_type=kind.device_type,
        acc_type=_acc_type(device),
        is_accelerator=offered,
        capability=_capability(device),
        attach_info=None if offered is False else _attach_info(device),
        driver=driver,
        setup_required=bool(setup.lack),
        reboot_required=host.reboot_required,
        health=Health.UNKNOWN if doubt else setup.health,
        reason=doubt or (setup.lack if setup.health is not Health.HEALTHY else ""),
    )


def _known(fact: str | Unread | None) -> str | None:
    return fact if isinstance(fact, str) else None


# ---------------------------------------------------------------------------------------------------------- which it is
def _function(device: reported.Device) -> Function:
    physfn = "" if isinstance(device.physfn, Unread) else device.physfn
    ids = _known(device.vendor_id), _known(device.product_id)
    return Function(device.address, *ids, _known(device.serial), physfn, device.vf_index)


def uuid_of(unit: Unit, host_uuid: UUID) -> UUID | None:
    """Return the uuid that is made for *unit*; None where its identity could not be read.

    Each of its names lies in the namespace of the one before, the first in that of the host's uuid.
    """
    return uuid_in(host_uuid, unit.identity) if unit.identity else None


def settle(
    found: Sequence[Unit], host_uuid: UUID, known: Iterable[Known], taken: Collection[UUID] = ()
) -> dict[str, UUID]:
    """Return the uuids of the units *found* on a host, by address, given what is *known* of it; no two are the same.

    None is made that is *taken*: something that is not of the host's facts has it.

    A serial that was known elsewhere has moved, and keeps its uuid. What stands where the same kind of hardware stood
    is that, unless serials say otherwise; so it keeps what it got while its serial could not be read. All else gets the
    uuid that is made for it. What could not be read, and was never seen at its address, is left out.
    """
    records = list(known)
    by_serial = {(one.ids, one.serial, one.address[-1]): one.uuid for one in records if one.serial is not None}
    by_address = {one.address: one for one in records}
    settled: dict[str, UUID] = {}

    def moved(unit: Unit) -> UUID | None:
        return by_serial.get((_ids(unit), unit.serial, unit.address[-1])) if unit.serial is not None else None

    def in_place(unit: Unit) -> UUID | None:
        there = by_address.get(unit.address)
        return there.uuid if there is not None and _may_be(unit, there) else None

    def made(unit: Unit) -> UUID | None:
        uuid = uuid_of(unit, host_uuid)
        return uuid and free(uuid)

    def free(uuid: UUID) -> UUID:
        while uuid in taken or uuid in settled.values():
            uuid = uuid5(host_uuid, f"{uuid} again")
        return uuid

    for rule in (moved, in_place, made):
        for unit in found:
            uuid = rule(unit) if unit.parent is None and unit.address not in settled else None
            if uuid is not None and uuid not in settled.values():
                settled[unit.address] = uuid
    vfs = [unit for unit in found if unit.parent in settled and unit.identity]
    return settled | {vf.address: free(uuid_in(settled[str(vf.parent)], vf.identity[1:])) for vf in vfs}


def _ids(unit: Unit) -> str:
    return f"{unit.vendor_id}:{unit.product_id}"


def _may_be(unit: Unit, there: Known) -> bool:
    """Return whether *unit* may be what was *there*; what does not tell its ids, or its serial, may be any."""
    if unit.vendor_id is None or unit.product_id is None:
        return True
    return there.ids == _ids(unit) and (not there.serial or not unit.serial or there.serial == unit.serial)


# ----------------------------------------------------------------------------------------------------------- what it is
def _kind(device: reported.Device, host: _Host) -> Kind:
    ids = device.vendor_id, device.product_id, device.class_id
    found = host.kinds.get(ids)
    if found is None:
        catalogue = host.subject.catalogue
        drivers_ = fitting(device, catalogue)
        driver = drivers_[0] if not isinstance(drivers_, Unknown) and len(drivers_) == 1 else ""
        is_named = any(matches(device, spec.match) for spec in catalogue.values())
        found = Kind(device_type(device, catalogue), driver, is_named)
        if all(isinstance(one, str) and len(one) <= ID_DIGITS for one in ids):  # others are endless, and rare
            host.kinds[ids] = found
    return found


def _acc_type(device: reported.Device) -> str:
    if device.physfn is not None:
        return "VF"
    return "PF" if isinstance(device.total_vfs, int) and device.total_vfs > 0 else "PCI"


def _is_accelerator(device: reported.Device, kind: Kind, host: _Host) -> bool | None:
    if str(device.class_id).startswith(BRIDGES) or device.vendor_id in MANAGEMENT_DISPLAYS:
        return False
    if device.address in host.with_vfs or (isinstance(device.num_vfs, int) and device.num_vfs > 0):
        return False
    if kind.device_type == UNKNOWN_TYPE or isinstance(device.physfn, Unread):
        return None
    return kind.device_type != GENERIC or kind.is_named


def _capability(device: reported.Device) -> dict[str, Any]:
    """Return what *device* can do. What could not be read, and what it lacks, is left out."""
    found: dict[str, Any] = _read(
        ("total_vfs", device.total_vfs), ("num_vfs", device.num_vfs), ("numa_node", device.numa_node)
    )
    found["num"] = max(1, int(found.get("total_vfs", 0)))
    if link := _read(("speed_max", device.link_speed_max), ("width_max", device.link_width_max)):
        found["link"] = link
    if mdev_types := _mdev_types(device):
        types = {one.type_id: _read(("name", one.name), ("available", one.available)) for one in mdev_types}
        found["num"] = max(found["num"], *(int(known.get("available", 0)) for known in types.values()))
        found["mdev_types"] = types
    return found


def _read(*facts: tuple[str, str | int | Unread | None]) -> dict[str, str | int]:
    return {name: fact for name, fact in facts if isinstance(fact, READABLE)}


def _mdev_types(device: reported.Device) -> Sequence[reported.MdevType]:
    return device.mdev_types if isinstance(device.mdev_types, list) else ()


def _attach_info(device: reported.Device) -> dict[str, Any]:
    """Return how a compute service attaches *device*: as it is, or a mediated device of one of its types."""
    types = [one.type_id for one in _mdev_types(device)]
    if types:
        return {"type": "MDEV", "address": device.address, "mdev_types": types}
    return {"type": "PCI", "address": device.address}


# --------------------------------------------------------------------------------------------------------- how it fares
def _setup(device: reported.Device, name: str, host: _Host) -> Setup:
    spec = host.subject.catalogue.get(name)
    if spec is None or spec.kernel_module is None or _is_given_away(device):
        return SET_UP
    installed = host.installed.get(name)
    if installed is None:
        installed = host.installed[name] = _installed(name, spec, host.subject)
    module = host.subject.module(spec.kernel_module)
    if installed.lack or module is None or drivers.is_bound(device, module):
        return installed
    driver = driver_proper(device)
    if isinstance(driver, Unread):
        return Setup(f"driver, which could not be read: {driver.unknown}", Health.UNKNOWN)
    if driver is None:
        return Setup(f"{module.name} is loaded, and does not drive it", Health.DEGRADED)
    return Setup(f"it is bound to {driver}")


def _is_given_away(device: reported.Device) -> bool:
    return isinstance(device.driver_override, str) or device.driver in BOUND_ON_PURPOSE


def _installed(name: str, spec: DriverDocSpec, subject: Subject) -> Setup:
    """Return what the host lacks of the driver called *name*, whatever that drives."""
    if subject.module(spec.kernel_module or "") is None:
        return Setup(f"{spec.kernel_module} drives none of the devices")  # else the facts would speak of it
    alone = subject.setting_aside(subject.devices.keys())
    wanted: dict[str, str | bool] = {"state": drivers.PRESENT, "next_kernel": True}
    if spec.dkms is not None and spec.version is not None:
        wanted["version"] = spec.version
    for key, value in wanted.items():
        observed = drivers.observe((HOST, drivers.NAME, name, key), value, alone)
        if isinstance(observed, Unknown):
            return Setup(f"{key} of driver {name}, which could not be read: {observed.reason}", Health.UNKNOWN)
        if observed != value:
            return Setup(f"{key} of driver {name} is {observed}")
    return SET_UP


def _reboot_required(facts: reported.Facts) -> bool:
    """Return whether an argument, or the initial RAM disk, is configured for the next boot and known not to run."""
    kernel = facts.kernel
    if facts.drivers.initramfs_due:
        return not isinstance(facts.drivers.initramfs_due, Unread)
    if isinstance(kernel.args_next_boot, Unread) or isinstance(kernel.args_running, Unread):
        return False
    return not set(kernel.args_next_boot) <= set(kernel.args_running)


def _doubt(device: reported.Device) -> str:
    """Return why nobody knows how *device* fares: it may not be touched, or was not read; empty when that is known."""
    if lack := lacks_ids(device):
        return lack
    if protection := protection_of("it", device):
        return protection[1]
    for name, fact in (("driver", device.driver), ("physfn", device.physfn), ("num_vfs", device.num_vfs)):
        if isinstance(fact, Unread):
            return f"{name}, which could not be read: {fact.unknown}"
    return ""
