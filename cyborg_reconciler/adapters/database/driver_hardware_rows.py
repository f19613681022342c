# SPDX-License-Identifier: Apache-2.0
"""What did the drivers of an agent find that no facts tell of? The statements about those.

Called by the store of agents, inside its transactions. What a driver says of its devices is what was observed; which of
them is ready, `core.offer` says.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, select, update

from cyborg_reconciler.adapters.database import accelerator_rows
from cyborg_reconciler.adapters.database.discovery_rows import (
    LOOKED_AT,
    as_missing,
    change_of,
    discovered,
    hardware_row,
    in_step,
    missing,
    name_at,
    with_free_names,
)
from cyborg_reconciler.adapters.database.engine import portions, upsert
from cyborg_reconciler.adapters.database.schema import accelerators, allocations, hardware, host_drivers
from cyborg_reconciler.core.accelerators import Unit
from cyborg_reconciler.core.offer import offer_told
from cyborg_reconciler.limits import HOST_DEVICES
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.accelerators import Accelerator
from cyborg_reconciler.stores.agents import DesiredDevice, DriverHardware

#: The origin of what a driver found.
ORIGIN: Final = "driver"

_uninstalled: Final = select(host_drivers.c.driver).where(
    host_drivers.c.host == bindparam("wanted"), host_drivers.c.state == "absent"
)

#: Yields the devices of the drivers on the host *wanted* that are to be ready; none of drivers that are to go.
READY: Final = (
    select(accelerators.c.driver, accelerators.c.address, accelerators.c.uuid)
    .where(
        accelerators.c.host == bindparam("wanted"),
        accelerators.c.origin == ORIGIN,
        accelerators.c.present,
        accelerators.c.desired_state == "ready",
        accelerators.c.driver.not_in(_uninstalled),
    )
    .order_by(accelerators.c.uuid)
)


def read_ready(connection: Connection, host: str) -> list[DesiredDevice]:
    """Return which devices of the drivers on *host* are to be ready."""
    return [DesiredDevice(row.driver, row.address, row.uuid) for row in connection.execute(READY, {"wanted": host})]


@dataclass(slots=True)
class Step:
    """What is to be written, so that what is kept of a host is what its drivers tell."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    new: list[Accelerator] = field(default_factory=list)
    changed: list[Accelerator] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.rows or self.gone or self.new or self.changed or self.forgotten)


def claim(connection: Connection, told: Mapping[str, DriverHardware], at: datetime) -> Collection[str]:
    """Enter the devices that nobody has told of yet: who tells of one at the same time waits, and sees whose it is.

    Shape: the uuids of those that were entered, unless somebody else was faster.

    Those of all hosts at once, in the order of their uuids, so that no two wait for each other.
    """
    found: dict[str, tuple[str, Unit]] = {}
    for host in sorted(told, reverse=True):  # of two hosts in here the first has it
        found |= {uuid: (host, unit) for units in told[host].devices.values() for uuid, unit in units.items()}
    known: set[str] = set()
    for column in (hardware.c.uuid, accelerators.c.uuid):
        for portion in portions(list(found)):
            known.update(connection.execute(select(column).where(column.in_(portion))).scalars())
    rows = [_row(host, uuid, unit, at) for uuid, (host, unit) in found.items() if uuid not in known]
    upsert(connection, hardware, rows, update=[])
    return {row["uuid"] for row in rows}


def _row(host: str, uuid: str, unit: Unit, at: datetime) -> dict[str, Any]:
    ids = f"{unit.vendor_id}:{unit.product_id}" if unit.vendor_id and unit.product_id else ""
    return {**hardware_row(host, uuid, unit, at), "driver": unit.driver, "ids": ids}


def put_driver_hardware(
    connection: Connection, host: str, told: DriverHardware, at: datetime, claimed: Collection[str] = ()
) -> list[Event]:
    """Bring what is kept of *host* in step with what its drivers tell, and return what there is to tell of it.

    Its row is ours, and those of its accelerators; its devices were *claimed*.
    """
    step = read_step(connection, host, told, at, claimed)
    if not step:
        return step.events
    upsert(connection, hardware, step.rows, update=(*LOOKED_AT, "driver", "ids"))
    for portion in portions(step.gone):
        connection.execute(update(hardware).where(hardware.c.uuid.in_(portion)).values(present=False))
    accelerator_rows.insert(connection, with_free_names(connection, step.new))
    accelerator_rows.write(connection, [replace(one, version=one.version + 1, updated_at=at) for one in step.changed])
    for portion in portions(step.forgotten):
        connection.execute(delete(accelerators).where(accelerators.c.uuid.in_(portion)))
        connection.execute(delete(hardware).where(hardware.c.uuid.in_(portion)))
    return step.events


def read_step(
    connection: Connection, host: str, told: DriverHardware, at: datetime, claimed: Collection[str] = ()
) -> Step:
    """Return what is to be written. Of drivers that tell nothing nothing is known; those that are gone have nothing.

    Whoever may speak for a host could fill the database: what nobody has is forgotten with its driver, and beyond
    `HOST_DEVICES` nothing new is taken in.
    """
    found = {uuid: unit for units in told.devices.values() for uuid, unit in units.items()}
    kept = _read_kept(connection, host, found)
    known = {one.uuid: one for one in accelerator_rows.read_of(connection, [host], list(found))}
    ours = {uuid: unit for uuid, unit in found.items() if _is_ours(host, unit, kept.get(uuid), known.get(uuid))}
    others = [row for row in kept.values() if row.host == host and row.driver and row.uuid not in ours]
    step = Step(gone=[row.uuid for row in others if row.present and _is_told(row.driver, told)])
    is_full = len(ours) + len(others) > HOST_DEVICES
    left = [row.uuid for row in others if is_full or row.driver not in told.drivers]
    left = [uuid for uuid in left if not kept[uuid].present or uuid in {*step.gone}]
    step.forgotten = _read_free(connection, left, known)
    new = [uuid for uuid in ours if uuid not in kept or uuid in claimed]
    room = HOST_DEVICES - (len(others) - len(step.forgotten)) - (len(ours) - len(new))
    beyond = frozenset(new[max(room, 0) :])
    step.forgotten += [uuid for uuid in beyond if uuid in claimed]
    if beyond:
        words = f"{len(beyond)} devices of its drivers are left out: {HOST_DEVICES} are kept of a host"
        step.events.append(Event(at, "HardwareLeftOut", host, words))
    uninstalled = frozenset(connection.execute(_uninstalled, {"wanted": host}).scalars())
    for uuid, unit in ours.items():
        if uuid in beyond:
            continue
        row = _row(host, uuid, unit, at)
        was = kept.get(uuid)
        if was is None or not was.present or was.document != row["document"]:
            step.rows.append(row)
        old = known.get(uuid)
        first = Accelerator(uuid=uuid, name=name_at(host, unit), created_at=at, updated_at=at, origin=ORIGIN)
        one = in_step(old or first, host, unit, None)
        is_installed = unit.driver not in uninstalled
        _take(step, old, replace(one, state=offer_told(unit, one.desired_state, is_installed=is_installed)), at)
    for uuid in step.gone:
        if uuid in known:
            _take(step, known[uuid], as_missing(known[uuid]), at)
    return step


def _read_free(connection: Connection, uuids: Sequence[str], known: Mapping[str, Accelerator]) -> list[str]:
    """Return those of *uuids* of which no operator has said anything, and nobody has anything."""
    used: set[str] = set()
    for portion in portions(uuids):
        query = select(allocations.c.accelerator).where(allocations.c.accelerator.in_(portion))
        used.update(connection.execute(query).scalars())
    return [uuid for uuid in uuids if uuid not in used and (uuid not in known or _is_as_found(known[uuid]))]


def _is_as_found(one: Accelerator) -> bool:
    """Return whether *one* is as its driver told of it, but for what became of it there."""
    has_said = one.claimed or one.description or one.overlay or one.desired_state != "inactive"
    return not has_said and one.attachment is None


def _read_kept(connection: Connection, host: str, uuids: Iterable[str]) -> Mapping[str, Row[Any]]:
    """Return what is kept of hardware that drivers found on *host*, and of whatever has one of *uuids*, anywhere."""
    columns = [hardware.c[name] for name in ("uuid", "host", "driver", "present", "document")]
    is_of_host = (hardware.c.host == host) & hardware.c.driver.is_not(None)
    found: dict[str, Row[Any]] = {}
    for where in (is_of_host, *(hardware.c.uuid.in_(portion) for portion in portions(list(uuids)))):
        found.update((row.uuid, row) for row in connection.execute(select(*columns).where(where)))
    return found


def _is_ours(host: str, unit: Unit, kept: Row[Any] | None, known: Accelerator | None) -> bool:
    """Return whether a uuid is free, or this driver's on this host: nobody speaks for what is another's."""
    if kept is not None and (kept.host, kept.driver) != (host, unit.driver):
        return False
    return known is None or (known.origin == ORIGIN and known.host == host and known.driver == unit.driver)


def _is_told(driver: str, told: DriverHardware) -> bool:
    """Return whether *driver* has told all that it has, or is there no more."""
    return (driver in told.devices and driver not in told.partial) or driver not in told.drivers


def _take(step: Step, old: Accelerator | None, one: Accelerator, at: datetime) -> None:
    """Take into *step* that *one* is in the place of *old*, and what there is to tell of it."""
    if one == old:
        return
    (step.new if old is None else step.changed).append(one)
    if old is None:
        step.events.append(discovered(at, one))
    elif old.present and not one.present:
        step.events.append(missing(at, old))
    elif old.state != one.state:
        step.events.append(change_of(at, f"Accelerator{one.state.title()}", one, f"is {one.state}", old))
