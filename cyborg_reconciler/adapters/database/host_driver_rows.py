# SPDX-License-Identifier: Apache-2.0
"""What does the database know of drivers on hosts, as the API declares them? The statements about host_drivers."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, select, update

from cyborg_reconciler.adapters.database import run_rows
from cyborg_reconciler.adapters.database.engine import portions, upsert
from cyborg_reconciler.adapters.database.queue_rows import enqueue
from cyborg_reconciler.adapters.database.schema import host_drivers
from cyborg_reconciler.stores.work import HostDriver, RunNews

_columns = host_drivers.c

#: The columns that a `HostDriver` has.
DECLARED: Final = ("host", "driver", "state", "version", "run", "is_open", "declared_by", "declared_at")


def put(connection: Connection, one: HostDriver) -> tuple[HostDriver, HostDriver | None]:
    """Enter what is declared, with a run that is to come; return it as it is then, and as it was declared before."""
    known = connection.execute(
        select(host_drivers).where(_columns.host == one.host, _columns.driver == one.driver)
    ).first()
    before = None if known is None else parse(known)
    if before is not None and before.is_open:
        if before.told() == one.told():
            return before, before
        run_rows.cancel_pending(connection, before.run, one.declared_at)
    one = replace(one, run=run_rows.add_pending(connection, one.host, one.declared_at), is_open=True)
    row = {**{name: getattr(one, name) for name in DECLARED}, **_before(known)}
    upsert(connection, host_drivers, [row], update=[name for name in row if name not in {"host", "driver"}])
    return one, before


def _before(known: Row[Any] | None) -> dict[str, Any]:
    """Return what was declared before, as columns; of what did not come out yet, what was before that."""
    if known is None:
        return {"state_before": None, "version_before": None}
    if known.is_open:
        return {"state_before": known.state_before, "version_before": known.version_before}
    return {"state_before": known.state, "version_before": known.version}


def enqueue_host_of(connection: Connection, run: str, at: datetime) -> None:
    """Have the host looked at for which *run* was asked for and did not come out; nothing for other runs."""
    where = (_columns.run == run, _columns.is_open)
    enqueue(connection, connection.execute(select(_columns.host).where(*where)).scalars().all(), "RunCancelled", at)


def withdraw(connection: Connection, run: str, at: datetime) -> None:
    """End a *run* that was asked for and that nobody has begun; what was declared before it is declared again."""
    row = connection.execute(select(host_drivers).where(_columns.run == run, _columns.is_open)).first()
    if row is None or not run_rows.is_pending(connection, run):
        return  # what has begun comes to its end
    run_rows.cancel_pending(connection, run, at)
    is_it = _columns.run == run
    if row.state_before is None:
        connection.execute(delete(host_drivers).where(is_it))
    else:
        values = {"state": row.state_before, "version": row.version_before, "is_open": False}
        connection.execute(update(host_drivers).where(is_it).values(values))


def read(connection: Connection) -> list[HostDriver]:
    """Return all that is declared, by host and driver."""
    return [parse(row) for row in connection.execute(select(host_drivers).order_by(_columns.host, _columns.driver))]


def read_open(connection: Connection, hosts: Collection[str]) -> list[HostDriver]:
    """Return what is declared for *hosts* and has a run that did not come out yet."""
    rows = (
        row
        for names in portions(sorted(hosts))
        for row in connection.execute(select(host_drivers).where(_columns.is_open, _columns.host.in_(names)))
    )
    return [parse(row) for row in rows]


def parse(row: Row[Any]) -> HostDriver:
    """Return a row of the table host_drivers as what it says."""
    return HostDriver(**{name: getattr(row, name) for name in DECLARED})


def tell(connection: Connection, one: HostDriver, news: RunNews, at: datetime) -> None:
    """Enter what has become of the run that is awaited; one that was to end, and is not done, is not tried again."""
    run_rows.tell(connection, one.run, news, at)
    if news.status == run_rows.PENDING and run_rows.is_cancelled(connection, one.run):
        withdraw(connection, one.run, at)
    elif news.status != run_rows.PENDING:
        connection.execute(update(host_drivers).where(_columns.run == one.run).values(is_open=False))
