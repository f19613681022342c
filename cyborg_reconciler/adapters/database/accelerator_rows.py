# SPDX-License-Identifier: Apache-2.0
"""What does the database know of accelerators? The statements about accelerators and allocations.

Called by the store, inside its transactions.
"""

import functools
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
    update,
)

from cyborg_reconciler.adapters.database.asking import ask
from cyborg_reconciler.adapters.database.backend_store import register
from cyborg_reconciler.adapters.database.engine import POSTGRESQL, lock_rows, portions, update_if
from cyborg_reconciler.adapters.database.schema import accelerators, allocations
from cyborg_reconciler.core.state import Health
from cyborg_reconciler.errors import FieldError, RequestInvalidError
from cyborg_reconciler.stores.accelerators import Accelerator, AcceleratorFilter, Attachment, document_of
from cyborg_reconciler.stores.pages import Page

_columns: Final = accelerators.c
#: The columns that hold what an `Accelerator` has under the same name, as it is.
PLAIN: Final = (
    *("uuid", "name", "host", "address", "parent", "origin", "claimed", "description", "device_type"),
    *("acc_type", "vendor_id", "product_id", "remotable", "num", "driver", "state", "desired_state", "setup_required"),
    *("reboot_required", "resource_provider_uuid", "present", "state_policy", "binding_policy", "version"),
    *("created_at", "updated_at"),
)


#: Puts a row, each column of which has ``new_`` before its name, in the place of the one with its uuid.
WRITTEN: Final = (
    update(accelerators)
    .where(_columns.uuid == bindparam("new_uuid"))
    .values({c.name: bindparam(f"new_{c.name}") for c in _columns if c.name not in {"accelerator_id", "uuid"}})
)


#: By what a list may be ordered, where that is not the column as it is: one of no host comes first, in both databases.
KEYS: Final = {"host": func.coalesce(_columns.host, "")}


def read_page(engine: Engine, wanted: AcceleratorFilter) -> Page:
    """Return a page of documents, found by their key and not by counting."""
    given: dict[str, Any] = {f"equal_{name}": value for name, value in wanted.equal.items()}
    if wanted.marker:
        given |= {"marker": wanted.marker}
        if wanted.sort != "uuid":  # in the order of uuids, the marker's own row need not be there any more
            given |= {"after": _place_of(engine, wanted)}
    query = _paged(tuple(sorted(wanted.equal)), wanted.attached, wanted.sort, wanted.descending, bool(wanted.marker))
    rows = ask(engine, query, **given, most=wanted.limit + 1)
    shown = rows[: wanted.limit]
    return Page([row.document for row in shown], shown[-1].uuid if shown else "", len(rows) > len(shown))


@functools.lru_cache(maxsize=128)
def _paged(
    equal: tuple[str, ...],
    attached: bool | None,  # noqa: FBT001 - as the cache needs it
    sort: str,
    descending: bool,  # noqa: FBT001 - the same
    is_marked: bool,  # noqa: FBT001 - the same
) -> Select[Any]:
    """Return what yields a page: of those that have the values ``equal_NAME``, *most* rows after the *marker*."""
    query = select(_columns.uuid, _columns.document)
    query = query.where(*(_columns[name] == bindparam(f"equal_{name}") for name in equal))
    if attached is not None:
        is_attached = _columns.attach_status.is_not(None)
        query = query.where(is_attached if attached else ~is_attached)
    key = KEYS.get(sort, _columns[sort])
    order = [_columns.uuid] if sort == "uuid" else [key, _columns.uuid]
    if is_marked:
        marker, after = bindparam("marker", type_=_columns.uuid.type), bindparam("after", type_=key.type)
        beyond = _columns.uuid < marker if descending else _columns.uuid > marker
        is_further = key < after if descending else key > after
        query = query.where(beyond if sort == "uuid" else or_(is_further, and_(key == after, beyond)))
    query = query.order_by(*(column.desc() if descending else column.asc() for column in order))
    return query.limit(bindparam("most", type_=Integer()))


def _place_of(engine: Engine, wanted: AcceleratorFilter) -> object:
    """Return what the marker's row has where the order looks.

    Raises:
        RequestInvalidError: it is gone.
    """
    rows = ask(engine, _place(wanted.sort), marker=wanted.marker)
    if not rows:
        wrong = FieldError("marker", "there is no such accelerator any more; begin again without a marker")
        raise RequestInvalidError("the marker", [wrong])
    return rows[0].key


@functools.lru_cache(maxsize=128)
def _place(sort: str) -> Select[Any]:
    return select(KEYS.get(sort, _columns[sort]).label("key")).where(_columns.uuid == bindparam("marker"))


#: Yields the document and the version of the accelerator with the uuid *wanted*. Made once: making it takes longer than
#: running it.
DOCUMENT: Final = select(_columns.document, _columns.version).where(_columns.uuid == bindparam("wanted"))


def read(connection: Connection, *where: ColumnElement[bool]) -> Accelerator | None:
    """Return the accelerator for which *where* holds."""
    row = connection.execute(select(accelerators).where(*where)).first()
    return None if row is None else parse_accelerator(row)


def read_of(connection: Connection, names: Collection[str], uuids: Collection[str]) -> list[Accelerator]:
    """Return the accelerators on the hosts called *names*, and those with *uuids*."""
    found: dict[str, Accelerator] = {}
    for column, wanted in ((_columns.host, names), (_columns.uuid, uuids)):
        for portion in portions(list(wanted)):
            rows = connection.execute(select(accelerators).where(column.in_(portion)))
            found.update((row.uuid, parse_accelerator(row)) for row in rows)
    return list(found.values())


def lock_and_read(connection: Connection, uuids: Collection[str]) -> list[Accelerator]:
    """Return the accelerators with *uuids*, wherever they are; others are kept from writing them."""
    if uuids:
        lock_rows(connection, _columns.uuid, sorted(uuids))
    return read_of(connection, (), uuids)


def lock_on(connection: Connection, names: Collection[str]) -> None:
    """Keep others from writing the accelerators on the hosts called *names*: what is read of them now may be relied on.

    All at once, for whoever writes those of one host after those of another has no order.
    """
    if connection.dialect.name != POSTGRESQL:
        return
    uuids: list[str] = []
    for portion in portions(sorted(names)):
        uuids += connection.execute(select(_columns.uuid).where(_columns.host.in_(portion))).scalars()
    lock_rows(connection, _columns.uuid, uuids)


def read_taken(connection: Connection, names: Collection[str]) -> set[str]:
    """Return those of *names* that an accelerator has."""
    taken: set[str] = set()
    for portion in portions(list(names)):
        taken.update(connection.execute(select(_columns.name).where(_columns.name.in_(portion))).scalars())
    return taken


def parse_accelerator(row: Row[Any]) -> Accelerator:
    """Return a row of the table accelerators as what it says."""
    attachment = None
    if row.attach_status is not None:
        attachment = Attachment(
            row.attach_status, row.attached_at, row.instance_uuid, row.attached_host, row.project_id
        )
    return Accelerator(
        **{name: getattr(row, name) for name in PLAIN},
        acc_capability=msgspec.json.decode(row.acc_capability),
        overlay=msgspec.json.decode(row.overlay),
        health=Health(row.seen_health),
        told_health=Health(row.told_health),
        attach_info=None if row.attach_info is None else msgspec.json.decode(row.attach_info),
        attachment=attachment,
    )


def row_of(one: Accelerator) -> dict[str, Any]:
    """Return an accelerator as a row."""
    held = one.attachment
    return {
        **{name: getattr(one, name) for name in PLAIN},
        "acc_capability": _text(one.acc_capability),
        "overlay": _text(one.overlay),
        "health": one.fares.value,
        "seen_health": one.health.value,
        "told_health": one.told_health.value,
        "attach_info": None if one.attach_info is None else _text(one.attach_info),
        "instance_uuid": held.instance_uuid if held else None,
        "attached_host": held.host if held else None,
        "project_id": held.project_id if held else None,
        "attach_status": held.status if held else None,
        "attached_at": held.attached_at if held else None,
        "document": document_of(one),
    }


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def insert(connection: Connection, new: Sequence[Accelerator]) -> None:
    """Enter new accelerators."""
    if new:
        connection.execute(accelerators.insert(), [row_of(one) for one in new])
        register(connection, [(one.host, one.driver) for one in new])


def write(connection: Connection, changed: Sequence[Accelerator]) -> None:
    """Put accelerators in the place of their rows, which are ours: see `lock_on`."""
    if changed:
        rows = [row_of(one) for one in sorted(changed, key=lambda one: one.uuid)]  # as everybody
        connection.execute(WRITTEN, [{f"new_{key}": value for key, value in row.items()} for row in rows])
        register(connection, [(one.host, one.driver) for one in changed])


def replace_if(connection: Connection, one: Accelerator, seen: int) -> bool:
    """Put *one* in the place of its row, if that still has the version that was *seen*; return whether it had.

    It stays on its host, and with its driver: its backend is there.
    """
    return update_if(connection, accelerators, {"uuid": one.uuid}, seen, row_of(one))


def read_consumers(connection: Connection, uuid: str) -> list[str]:
    """Return who has an allocation of the accelerator."""
    query = select(allocations.c.consumer).where(allocations.c.accelerator == uuid).order_by(allocations.c.consumer)
    return list(connection.execute(query).scalars())


def read_found(connection: Connection, hosts: Sequence[str]) -> list[Accelerator]:
    """Return the accelerators that are there on *hosts*, at an address."""
    where = (_columns.address.is_not(None), _columns.present)
    rows = (
        row
        for names in portions(hosts)
        for row in connection.execute(select(accelerators).where(_columns.host.in_(names), *where))
    )
    return [parse_accelerator(row) for row in rows]


def read_unsettled(connection: Connection, hosts: Sequence[str]) -> list[Accelerator]:
    """Return the accelerators that are attached to one of *hosts*, which is not done."""
    is_open = _columns.attach_status != "done"
    rows = (
        row
        for names in portions(hosts)
        for row in connection.execute(select(accelerators).where(_columns.attached_host.in_(names), is_open))
    )
    return [parse_accelerator(row) for row in rows]


def read_implying(connection: Connection) -> list[Accelerator]:
    """Return the accelerators at an address of a host that are attached to it, or wanted in some state.

    Among the latter are PFs that are offered by their VFs: what is wanted of the card is wanted all the same.
    """
    is_attached = and_(_columns.attached_host == _columns.host, _columns.present)
    is_there = or_(_columns.present, _columns.seen_health != Health.MISSING.value)
    is_wanted = and_(_columns.desired_state != "inactive", is_there)
    where = (_columns.host.is_not(None), _columns.address.is_not(None), or_(is_attached, is_wanted))
    return [parse_accelerator(row) for row in connection.execute(select(accelerators).where(*where))]
