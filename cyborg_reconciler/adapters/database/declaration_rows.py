# SPDX-License-Identifier: Apache-2.0
"""What does the database know of what is declared, and for which hosts? The statements about tree and inventory.

Called by the journal, which records both, and by the stores, inside their transactions.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, Row, delete, select

from cyborg_reconciler.adapters.database.asking import ask
from cyborg_reconciler.adapters.database.engine import portions, reading, take_turns, upsert
from cyborg_reconciler.adapters.database.schema import declarations, declared_documents, declared_stamp, inventory
from cyborg_reconciler.adapters.database.statements import find
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.declared import IMPLIED_PLACE, Declared, Located, is_of_tree
from cyborg_reconciler.documents.driver import Driver, DriverDocSpec

#: Yields the stamp of what is declared now. Made once: making it takes longer than running it.
NEWEST: Final = select(declared_stamp.c.stamp)

#: What is compared of a document, beside its kind and its name.
COMPARED: Final = ("file", "lines", "document")

#: Kind and name of a document.
Key = tuple[str, str]


def rows_of(declared: Declared) -> list[dict[str, Any]]:
    """Return each document that is declared, as it was written, as a row; what is implied, nobody has written."""
    documents: tuple[Located[Any], ...] = (*declared.policies, *declared.drivers, *declared.pools)
    return [
        {
            "kind": located.document.kind,
            "name": located.document.metadata.name,
            "file": located.file,
            "lines": _text(located.lines),
            "document": located.document.model_dump_json(by_alias=True, exclude_unset=True),
        }
        for located in documents
        if located.file != IMPLIED_PLACE
    ]


def stamp_of(declared: Declared, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return sha256 over what is declared, in hex."""
    return hashlib.sha256(msgspec.json.encode([declared.prunes, rows])).hexdigest()


def read_stamp(connection: Connection) -> str:
    """Return the stamp of what is declared now; empty when nothing ever was."""
    return connection.execute(select(declared_stamp.c.stamp)).scalar() or ""


def put_declared(connection: Connection, declared: Declared, rows: Sequence[Mapping[str, Any]], at: datetime) -> None:
    """Enter what is declared now: of the tree what has changed, by itself and for its history; and the drivers."""
    take_turns(connection)
    before = connection.execute(select(declared_stamp.c.tree)).scalar()
    known = {(row.kind, row.name): row for row in connection.execute(select(declared_documents))}
    tree = {(row["kind"], row["name"]): row for row in rows if is_of_tree(row["file"])}
    gone = [row for key, row in known.items() if key not in tree]
    digest = _tree_digest(tree)
    if digest != before:
        row = {
            "digest": digest,
            "previous": before or None,
            "document": _changes(known, tree, gone),
            "first_seen_at": at,
        }
        upsert(connection, declarations, [row], update=[])
    for went in gone:
        is_it = (declared_documents.c.kind == went.kind, declared_documents.c.name == went.name)
        connection.execute(delete(declared_documents).where(*is_it))
    changed = [row for key, row in tree.items() if _compared(known.get(key)) != tuple(row[name] for name in COMPARED)]
    upsert(connection, declared_documents, changed, update=COMPARED)
    connection.execute(delete(declared_stamp))
    drivers = [msgspec.Raw(row["document"].encode()) for row in rows if row["kind"] == "Driver"]
    stamp = {"stamp": stamp_of(declared, rows), "digest": declared.digest, "prunes": declared.prunes}
    connection.execute(
        declared_stamp.insert().values(**stamp, recorded_at=at, tree=digest, catalogue=_text(drivers)),
    )


def _compared(row: Row[Any] | None) -> tuple[str, ...] | None:
    return None if row is None else tuple(getattr(row, name) for name in COMPARED)


def _tree_digest(tree: Mapping[Key, Mapping[str, Any]]) -> str:
    """Return sha256 over the documents of the tree, in hex; where their lines stand in the files does not count."""
    told = [[*key, row["file"], row["document"]] for key, row in sorted(tree.items())]
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


def _changes(known: Mapping[Key, Row[Any]], tree: Mapping[Key, Mapping[str, Any]], gone: Sequence[Row[Any]]) -> str:
    """Return the documents that are others than are *known*, as JSON; one that is *gone* is null."""
    changed = [
        {**{name: row[name] for name in ("kind", "name", "file")}, "document": msgspec.Raw(row["document"].encode())}
        for key, row in sorted(tree.items())
        if key not in known or (known[key].file, known[key].document) != (row["file"], row["document"])
    ]
    went = [{"kind": row.kind, "name": row.name, "file": row.file, "document": None} for row in gone]
    return _text([*changed, *went])


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def find_changed(connection: Connection, hosts: Sequence[Host]) -> list[Host]:
    """Return those of *hosts* of which the inventory says something else than is known."""
    known = read_inventory(connection, [host.name for host in hosts])
    return [host for host in hosts if host.name not in known or _said(known[host.name]) != _said(host)]


def _said(host: Host) -> tuple[object, ...]:
    return host.groups, host.labels, host.agent_endpoint


def put_inventory(connection: Connection, hosts: Sequence[Host]) -> None:
    """Enter what the inventory says of *hosts*."""
    rows = [
        {
            "host": host.name,
            "groups": _text(sorted(host.groups)),
            "labels": _text(dict(host.labels)),
            "agent_endpoint": host.agent_endpoint or None,
        }
        for host in hosts
    ]
    upsert(connection, inventory, rows, update=["groups", "labels", "agent_endpoint"])


def read_inventory(connection: Connection, names: Sequence[str]) -> dict[str, Host]:
    """Return those of the hosts called *names* that were ever in the inventory."""
    return {
        row.host: Host(
            row.host,
            frozenset(msgspec.json.decode(row.groups)),
            msgspec.json.decode(row.labels),
            agent_endpoint=row.agent_endpoint or "",
        )
        for portion in portions(names)
        for row in connection.execute(select(inventory).where(inventory.c.host.in_(portion)))
    }


def read_catalogue(connection: Connection) -> dict[str, DriverDocSpec]:
    """Return the drivers of what is declared now, by name; none before anything was.

    It is the same object as long as nothing else is declared.
    """
    rows = find(connection, NEWEST)
    if not rows:
        return NO_DRIVERS
    stamp = rows[0].stamp
    if (known := _catalogues.get(stamp)) is None:
        is_it = declared_stamp.c.stamp == stamp
        document = connection.execute(select(declared_stamp.c.catalogue).where(is_it)).scalar()
        if document is None:  # another process has recorded something else since
            return read_catalogue(connection)
        _catalogues.clear()
        known = _catalogues[stamp] = _parse_catalogue(document)
    return known


def catalogue_now(engine: Engine) -> dict[str, DriverDocSpec]:
    """Return the same, asked outside of any transaction: mostly it is known, and a stamp tells so."""
    rows = ask(engine, NEWEST)
    known = _catalogues.get(rows[0].stamp) if rows else NO_DRIVERS
    if known is not None:
        return known
    with reading(engine) as connection:
        return read_catalogue(connection)


NO_DRIVERS: Final[dict[str, DriverDocSpec]] = {}

#: The catalogue of the newest declarations, by their stamp: decoded once a process.
_catalogues: dict[str, dict[str, DriverDocSpec]] = {}


def _parse_catalogue(document: str) -> dict[str, DriverDocSpec]:
    found: dict[str, DriverDocSpec] = {}
    for one in msgspec.json.decode(document):
        driver = Driver.model_validate(one, strict=False)  # it was judged when it was declared
        found.setdefault(driver.metadata.name, driver.spec)  # the first counts, as in `compile_policies`
    return found
