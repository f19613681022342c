# SPDX-License-Identifier: Apache-2.0
"""Backends as the API shows them: what is known of a driver on a host is what is known of its accelerators.

And what its agent says of it, where the driver is one of the agent's. Opened by `bootstrap`, called by the API;
`register` is called wherever accelerators, and the drivers of agents, are written.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, and_, case, delete, func, or_, select, tuple_

from cyborg_reconciler.adapters.database.engine import portions, reading, upsert
from cyborg_reconciler.adapters.database.pages import link, render
from cyborg_reconciler.adapters.database.schema import (
    MAY_SPEAK,
    accelerators,
    agent_drivers,
    agents,
    backends,
    facts,
    hosts,
)
from cyborg_reconciler.core.state import HEALTHS, Health
from cyborg_reconciler.errors import FieldError, RequestInvalidError
from cyborg_reconciler.stores.agents import IN_PROGRESS, READY
from cyborg_reconciler.stores.pages import Page, PageQuery

BACKENDS: Final = "/v1/backends"


def register(connection: Connection, pairs: Iterable[tuple[str | None, str | None]]) -> None:
    """Enter the backends of *pairs* of host and driver; those without one of them, and unknown hosts, have none."""
    known = {(host, driver) for host, driver in pairs if host and driver is not None}
    if not known:
        return
    names = {host for host, _ in known}
    uuids = dict(connection.execute(select(hosts.c.name, hosts.c.uuid).where(hosts.c.name.in_(names))).all())
    rows = [
        {"uuid": str(uuid.uuid5(uuid.UUID(uuids[host]), driver)), "host": host, "driver": driver}
        for host, driver in sorted(known)
        if host in uuids
    ]
    upsert(connection, backends, rows, update=[])


def forget_unused(connection: Connection, names: Collection[str]) -> None:
    """Forget the backends of the hosts called *names* that no agent tells of, and that have no accelerator."""
    if not names:
        return
    of_backend = (accelerators.c.host == backends.c.host, accelerators.c.driver == backends.c.driver)
    is_used = select(accelerators.c.uuid).where(*of_backend).exists()
    told = (agent_drivers.c.host == backends.c.host, agent_drivers.c.name == backends.c.driver)
    is_told = select(agent_drivers.c.name).where(*told).exists()
    for portion in portions(sorted(names)):
        connection.execute(delete(backends).where(backends.c.host.in_(portion), ~is_used, ~is_told))


class DatabaseBackends:
    """The backends, in a database: what is known of each is what is known of its accelerators."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, wanted: PageQuery) -> Page:
        """Return a page of backends."""
        is_used = select(accelerators.c.uuid).where(_is_of_backend()).exists()
        query = _backends().where(or_(is_used, agent_drivers.c.name.is_not(None)))
        for name, value in wanted.equal.items():
            query = query.where(backends.c[name] == value)
        order = [
            column.desc() if wanted.descending else column.asc() for column in (backends.c.host, backends.c.driver)
        ]
        with reading(self._engine) as connection:
            if wanted.marker:
                query = query.where(_is_after(connection, wanted))
            rows = connection.execute(query.order_by(*order).limit(wanted.limit + 1)).all()
            shown = rows[: wanted.limit]
            documents = _render_backends(connection, shown)
        return Page(documents, shown[-1].uuid if shown else "", len(rows) > len(shown))

    def document(self, uuid: str) -> str | None:
        """Return a backend."""
        with reading(self._engine) as connection:
            rows = connection.execute(_backends().where(backends.c.uuid == uuid)).all()
            return next(iter(_render_backends(connection, rows)), None)

    def services(self, uuid: str) -> Sequence[str] | None:
        """Return what a backend offers."""
        columns = (accelerators.c.device_type, accelerators.c.acc_type)
        query = (
            select(
                *columns,
                func.count().label("accelerators"),
                func.sum(case((accelerators.c.state == "ready", 1), else_=0)).label("ready"),
                func.sum(accelerators.c.num).label("num"),
            )
            .where(_is_of_backend(), backends.c.uuid == uuid)
            .group_by(*columns)
            .order_by(*columns)
        )
        with reading(self._engine) as connection:
            if connection.execute(select(backends.c.uuid).where(backends.c.uuid == uuid)).first() is None:
                return None
            return [render(_plain(row)) for row in connection.execute(query)]


def _backends() -> Select[Any]:
    """Return what yields backends, each with what its host's agent says of the driver, where that is one of its."""
    is_told = and_(agent_drivers.c.host == backends.c.host, agent_drivers.c.name == backends.c.driver)
    told = (agent_drivers.c.type, agent_drivers.c.status, agent_drivers.c.endpoint)
    heard = (agents.c.last_seen_at, (MAY_SPEAK & ~agents.c.silent).label("is_heard"), facts.c.received_at)
    joined = backends.outerjoin(agent_drivers, is_told).outerjoin(agents, agents.c.host == backends.c.host)
    return select(backends, *told, *heard).select_from(joined.outerjoin(facts, facts.c.host == backends.c.host))


def _is_after(connection: Connection, wanted: PageQuery) -> ColumnElement[bool]:
    """Return what holds for the rows after the marker."""
    row = connection.execute(select(backends).where(backends.c.uuid == wanted.marker)).first()
    if row is None:
        wrong = FieldError("marker", "there is no such backend; begin again without a marker")
        raise RequestInvalidError("the marker", [wrong])
    host, driver = backends.c.host, backends.c.driver
    if wanted.descending:
        return or_(host < row.host, and_(host == row.host, driver < row.driver))
    return or_(host > row.host, and_(host == row.host, driver > row.driver))


def _plain(row: Row[Any]) -> dict[str, Any]:
    """Return a row of numbers and texts; PostgreSQL's sums are no integers."""
    return {name: value if isinstance(value, str) else int(value) for name, value in row._mapping.items()}  # noqa: SLF001 - public, whatever its name


def _is_of_backend() -> ColumnElement[bool]:
    return (
        (accelerators.c.host == backends.c.host) & (accelerators.c.driver == backends.c.driver) & accelerators.c.present
    )


def _render_backends(connection: Connection, rows: Sequence[Row[Any]]) -> list[str]:
    """Return backends as the API gives them."""
    if not rows:
        return []
    columns = (accelerators.c.host, accelerators.c.driver, accelerators.c.state, accelerators.c.health)
    wanted = tuple_(*columns[:2]).in_([(row.host, row.driver) for row in rows])
    found: dict[tuple[str, str], list[Row[Any]]] = {}
    counts = select(*columns, func.count().label("number")).where(wanted, accelerators.c.present).group_by(*columns)
    for row in connection.execute(counts):
        found.setdefault((row.host, row.driver), []).append(row)
    return [_backend(row, found.get((row.host, row.driver), ())) for row in rows]


def _backend(row: Row[Any], counts: Sequence[Row[Any]]) -> str:
    states: dict[str, int] = {}
    for count in counts:
        states[count.state] = states.get(count.state, 0) + count.number
    health = max((Health(count.health) for count in counts), key=HEALTHS.index, default=_told_health(row))
    path = f"{BACKENDS}/{row.uuid}"
    shown: Mapping[str, Any] = {
        "uuid": row.uuid,
        "host": row.host,
        "driver": row.driver,
        "health": health.value,
        "accelerators": sum(states.values()),
        "states": states,
        "type": row.type or None,
        "status": row.status or None,
        "endpoint_known": bool(row.endpoint),
        "told_at": row.last_seen_at if row.status is not None else None,
        "discovered_at": row.received_at,
        "links": [link(path), link(f"{path}/services", "services")],
    }
    return render(shown)


def _told_health(row: Row[Any]) -> Health:
    """Return how a driver is that has no accelerators here, by what its agent says of it."""
    if row.status is None:
        return Health.MISSING
    healths = {READY: Health.HEALTHY, IN_PROGRESS: Health.PROGRESSING}
    return healths.get(row.status, Health.UNKNOWN) if row.is_heard else Health.UNKNOWN
