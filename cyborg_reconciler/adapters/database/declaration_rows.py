# SPDX-License-Identifier: Apache-2.0
"""What does the database know of what is declared, and for which hosts? The statements about tree and inventory.

Called by the journal, which records both, and by the stores, inside their transactions.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, select

from cyborg_reconciler.adapters.database.engine import portions, take_turns, upsert
from cyborg_reconciler.adapters.database.schema import declarations, declared_documents, declared_stamp, inventory
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.declared import IMPLIED_PLACE, Declared, Located, is_of_tree
from cyborg_reconciler.documents.driver import Driver, DriverDocSpec

#: Yields the digest of what is declared now. Made once: making it takes longer than running it.
NEWEST: Final = select(declared_stamp.c.digest)


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
    """Enter what is declared now; of it, the tree's documents by themselves, in the place of those that are there."""
    plain = [{"file": row["file"], "document": msgspec.Raw(row["document"].encode())} for row in rows]
    take_turns(connection)
    row = {"digest": declared.digest, "document": _text(plain), "first_seen_at": at}
    upsert(connection, declarations, [row], update=[])
    connection.execute(delete(declared_stamp))
    stamp = {"stamp": stamp_of(declared, rows), "digest": declared.digest, "prunes": declared.prunes}
    connection.execute(declared_stamp.insert().values(**stamp, recorded_at=at))
    connection.execute(delete(declared_documents))
    upsert(connection, declared_documents, [row for row in rows if is_of_tree(row["file"])], update=[])


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
    """Return the drivers of what is declared now, by name; none before anything was."""
    digest = connection.execute(NEWEST).scalar()
    if digest is None:
        return {}
    if (known := _catalogues.get(digest)) is None:
        document = connection.execute(select(declarations.c.document).where(declarations.c.digest == digest)).scalar()
        _catalogues.clear()
        known = _catalogues[digest] = _parse_catalogue(document or "[]")
    return known


#: The catalogue of the newest declarations, by their digest: decoded once a process.
_catalogues: dict[str, dict[str, DriverDocSpec]] = {}


def _parse_catalogue(document: str) -> dict[str, DriverDocSpec]:
    found: dict[str, DriverDocSpec] = {}
    for one in msgspec.json.decode(document):
        if one["document"].get("kind") == "Driver":
            driver = Driver.model_validate(one["document"], strict=False)  # it was judged when it was declared
            found.setdefault(driver.metadata.name, driver.spec)  # the first counts, as in `compile_policies`
    return found
