# SPDX-License-Identifier: Apache-2.0
"""What does the database know of hosts that are to be looked at, and of passes? The statements about both.

`enqueue` is called inside the transaction of whoever changes something about a host: both are on disk, or neither is.
"""

import functools
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Insert, and_, bindparam, case, delete, literal_column, select, true, update
from sqlalchemy.dialects import postgresql, sqlite

from cyborg_reconciler.adapters.database.engine import POSTGRESQL, as_list, listed, upsert
from cyborg_reconciler.adapters.database.schema import passes, queue
from cyborg_reconciler.adapters.database.statements import put
from cyborg_reconciler.stores.work import Pass, QueueItem

MICROSECONDS: Final = 1_000_000
#: Characters of a reason that are kept.
REASON_LENGTH: Final = 64


def enqueue(connection: Connection, hosts: Collection[str], reason: str, at: datetime) -> None:
    """Have *hosts* looked at, and at once.

    A ticket is a time in microseconds, or one more than the last where the clock did not go on: also after a host was
    removed from the queue, nobody mistakes the next ticket for the one that he has served.
    """
    if not hosts:
        return
    dialect, ticket = connection.dialect.name, int(at.timestamp() * MICROSECONDS)
    # Those of one transaction in the same order as everybody's, so that no two wait for each other.
    given = {
        "names": as_list(dialect, sorted(set(hosts))),
        "why": reason[:REASON_LENGTH],
        "new_ticket": ticket,
        "at": at,
    }
    put(connection, _enqueuing(dialect), [given])


@functools.cache
def _enqueuing(dialect: str) -> Insert:
    """Return the statement of `enqueue`: making it takes longer than running it."""
    names = listed(dialect, "names")
    given = {
        "host": names.c.value,
        "reason": bindparam("why", type_=queue.c.reason.type),
        "ticket": bindparam("new_ticket", type_=queue.c.ticket.type),
        "enqueued_at": bindparam("at", type_=queue.c.enqueued_at.type),
        "attempts": literal_column("0"),
        "not_before": bindparam("at", type_=queue.c.not_before.type),
    }
    # SQLite would take "ON CONFLICT" for a part of the query that has no condition.
    rows = select(*given.values()).select_from(names).where(true())
    if dialect == POSTGRESQL:
        rows = rows.order_by(names.c.value.collate("C"))  # as in `lock_rows`
    statement = (postgresql.insert if dialect == POSTGRESQL else sqlite.insert)(queue).from_select([*given], rows)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["host"],
        set_={
            "reason": new.reason,
            "ticket": case((queue.c.ticket >= new.ticket, queue.c.ticket + 1), else_=new.ticket),
            "not_before": new.not_before,
        },
    )


def take(connection: Connection, limit: int, at: datetime) -> list[QueueItem]:
    """Return the hosts that are due, those first that wait longest."""
    columns = (queue.c.host, queue.c.ticket, queue.c.reason, queue.c.attempts)
    due = select(*columns).where(queue.c.not_before <= at).order_by(queue.c.enqueued_at, queue.c.host)
    return [QueueItem(*row) for row in connection.execute(due.limit(limit))]


def remove(connection: Connection, items: Sequence[QueueItem]) -> None:
    """Remove those that were not enqueued again."""
    if items:
        same = and_(queue.c.host == bindparam("served"), queue.c.ticket == bindparam("with_ticket"))
        # In the order in which `enqueue` writes: they were taken in that of their waiting.
        rows = [{"served": one.host, "with_ticket": one.ticket} for one in sorted(items, key=lambda one: one.host)]
        connection.execute(delete(queue).where(same), rows)


def put_off(connection: Connection, item: QueueItem, not_before: datetime, why: str) -> None:
    """Put off one that was not enqueued again."""
    same = and_(queue.c.host == item.host, queue.c.ticket == item.ticket)
    values = {"not_before": not_before, "attempts": item.attempts + 1, "reason": why[:REASON_LENGTH]}
    connection.execute(update(queue).where(same).values(values))


def count_pass(connection: Connection, one: Pass) -> None:
    """Enter a pass of the worker."""
    key = {"kind": one.kind, "result": one.result}
    upsert(connection, passes, [{**key, "count": 0, "seconds": 0.0, "ended_at": one.ended_at}], update=[])
    values = {
        "count": passes.c["count"] + 1,
        "seconds": passes.c.seconds + one.seconds,
        "ended_at": one.ended_at,
    }
    is_it = (passes.c.kind == one.kind, passes.c.result == one.result)
    connection.execute(update(passes).where(*is_it).values(values))
