# SPDX-License-Identifier: Apache-2.0
"""What does the database know of drivers on hosts, as the API declares them? The statements about host_drivers."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from cyborg_reconciler.adapters.database import run_rows
from cyborg_reconciler.adapters.database.engine import portions, upsert
from cyborg_reconciler.adapters.database.schema import host_drivers
from cyborg_reconciler.work_stores import HostDriver, RunNews

_columns = host_drivers.c


def put(connection: Connection, one: HostDriver) -> HostDriver:
    """Enter what is declared, with a run that is to come; return it as it is then."""
    known = connection.execute(
        select(host_drivers).where(_columns.host == one.host, _columns.driver == one.driver)
    ).first()
    before = None if known is None else parse(known)
    if before is not None and before.is_open:
        if (before.state, before.version) == (one.state, one.version):
            return before
        run_rows.cancel_pending(connection, before.run, one.declared_at)
    one = replace(one, run=run_rows.add_pending(connection, one.host, one.declared_at), is_open=True)
    row = {column.name: getattr(one, column.name) for column in _columns}
    upsert(connection, host_drivers, [row], update=[name for name in row if name not in {"host", "driver"}])
    return one


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
    return HostDriver(**row._asdict())


def tell(connection: Connection, one: HostDriver, news: RunNews, at: datetime) -> None:
    """Enter what has become of the run that is awaited."""
    run_rows.tell(connection, one.run, news, at)
    if news.status != run_rows.PENDING:
        connection.execute(update(host_drivers).where(_columns.run == one.run).values(is_open=False))
