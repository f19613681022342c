# SPDX-License-Identifier: Apache-2.0
"""What is forgotten once it is old, as the database has it. Opened by `bootstrap`, called by the worker."""

from datetime import datetime
from typing import Final, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, delete, select

from cyborg_reconciler.adapters.database.engine import reading, writing
from cyborg_reconciler.adapters.database.event_rows import FORGOTTEN, put_event, read_forgotten
from cyborg_reconciler.adapters.database.schema import enrolments, events, plans, proposals, runs
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.retention import Old

Key = TypeVar("Key")

#: Rows of a kind that are forgotten in one transaction.
AT_ONCE: Final = 5000


class DatabaseRetention:
    """What is kept for a while, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def forget(self, old: Old) -> None:
        """Forget what is *old*, `AT_ONCE` rows of each kind."""
        with reading(self._engine) as connection:  # most of the time there is nothing, and nobody need wait for that
            tokens = _read(connection, enrolments.c.token_hash, enrolments.c.expires_at, old.at)
            uuids = _read(connection, plans.c.uuid, plans.c.recorded_at, old.plans_before, _was_asked_for, ~_has_a_run)
            numbers = _read(connection, events.c.number, events.c.at, old.events_before, ~_is_of_open_run)
        if not (tokens or uuids or numbers):
            return
        with writing(self._engine) as connection:
            connection.execute(delete(enrolments).where(enrolments.c.token_hash.in_(tokens)))
            connection.execute(delete(plans).where(plans.c.uuid.in_(uuids), ~_has_a_run))
            if numbers:  # told of first, so that there always is a newest one: no number is given twice
                data = {"up_to": max(*numbers, read_forgotten(connection)), "count": len(numbers)}
                put_event(
                    connection, Event(old.at, FORGOTTEN, message=f"{len(numbers)} events: they are old", data=data)
                )
                connection.execute(delete(events).where(events.c.number.in_(numbers)))


_was_asked_for: Final = plans.c.uuid.in_(select(proposals.c.plan_uuid))
_has_a_run: Final = select(runs.c.number).where(runs.c.plan_uuid == plans.c.uuid).exists()
_is_of_open_run: Final = select(runs.c.number).where(runs.c.uuid == events.c.run, runs.c.ended_at.is_(None)).exists()


def _read(
    connection: Connection,
    key: ColumnElement[Key],
    time: ColumnElement[datetime],
    before: datetime | None,
    *where: ColumnElement[bool],
) -> list[Key]:
    """Return the keys of rows of a *time* before *before*, the oldest first; none where that is None."""
    if before is None:
        return []
    query = select(key).where(time < before, *where).order_by(time, key).limit(AT_ONCE)
    return list(connection.execute(query).scalars())
