# SPDX-License-Identifier: Apache-2.0
"""What does the database know of events? The statements about the audit trail.

Called by the journal and the store, inside their transactions.
"""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, select

from cyborg_reconciler.adapters.database.schema import events
from cyborg_reconciler.ports import Event

#: The lock under which events get their numbers; any number that nobody else in the database uses.
IN_ORDER: Final = 0x6379626F7267


def put_event(connection: Connection, event: Event) -> int:
    """Append to the audit trail, and return the entry's number.

    Numbers appear in their order, so that whoever has read up to one has missed none: SQLite has one writer at a time,
    and elsewhere each waits for those before it. Make it the last thing of a transaction.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(IN_ORDER)))
    data = None if event.data is None else msgspec.json.encode(event.data).decode()
    row = {"at": event.at, "kind": event.kind, "host": event.host, "message": event.message, "data": data}
    entered = connection.execute(events.insert().values(**row, run=event.run))
    return int(entered.inserted_primary_key[0])  # type: ignore[index]  # an insert of one row has one


def read_events(connection: Connection, host: str, limit: int) -> list[Event]:
    """Return the newest events, newest first; of one host when *host* is given."""
    query = select(events).order_by(events.c.number.desc()).limit(limit)
    if host:
        query = query.where(events.c.host == host)
    return [parse_event(row) for row in connection.execute(query)]


def parse_event(row: Row[Any]) -> Event:
    """Return a row of the table events as what it says."""
    data = None if row.data is None else msgspec.json.decode(row.data, type=dict[str, Any])
    return Event(at=row.at, kind=row.kind, host=row.host, message=row.message, data=data, run=row.run)
