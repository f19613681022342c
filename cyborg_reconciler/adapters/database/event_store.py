# SPDX-License-Identifier: Apache-2.0
"""The audit trail as the API shows it. Opened by `bootstrap`, called by the API."""

from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Row, func, select

from cyborg_reconciler.adapters.database.asking import ask
from cyborg_reconciler.adapters.database.engine import reading
from cyborg_reconciler.adapters.database.event_rows import read_forgotten
from cyborg_reconciler.adapters.database.pages import read_page, render
from cyborg_reconciler.adapters.database.schema import events
from cyborg_reconciler.stores.pages import Page, PageQuery

#: What of an event's data the API shows by itself: who did it, how it was, how it is.
LIFTED: Final = ("by", "before", "after")


#: So many events are looked up one by one.
FEW: Final = 2000

#: Yields the number of the newest event. Made once: making it takes longer than running it.
NEWEST: Final = select(func.max(events.c.number).label("newest"))


class DatabaseEvents:
    """The audit trail, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, wanted: PageQuery) -> Page:
        """Return a page of events."""
        query = select(events)
        for name, value in wanted.equal.items():
            query = query.where(events.c[name] == value)
        marker = int(wanted.marker) if wanted.marker else None
        with reading(self._engine) as connection:
            if wanted.since is not None:
                query = query.where(_is_since(connection, wanted.since))
            rows, more = read_page(connection, query, events.c.number, wanted, marker)
        return Page([_event(row) for row in rows], str(rows[-1].number) if rows else "", more)

    def newest(self) -> int:
        """Return the number of the newest event."""
        return ask(self._engine, NEWEST)[0].newest or 0

    def forgotten(self) -> int:
        """Return up to which number events are forgotten."""
        with reading(self._engine) as connection:
            return read_forgotten(connection)


def _is_since(connection: Connection, since: datetime) -> ColumnElement[bool]:
    """Return what holds for the events from *since* on. Where they are few, they are found by their times.

    Where they are many, a page is full soon, whichever way it is looked for.
    """
    is_since = events.c.at >= since
    few = connection.execute(select(events.c.number).where(is_since).limit(FEW + 1)).scalars().all()
    return is_since if len(few) > FEW else events.c.number.in_(few)


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
