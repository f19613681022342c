# SPDX-License-Identifier: Apache-2.0
"""The audit trail as the API shows it. Opened by `bootstrap`, called by the API."""

from typing import Any, Final

import msgspec
from sqlalchemy import Engine, Row, func, select

from cyborg_reconciler.adapters.database.engine import reading
from cyborg_reconciler.adapters.database.pages import read_page, render
from cyborg_reconciler.adapters.database.schema import events
from cyborg_reconciler.fleet_stores import Wanted
from cyborg_reconciler.stores import Page

#: What of an event's data the API shows by itself: who did it, how it was, how it is.
LIFTED: Final = ("by", "before", "after")


class DatabaseEvents:
    """The audit trail, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, wanted: Wanted) -> Page:
        """Return a page of events."""
        query = select(events)
        for name, value in wanted.equal.items():
            query = query.where(events.c[name] == value)
        if wanted.since is not None:
            query = query.where(events.c.at >= wanted.since)
        marker = int(wanted.marker) if wanted.marker else None
        with reading(self._engine) as connection:
            rows, more = read_page(connection, query, events.c.number, wanted, marker)
        return Page([_event(row) for row in rows], str(rows[-1].number) if rows else "", more)

    def newest(self) -> int:
        """Return the number of the newest event."""
        with reading(self._engine) as connection:
            return connection.execute(select(func.max(events.c.number))).scalar() or 0


def _event(row: Row[Any]) -> str:
    """Return an event as the API gives it."""
    data = msgspec.json.decode(row.data, type=dict[str, Any]) if row.data else {}
    lifted = {name: data.pop(name, None) for name in LIFTED}
    return render(
        {
            "number": row.number,
            "at": row.at,
            "kind": row.kind,
            "host": row.host or None,
            "run": row.run,
            "message": row.message,
            **lifted,
            "data": data,
        }
    )
