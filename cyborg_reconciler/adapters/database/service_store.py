# SPDX-License-Identifier: Apache-2.0
"""Which services there are, and which of them are up: read a page at a time, and judged when they are read.

Opened by `bootstrap`, called by the conductor; `put_agent` is called where agents are written. The drivers of agents
are read where these have told of them.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    and_,
    case,
    cast,
    delete,
    literal_column,
    null,
    or_,
    select,
    tuple_,
    union_all,
)

from cyborg_reconciler.adapters.database.engine import reading, upsert, writing
from cyborg_reconciler.adapters.database.pages import render
from cyborg_reconciler.adapters.database.schema import (
    MAY_SPEAK,
    UtcDateTime,
    agent_drivers,
    agents,
    backends,
    hosts,
    services,
)
from cyborg_reconciler.errors import FieldError, RequestInvalidError
from cyborg_reconciler.stores.agents import IN_PROGRESS, READY
from cyborg_reconciler.stores.fleet import Service
from cyborg_reconciler.stores.pages import Page, PageQuery

#: In which the uuids of the control plane's services are made: one that is started again is the same.
NAMESPACE: Final = uuid.UUID("5b8f8a0e-0c6b-4f0e-9d7e-6c1f0c2f4a17")

#: What a driver says of itself that works.
WORKING: Final = (READY, IN_PROGRESS)

#: What the drivers of agents are as services.
DRIVER: Final = "driver"

#: By what a list is ordered.
KEY: Final = ("host", "type", "name")

#: What is entered anew when a service says again that it is up.
REFRESHED: Final = ("version", "message", "started_at", "last_seen_at", "due_at")


def put_agent(connection: Connection, host: str) -> None:
    """Enter the agent of *host*, which is known, as a service."""
    host_uuid = connection.execute(select(hosts.c.uuid).where(hosts.c.name == host)).scalar_one()
    upsert(connection, services, [_row(host_uuid, host, "agent", "agent")], update=[])


def _row(service: str, host: str, kind: str, name: str, message: str = "") -> dict[str, Any]:
    return {"uuid": service, "host": host, "type": kind, "name": name, "version": "", "message": message}


class DatabaseServices:
    """The services, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def report(self, one: Service) -> None:
        """Keep that a service is up."""
        made_of = f"{one.type} {one.host} {one.name}"
        row = {
            **_row(str(uuid.uuid5(NAMESPACE, made_of)), one.host, one.type, one.name, one.message),
            "version": one.version,
            "started_at": one.started_at,
            "last_seen_at": one.last_seen_at,
            "due_at": one.due_at,
        }
        with writing(self._engine) as connection:
            upsert(connection, services, [row], update=REFRESHED)

    def forget(self, before: datetime) -> None:
        """Forget the services that have been down since *before* then."""
        with writing(self._engine) as connection:
            connection.execute(delete(services).where(services.c.due_at < before))

    def page(self, wanted: PageQuery, at: datetime, heard_since: datetime) -> Page:
        """Return a page of services."""
        with reading(self._engine) as connection:
            last = _read_key(connection, wanted.marker) if wanted.marker else None
            parts = [
                select(_part(one, wanted, last).subquery()) for one in (_entered(at, heard_since), _told(heard_since))
            ]
            rows = connection.execute(_ordered(select(union_all(*parts).subquery()), wanted)).all()
        shown = rows[: wanted.limit]
        return Page([_service(row) for row in shown], shown[-1].uuid if shown else "", len(rows) > len(shown))


def _entered(at: datetime, heard_since: datetime) -> Select[Any]:
    """Return what yields the services that are entered as such."""
    is_agent = services.c.type == "agent"
    is_up = or_(and_(is_agent, _is_heard(heard_since)), and_(~is_agent, services.c.due_at >= at))
    joined = services.outerjoin(agents, and_(agents.c.host == services.c.host, is_agent))
    # Drivers were entered too, once.
    return select(services, *_of_agents(is_up)).select_from(joined).where(services.c.type != DRIVER)


def _told(heard_since: datetime) -> Select[Any]:
    """Return what yields the drivers that agents told of, as services; each has the uuid of its backend."""
    is_backend = and_(backends.c.host == agent_drivers.c.host, backends.c.driver == agent_drivers.c.name)
    is_up = and_(_is_heard(heard_since), agent_drivers.c.status.in_(WORKING))
    columns = (
        backends.c.uuid,
        agent_drivers.c.host,
        literal_column(f"'{DRIVER}'").label("type"),
        agent_drivers.c.name,
        literal_column("''").label("version"),
        agent_drivers.c.status.label("message"),
        *(cast(null(), UtcDateTime).label(name) for name in ("started_at", "last_seen_at", "due_at")),
    )
    joined = agent_drivers.join(backends, is_backend).join(agents, agents.c.host == agent_drivers.c.host)
    return select(*columns, *_of_agents(is_up)).select_from(joined)


def _of_agents(is_up: ColumnElement[bool]) -> Sequence[ColumnElement[Any]]:
    """Return what is told of a service besides what it is; what is not known of it does not make it up."""
    status = case((is_up, "up"), else_="down").label("status")
    return (
        status,
        agents.c.agent_version,
        agents.c.last_seen_at.label("heard_at"),
        agents.c.approved,
        agents.c.token_hash,
    )


def _is_heard(since: datetime) -> ColumnElement[bool]:
    return and_(agents.c.last_seen_at >= since, MAY_SPEAK, ~agents.c.silent)


def _part(query: Select[Any], wanted: PageQuery, last: tuple[str, str, str] | None) -> Select[Any]:
    """Return what yields those rows of *query* that may be on the page after *last*."""
    found = query.subquery()
    part = select(found)
    for name, value in wanted.equal.items():
        part = part.where(found.c[name] == value)
    if last is not None:
        key = tuple_(*(found.c[name] for name in KEY))
        part = part.where(key < last if wanted.descending else key > last)
    return _ordered(part, wanted)


def _ordered(query: Select[Any], wanted: PageQuery) -> Select[Any]:
    """Return *query* in the order of the list, with one row more than the page has."""
    columns = [query.selected_columns[name] for name in KEY]
    order = (column.desc() if wanted.descending else column.asc() for column in columns)
    return query.order_by(*order).limit(wanted.limit + 1)


def _read_key(connection: Connection, marker: str) -> tuple[str, str, str]:
    """Return what the service with the uuid *marker* is ordered by.

    Raises:
        RequestInvalidError: there is none.
    """
    entered = select(*(services.c[name] for name in KEY)).where(services.c.uuid == marker, services.c.type != DRIVER)
    row = connection.execute(entered).first()
    if row is not None:
        return row.host, row.type, row.name
    row = connection.execute(select(backends.c.host, backends.c.driver).where(backends.c.uuid == marker)).first()
    if row is None:
        wrong = FieldError("marker", "there is no such service; begin again without a marker")
        raise RequestInvalidError("the marker", [wrong])
    return row.host, DRIVER, row.driver


def _service(row: Row[Any]) -> str:
    """Return a service as the API gives it."""
    is_on_host = row.due_at is None
    return render(
        {
            "uuid": row.uuid,
            "type": row.type,
            "name": row.name,
            "host": row.host,
            "status": row.status,
            "message": _of_agent(row) if row.type == "agent" else row.message,
            "version": (row.agent_version if row.type == "agent" else row.version) or None,
            "started_at": row.started_at,
            "last_seen_at": row.heard_at if is_on_host else row.last_seen_at,
        }
    )


def _of_agent(row: Row[Any]) -> str:
    """Return for people why an agent is not heard, where operators have decided that."""
    if not row.token_hash:
        return "its token was revoked"
    return "" if row.approved else "it waits for approval"
