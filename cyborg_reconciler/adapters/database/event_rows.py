# SPDX-License-Identifier: Apache-2.0
"""What does the database know of events? The statements about the audit trail.

Called by the journal and the store, inside their transactions.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, select

from cyborg_reconciler.adapters.database import postgresql
from cyborg_reconciler.adapters.database.engine import take_turns
from cyborg_reconciler.adapters.database.run_rows import read_request
from cyborg_reconciler.adapters.database.schema import events
from cyborg_reconciler.ports import Event
from cyborg_reconciler.tracing import REQUEST_ID, of_request

#: The kind of event that tells up to which number events are forgotten.
FORGOTTEN: Final = "EventsForgotten"


def put_event(connection: Connection, event: Event) -> int:
    """Append to the audit trail, with the id of the request that it, or its run, came of; return the entry's number.

    As with `put_events`, let it be the last thing.
    """
    in_order(connection)
    with of_request("" if REQUEST_ID.get() or not event.run else read_request(connection, event.run)):
        entered = connection.execute(events.insert().values(_row_of(event)))
    return int(entered.inserted_primary_key[0])  # type: ignore[index]  # an insert of one row has one


def put_events(connection: Connection, told: Sequence[Event]) -> None:
    """Append to the audit trail, in this order. Let it be the last thing of a transaction: others wait from here on."""
    if told:
        in_order(connection)
        connection.execute(events.insert(), [_row_of(event) for event in told])


def in_order(connection: Connection) -> None:
    """Have numbers appear in their order, so that whoever has read up to one has missed none.

    SQLite has one writer at a time; elsewhere each waits until those with lower numbers have come to their end.
    """
    take_turns(connection, postgresql.EVENTS)


def _row_of(event: Event) -> dict[str, Any]:
    return {
        "at": event.at,
        "kind": event.kind,
        "host": event.host,
        "message": event.message,
        "data": _data_of(event),
        "run": event.run or None,
    }


def _data_of(event: Event) -> str | None:
    request_id = REQUEST_ID.get()
    told = {"request_id": request_id, **(event.data or {})} if request_id else event.data
    return None if told is None else msgspec.json.encode(told).decode()


def read_events(connection: Connection, host: str, limit: int) -> list[Event]:
    """Return the newest events, newest first; of one host when *host* is given."""
    query = select(events).order_by(events.c.number.desc()).limit(limit)
    if host:
        query = query.where(events.c.host == host)
    return [parse_event(row) for row in connection.execute(query)]


def read_forgotten(connection: Connection) -> int:
    """Return up to which number events are forgotten; 0 where none are."""
    query = select(events).where(events.c.kind == FORGOTTEN).order_by(events.c.number.desc()).limit(1)
    row = connection.execute(query).first()
    return 0 if row is None else int((parse_event(row).data or {})["up_to"])


def parse_event(row: Row[Any]) -> Event:
    """Return a row of the table events as what it says."""
    data = None if row.data is None else msgspec.json.decode(row.data, type=dict[str, Any])
    return Event(at=row.at, kind=row.kind, host=row.host, message=row.message, data=data, run=row.run or "")
