# SPDX-License-Identifier: Apache-2.0
"""What does the database know of events? The statements about the audit trail.

Called by the journal and the store, inside their transactions.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from cyborg_reconciler.adapters.database.schema import events
from cyborg_reconciler.ports import Event
from cyborg_reconciler.tracing import REQUEST_ID


def put_event(connection: Connection, event: Event) -> None:
    """Append to the audit trail."""
    put_events(connection, [event])


def put_events(connection: Connection, told: Sequence[Event]) -> None:
    """Append to the audit trail, in this order; what happens since somebody asked bears the id of his request."""
    request_id = REQUEST_ID.get()
    asked = {"request_id": request_id} if request_id else {}
    rows = [
        {
            "at": event.at,
            "kind": event.kind,
            "host": event.host,
            "message": event.message,
            "data": msgspec.json.encode({**asked, **(event.data or {})}).decode() if asked or event.data else None,
        }
        for event in told
    ]
    if rows:
        connection.execute(events.insert(), rows)


def read_events(connection: Connection, host: str, limit: int) -> list[Event]:
    """Return the newest events, newest first; of one host when *host* is given."""
    query = select(events).order_by(events.c.number.desc()).limit(limit)
    if host:
        query = query.where(events.c.host == host)
    return [parse_event(row) for row in connection.execute(query)]


def parse_event(row: Row[Any]) -> Event:
    """Return a row of the table events as what it says."""
    data = None if row.data is None else msgspec.json.decode(row.data, type=dict[str, Any])
    return Event(at=row.at, kind=row.kind, host=row.host, message=row.message, data=data)
