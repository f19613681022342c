# SPDX-License-Identifier: Apache-2.0
"""Which services there are, and which of them are up: read a page at a time, and judged when they are read.

Opened by `bootstrap`, called by the conductor; `put_agent` and `put_drivers` are called where agents are written.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, case, delete, or_, select, tuple_

from cyborg_reconciler.adapters.database.engine import reading, upsert, writing
from cyborg_reconciler.adapters.database.pages import render
from cyborg_reconciler.adapters.database.schema import MAY_SPEAK, agents, hosts, services
from cyborg_reconciler.errors import FieldError, RequestInvalidError
from cyborg_reconciler.fleet_stores import Service, Wanted
from cyborg_reconciler.stores import Page

#: In which the uuids of the control plane's services are made: one that is started again is the same.
NAMESPACE: Final = uuid.UUID("5b8f8a0e-0c6b-4f0e-9d7e-6c1f0c2f4a17")

#: What a driver says of itself that works.
WORKING: Final = ("READY", "IN-PROGRESS")

#: By what a list is ordered.
KEY: Final = (services.c.host, services.c.type, services.c.name)

#: What is entered anew when a service says again that it is up.
TOLD: Final = ("version", "message", "started_at", "last_seen_at", "due_at")


def put_agent(connection: Connection, host: str) -> None:
    """Enter the agent of *host*, which is known, as a service."""
    host_uuid = connection.execute(select(hosts.c.uuid).where(hosts.c.name == host)).scalar_one()
    upsert(connection, services, [_row(host_uuid, host, "agent", "agent")], update=[])


def put_drivers(connection: Connection, told: Mapping[tuple[str, str], str]) -> None:
    """Enter what drivers say of themselves, by host and name: all that the agents of these hosts have."""
    names = sorted({host for host, _ in told})
    found = connection.execute(select(hosts.c.name, hosts.c.uuid).where(hosts.c.name.in_(names)))
    host_uuids = {row.name: uuid.UUID(row.uuid) for row in found}
    connection.execute(delete(services).where(services.c.host.in_(names), services.c.type == "driver"))
    rows = [
        _row(str(uuid.uuid5(host_uuids[host], f"service {name}")), host, "driver", name, status)
        for (host, name), status in told.items()
    ]
    upsert(connection, services, rows, update=[])


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
            upsert(connection, services, [row], update=TOLD)

    def forget(self, before: datetime) -> None:
        """Forget the services that have been down since *before* then."""
        with writing(self._engine) as connection:
            connection.execute(delete(services).where(services.c.due_at < before))

    def page(self, wanted: Wanted, at: datetime, heard_since: datetime) -> Page:
        """Return a page of services."""
        status = _status(at, heard_since)
        query = select(
            services,
            status.label("status"),
            agents.c.agent_version,
            agents.c.last_seen_at.label("heard_at"),
            agents.c.approved,
            agents.c.token_hash,
        ).outerjoin(agents, and_(agents.c.host == services.c.host, _is_on_host()))
        for name, value in wanted.equal.items():
            query = query.where((status if name == "status" else services.c[name]) == value)
        key = tuple_(*KEY)
        query = query.order_by(*(column.desc() if wanted.descending else column.asc() for column in KEY))
        with reading(self._engine) as connection:
            if wanted.marker:
                last = _read_key(connection, wanted.marker)
                query = query.where(key < last if wanted.descending else key > last)
            rows = connection.execute(query.limit(wanted.limit + 1)).all()
        shown = rows[: wanted.limit]
        return Page([_service(row) for row in shown], shown[-1].uuid if shown else "", len(rows) > len(shown))


def _is_on_host() -> ColumnElement[bool]:
    """Return what holds for agents and their drivers."""
    return services.c.type.in_(("agent", "driver"))


def _status(at: datetime, heard_since: datetime) -> ColumnElement[str]:
    """Return ``up`` or ``down``: what is not known of a service does not make it up."""
    is_heard = and_(agents.c.last_seen_at >= heard_since, MAY_SPEAK, ~agents.c.silent)
    works = or_(services.c.type == "agent", services.c.message.in_(WORKING))
    is_up = or_(and_(_is_on_host(), is_heard, works), and_(~_is_on_host(), services.c.due_at >= at))
    return case((is_up, "up"), else_="down")


def _read_key(connection: Connection, marker: str) -> tuple[str, str, str]:
    """Return what the service with the uuid *marker* is ordered by.

    Raises:
        RequestInvalidError: there is none.
    """
    row = connection.execute(select(*KEY).where(services.c.uuid == marker)).first()
    if row is None:
        wrong = FieldError("marker", "there is no such service; begin again without a marker")
        raise RequestInvalidError("the marker", [wrong])
    return row.host, row.type, row.name


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
