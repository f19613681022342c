# SPDX-License-Identifier: Apache-2.0
"""What was found on hosts? The statements that bring hardware and accelerators in step with facts.

Called wherever facts are written, inside that transaction, so that what the API reads is never older than the facts.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, bindparam, select, update

from cyborg_reconciler.adapters.database import accelerator_rows, pages
from cyborg_reconciler.adapters.database.agent_rows import inventory_of, put_identities
from cyborg_reconciler.adapters.database.engine import portions, upsert
from cyborg_reconciler.adapters.database.schema import accelerators, facts, hardware, hosts
from cyborg_reconciler.core.accelerators import Kinds, Known, Unit, settle, units
from cyborg_reconciler.core.state import Health
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.accelerators import Accelerator, Device
from cyborg_reconciler.stores.agents import Inventory
from cyborg_reconciler.stores.pages import Page, PageQuery

#: Drivers by name.
Catalogue = Mapping[str, DriverDocSpec]

#: Whatever tells the facts of many hosts apart.
Key = TypeVar("Key")

#: Of hardware that was there before, what a new look may change.
LOOKED_AT: Final = ("address", "serial", "present", "is_accelerator", "document")

#: Characters of a name that are kept.
NAME_LENGTH: Final = 255

#: Yields what the hosts *names* were last found to have, as digests. Made once: making it takes longer than running it.
DIGESTS: Final = select(facts.c.host, facts.c.units).where(facts.c.host.in_(bindparam("names", expanding=True)))

#: Enters such a digest.
DIGESTED: Final = update(facts).where(facts.c.host == bindparam("found_on")).values(units=bindparam("digest"))

#: Bytes of which a digest is made without that another thread has its turn. Source: Python, Modules/hashlib.h.
DIGESTED_AT_ONCE: Final = 2047

#: Ids of which it is kept what they are: those of a fleet are fewer.
KINDS_KEPT: Final = 4096

_encoder: Final = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Found:
    """What the facts of a host say is there, by what the host is known, and what tells whether either has changed."""

    units: Sequence[Unit]
    known_by: Inventory
    digest: str


def found_by(reported: Mapping[Key, Facts], catalogue: Catalogue) -> dict[Key, Found]:
    """Return what the facts *reported* say is there, under their keys."""
    kinds = _kinds_of(catalogue)
    return {key: _found(facts_, catalogue, kinds) for key, facts_ in reported.items()}


def _kinds_of(catalogue: Catalogue) -> Kinds:
    """Return what was found by ids so far, by the very *catalogue* that was asked about last."""
    of, kinds = _kinds[0]
    if of is not catalogue or len(kinds) > KINDS_KEPT:
        kinds = {}
        _kinds[0] = catalogue, kinds
    return kinds


#: What `_kinds_of` returns, with its catalogue.
_kinds: Final[list[tuple[Catalogue, Kinds]]] = [({}, {})]


def _found(facts_: Facts, catalogue: Catalogue, kinds: Kinds) -> Found:
    found, known_by = units(facts_, catalogue, kinds), inventory_of(facts_)
    text, digest = _encoder.encode((known_by, found)), hashlib.sha256()
    for start in range(0, len(text), DIGESTED_AT_ONCE):
        digest.update(text[start : start + DIGESTED_AT_ONCE])
    return Found(found, known_by, digest.hexdigest())


def take_changed(
    connection: Connection, found: Mapping[str, Found], digests: Mapping[str, str], others: Collection[str] = ()
) -> dict[str, Found]:
    """Return what was *found* and is another than the *digests* say that it was, on hosts whose rows are ours.

    Their accelerators, and those on *others* that are written in this transaction, are ours from here on.
    """
    changed = {host: one for host, one in found.items() if one.digest != digests.get(host)}
    accelerator_rows.lock_on(connection, {*changed, *others})
    return changed


def put_found(connection: Connection, changed: Mapping[str, Found], at: datetime) -> list[Event]:
    """Bring hardware and accelerators in step with what has changed, as `take_changed` told, and return what to tell.

    What is new is inserted inactive; what is gone stays, as missing; what an operator declared or laid over it stays.
    """
    events: list[Event] = []
    for names in portions(list(changed)):
        put_identities(connection, {host: changed[host].known_by for host in names})
        events += _put_units(connection, {host: changed[host].units for host in names}, at)
    if changed:
        rows = [{"found_on": host, "digest": changed[host].digest} for host in sorted(changed)]
        connection.execute(DIGESTED, rows)
    return events


def read_digests(connection: Connection, names: Sequence[str]) -> dict[str, str]:
    """Return what tells whether what was found on hosts has changed."""
    read: dict[str, str] = {}
    for portion in portions(names):
        read.update((row.host, row.units) for row in connection.execute(DIGESTS, {"names": portion}))
    return read


def _put_units(connection: Connection, found: Mapping[str, Sequence[Unit]], at: datetime) -> list[Event]:
    """Enter the units of hosts, and what became of those that were there before; return what there is to tell."""
    before = _read_hardware(connection, list(found))
    names = connection.execute(select(hosts.c.name, hosts.c.uuid).where(hosts.c.name.in_(found)))
    host_uuids = {row.name: UUID(row.uuid) for row in names}
    rows: list[dict[str, Any]] = []
    offers: dict[str, tuple[str, Unit, str | None]] = {}
    gone: list[str] = []
    settled = _settle(connection, found, host_uuids, before)
    for host, of_host in found.items():
        uuids = {address: str(uuid) for address, uuid in settled[host].items()}
        there = [(uuids[unit.address], unit) for unit in of_host if unit.address in uuids]
        rows += [hardware_row(host, uuid, unit, at) for uuid, unit in there]
        offers |= {uuid: (host, unit, uuids.get(unit.parent or "")) for uuid, unit in there if unit.is_accelerator}
        gone += [row.uuid for row in before[host] if row.present and row.uuid not in uuids.values()]
    upsert(connection, hardware, rows, update=LOOKED_AT)
    for portion in portions(gone):
        connection.execute(update(hardware).where(hardware.c.uuid.in_(portion)).values(present=False))
    known = {one.uuid: one for one in accelerator_rows.read_of(connection, found, ())}
    elsewhere = accelerator_rows.lock_and_read(connection, offers.keys() - known.keys())
    known |= {one.uuid: one for one in elsewhere}
    return _put_accelerators(connection, known, Looked(offers, gone, at))


def _settle(
    connection: Connection,
    found: Mapping[str, Sequence[Unit]],
    host_uuids: Mapping[str, UUID],
    before: Mapping[str, Sequence[Row[Any]]],
) -> dict[str, dict[str, UUID]]:
    """Return the uuids of units by host and address: none that a driver, another host or an operator has used first."""
    settled: dict[str, dict[str, UUID]] = {}
    taken: set[UUID] = set()
    left = set(found)
    while left:
        settled |= {host: settle(found[host], host_uuids[host], _as_known(before[host]), taken) for host in left}
        ours = {row.uuid for host in left for row in before[host]}
        new = {text: host for host in left for uuid in settled[host].values() if (text := str(uuid)) not in ours}
        others = _read_taken(connection, new)
        taken.update(map(UUID, others))
        left = {new[uuid] for uuid in others}
    return settled


def _read_taken(connection: Connection, new: Mapping[str, str]) -> set[str]:
    """Return those of the *new* uuids, each with its host, that something else has, and not an operator of no host."""
    taken: set[str] = set()
    for portion in portions(list(new)):
        taken.update(connection.execute(select(hardware.c.uuid).where(hardware.c.uuid.in_(portion))).scalars())
        columns = (accelerators.c.uuid, accelerators.c.host)
        rows = connection.execute(select(*columns).where(accelerators.c.uuid.in_(portion)))
        taken.update(row.uuid for row in rows if row.host not in {None, new[row.uuid]})
    return taken


def _read_hardware(connection: Connection, names: Sequence[str]) -> dict[str, list[Row[Any]]]:
    """Return what is kept of the hardware of hosts that facts tell of; what is there comes last."""
    columns = [hardware.c[name] for name in ("uuid", "host", "address", "ids", "serial", "present")]
    read: dict[str, list[Row[Any]]] = {name: [] for name in names}
    of_facts = hardware.c.driver.is_(None)
    query = select(*columns).where(hardware.c.host.in_(names), of_facts).order_by(hardware.c.present, hardware.c.uuid)
    for row in connection.execute(query):
        read[row.host].append(row)
    return read


def _as_known(rows: Iterable[Row[Any]]) -> list[Known]:
    return [Known(UUID(row.uuid), row.address, row.ids, row.serial) for row in rows if not row.ids.startswith("vf ")]


def hardware_row(host: str, uuid: str, unit: Unit, at: datetime) -> dict[str, Any]:
    """Return a unit as a row, with the document that the API gives of it."""
    specs = {
        "remote": 0,
        "num": unit.num,
        "device_type": unit.device_type,
        "acc_type": unit.acc_type,
        "vendor_id": unit.vendor_id,
        "product_id": unit.product_id,
        "acc_capability": unit.capability,
    }
    status = {
        "setup_required": unit.setup_required,
        "reboot_required": unit.reboot_required,
        "health": unit.health,
        "reason": unit.reason,
    }
    document = {"uuid": uuid, "host": host, "address": unit.address, "acc_specs": specs, "acc_status": status}
    return {
        "uuid": uuid,
        "host": host,
        "address": unit.address,
        # Which VF of which PF this is, its uuid says: it is never known again by its ids.
        "ids": f"vf {unit.address}" if unit.parent else f"{unit.vendor_id}:{unit.product_id}",
        "serial": unit.serial,
        "present": True,
        "is_accelerator": bool(unit.is_accelerator),
        "document": _encoder.encode(document).decode(),
        "first_seen_at": at,
    }


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look found: *offers*, of each uuid host, unit and the uuid of its PF, and those that are *gone*."""

    offers: Mapping[str, tuple[str, Unit, str | None]]
    gone: Collection[str]
    at: datetime


def _put_accelerators(connection: Connection, known: Mapping[str, Accelerator], looked: Looked) -> list[Event]:
    """Bring accelerators in step, those that are *known* on the hosts and new ones; return what there is to tell.

    What is there and no accelerator any more (a PF that got VFs) is not offered either.
    """
    offers, gone, at = looked.offers, looked.gone, looked.at
    new: list[Accelerator] = []
    changed: list[Accelerator] = []
    events: list[Event] = []
    for uuid, (host, unit, parent) in offers.items():
        old = known.get(uuid)
        one = in_step(_inactive(uuid, host, unit, at) if old is None else _as_found(old), host, unit, parent)
        if old is None:
            new.append(one)
            events.append(discovered(at, one))
        elif one != old:
            changed.append(one)
    for one in known.values():
        if one.uuid in offers or one.origin != "discovery":
            continue
        if one.uuid in gone and one.health is not Health.MISSING:
            changed.append(as_missing(one))
            events.append(missing(at, one))
        elif one.present:  # the device is: a PF that got VFs, which are offered in its place
            changed.append(replace(one, present=False, state="inactive" if one.state == "ready" else one.state))
            events.append(change_of(at, "AcceleratorWithdrawn", changed[-1], "is offered by its VFs", one))
    accelerator_rows.insert(connection, with_free_names(connection, new))
    accelerator_rows.write(connection, [replace(one, version=one.version + 1, updated_at=at) for one in changed])
    return events


def _as_found(one: Accelerator) -> Accelerator:
    """Return *one* as what was found: of what an operator had told of before, discovery says the rest from here on.

    It is not ready before that was verified.
    """
    return one if one.origin != "api" else replace(one, origin="discovery", state="inactive")


def as_missing(one: Accelerator) -> Accelerator:
    """Return *one* as it is when its device is gone."""
    return replace(one, present=False, health=Health.MISSING, state="inactive")


def discovered(at: datetime, one: Accelerator) -> Event:
    """Return the event that *one* is new."""
    return change_of(at, "AcceleratorDiscovered", one, "was found")


def missing(at: datetime, old: Accelerator) -> Event:
    """Return the event that *old* is `as_missing` now."""
    return change_of(at, "AcceleratorMissing", as_missing(old), "is not there any more", old)


def change_of(at: datetime, kind: str, one: Accelerator, words: str, old: Accelerator | None = None) -> Event:
    """Return the event that *one* is in the place of *old*; *words* go on where its address ends."""
    data = {
        "accelerator": one.uuid,
        "device_type": one.device_type,
        "driver": one.driver,
        "after": {"state": one.state},
        **({} if old is None else {"before": {"state": old.state}}),
    }
    return Event(at, kind, one.host or "", f"{one.address} {words}", data)


def with_free_names(connection: Connection, new: Sequence[Accelerator]) -> list[Accelerator]:
    """Return *new* ones with their names: where they stand, unless another one has that name, of these or of before."""
    may_be = {one.uuid: _names_for(one) for one in new}
    taken = accelerator_rows.read_taken(connection, [name for names in may_be.values() for name in names])
    named: list[Accelerator] = []
    for one in new:
        name = next((name for name in may_be[one.uuid] if name not in taken), one.name)
        taken.add(name)
        named.append(replace(one, name=name))
    return named


def _names_for(one: Accelerator) -> list[str]:
    """Return how *one* may be called, the first of which is free; a long host's name leaves room for the uuid."""
    return [one.name, *(f"{one.name[: NAME_LENGTH - len(end) - 1]} {end}" for end in (one.uuid[:8], one.uuid))]


def _inactive(uuid: str, host: str, unit: Unit, at: datetime) -> Accelerator:
    return Accelerator(uuid=uuid, name=name_at(host, unit), created_at=at, updated_at=at)


def name_at(host: str, unit: Unit) -> str:
    """Return how what stands there is called."""
    return f"{host} {unit.address}"[:NAME_LENGTH]


def in_step(one: Accelerator, host: str, unit: Unit, parent: str | None) -> Accelerator:
    """Return *one* with what discovery says; the rest is its operator's."""
    return replace(
        one,
        host=host,
        address=unit.address,
        parent=parent,
        device_type=unit.device_type,
        acc_type=unit.acc_type,
        vendor_id=unit.vendor_id,
        product_id=unit.product_id,
        num=unit.num,
        acc_capability=unit.capability,
        driver=unit.driver or None,
        setup_required=unit.setup_required,
        reboot_required=unit.reboot_required,
        attach_info=unit.attach_info,
        health=unit.health,
        present=True,
    )


# --------------------------------------------------------------------------------------------------------- what is read
def read_device(connection: Connection, *where: ColumnElement[bool]) -> Device | None:
    """Return the device for which *where* holds."""
    columns = [hardware.c[name] for name in ("uuid", "host", "address", "is_accelerator")]
    row = connection.execute(select(*columns).where(*where)).first()
    return None if row is None else Device(*row)


def read_page(connection: Connection, host: str, wanted: PageQuery) -> Page:
    """Return a page of the documents of the hardware that is there."""
    query = select(hardware.c.uuid, hardware.c.document).where(hardware.c.present)
    if host:
        query = query.where(hardware.c.host == host)
    shown, more = pages.read_page(connection, query, hardware.c.uuid, wanted, wanted.marker or None)
    return Page([row.document for row in shown], shown[-1].uuid if shown else "", more)
