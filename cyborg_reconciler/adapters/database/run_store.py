# SPDX-License-Identifier: Apache-2.0
"""Runs and plans as the API shows them, and what it notes of them. Opened by `bootstrap`, called by the API."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, Select, func, select, update

from cyborg_reconciler.adapters.database import declaration_rows, host_driver_rows, host_rows, run_rows
from cyborg_reconciler.adapters.database.engine import lock_rows, reading, upsert, writing
from cyborg_reconciler.adapters.database.event_rows import put_event
from cyborg_reconciler.adapters.database.pages import link, raw, read_page, render
from cyborg_reconciler.adapters.database.queue_rows import enqueue
from cyborg_reconciler.adapters.database.schema import cancellations, inventory, outcomes, plans, proposals, runs
from cyborg_reconciler.core.state import History, Host
from cyborg_reconciler.documents.plan import decode_plan
from cyborg_reconciler.errors import FieldError, RequestInvalidError
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.fleet import PLANS, Proposal, shown_plan
from cyborg_reconciler.stores.pages import Page, PageQuery

RUNS: Final = "/v1/runs"


class DatabaseRuns:
    """The runs, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, wanted: PageQuery) -> Page:
        """Return a page of runs."""
        query = _runs()
        equal = dict(wanted.equal)
        if host := equal.pop("host", ""):
            query = query.where(runs.c.uuid.in_(select(outcomes.c.run_uuid).where(outcomes.c.host == host)))
        for name, value in equal.items():
            query = query.where(runs.c[name] == value)
        with reading(self._engine) as connection:
            marker = _number(connection, wanted.marker) if wanted.marker else None
            rows, more = read_page(connection, query, runs.c.number, wanted, marker)
            counts = _counts(connection, [row.uuid for row in rows])
        shown = [render(_run(row) | {"outcomes": counts.get(row.uuid, {})}) for row in rows]
        return Page(shown, rows[-1].uuid if rows else "", more)

    def document(self, uuid: str) -> str | None:
        """Return a run."""
        with reading(self._engine) as connection:
            row = connection.execute(_runs().where(runs.c.uuid == uuid)).first()
            query = select(outcomes).where(outcomes.c.run_uuid == uuid).order_by(outcomes.c.host)
            hosts = connection.execute(query).all() if row is not None else []
        return None if row is None else render(_run(row) | {"hosts": [_outcome(one) for one in hosts]})

    def cancel(self, uuid: str, by: str, event: Event) -> bool:
        """Note that somebody wants the run to be the last of its pass; cancel at once one that nobody has begun."""
        with writing(self._engine) as connection:
            host_driver_rows.enqueue_host_of(connection, uuid, event.at)
            lock_rows(connection, runs.c.uuid, [uuid])
            is_open = (runs.c.uuid == uuid) & (runs.c.ended_at.is_(None))
            if connection.execute(select(runs.c.number).where(is_open)).first() is None:
                return False
            is_first = not run_rows.is_cancelled(connection, uuid)
            row = {"run_uuid": uuid, "requested_at": event.at, "requested_by": by}
            upsert(connection, cancellations, [row], update=[])
            host_driver_rows.withdraw(connection, uuid, event.at)
            if is_first:
                put_event(connection, event)
        return True


def _runs() -> Select[Any]:
    return select(runs, cancellations.c.requested_at, cancellations.c.requested_by).outerjoin(cancellations)


def _number(connection: Connection, uuid: str) -> int:
    number = connection.execute(select(runs.c.number).where(runs.c.uuid == uuid)).scalar()
    if number is None:
        wrong = FieldError("marker", "there is no such run; begin again without a marker")
        raise RequestInvalidError("the marker", [wrong])
    return int(number)


def _counts(connection: Connection, uuids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many hosts of each run came out how."""
    found: dict[str, dict[str, int]] = {}
    columns = (outcomes.c.run_uuid, outcomes.c.status)
    query = select(*columns, func.count().label("number")).where(outcomes.c.run_uuid.in_(uuids)).group_by(*columns)
    for row in connection.execute(query):
        found.setdefault(row.run_uuid, {})[row.status] = row.number
    return found


def _run(row: Row[Any]) -> dict[str, Any]:
    """Return what the API gives of a run, but for its hosts."""
    path = f"{RUNS}/{row.uuid}"
    return {
        "uuid": row.uuid,
        "plan_uuid": row.plan_uuid,
        "status": row.status,
        "message": row.message,
        "request_id": row.request_id or None,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "cancel_requested_at": row.requested_at,
        "cancel_requested_by": row.requested_by,
        "links": [link(path), link(f"{path}/events", "events"), link(f"{PLANS}/{row.plan_uuid}", "plan")],
    }


def _outcome(row: Row[Any]) -> dict[str, Any]:
    """Return what the API gives of what came out for a host."""
    document = raw(row.document) if row.document else None
    return {"host": row.host, "status": row.status, "ended_at": row.ended_at, "outcome": document}


class DatabasePlans:
    """The plans, in a database, and what they are made from."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def inventory(self, after: str, limit: int) -> Sequence[Host]:
        """Return hosts that were in the inventory."""
        query = select(inventory.c.host).where(inventory.c.host > after).order_by(inventory.c.host).limit(limit)
        with reading(self._engine) as connection:
            names = list(connection.execute(query).scalars())
            found = declaration_rows.read_inventory(connection, names)
        return [found[name] for name in names]

    def hosts(self, names: Sequence[str]) -> Mapping[str, Host]:
        """Return those of the hosts called *names* that were in the inventory."""
        with reading(self._engine) as connection:
            return declaration_rows.read_inventory(connection, names)

    def facts(self, names: Sequence[str]) -> Mapping[str, tuple[bytes, datetime]]:
        """Return the newest facts of hosts."""
        with reading(self._engine) as connection:
            return host_rows.read_facts(connection, names)

    def foreseen(self, digests: Mapping[str, str]) -> Mapping[str, History]:
        """Return what will be remembered of each host under *digests*."""
        with reading(self._engine) as connection:
            return host_rows.foresee_histories(connection, digests)

    def approved(self, host: str, generation: int, digest: str) -> bool:
        """Return whether just these actions were approved."""
        with reading(self._engine) as connection:
            return host_rows.is_approved(connection, host, generation, digest)

    def keep(self, proposal: Proposal, event: Event) -> None:
        """Keep a new plan."""
        with writing(self._engine) as connection:
            run_rows.put_plan(connection, proposal.plan, event.at)
            row = {"plan_uuid": proposal.plan.uuid, "document": proposal.document}
            connection.execute(proposals.insert().values(**row, allow_reboot=proposal.allow_reboot))
            put_event(connection, event)

    def document(self, uuid: str) -> str | None:
        """Return a plan."""
        query = select(plans.c.document, plans.c.recorded_at, proposals.c.document.label("shown")).outerjoin(proposals)
        with reading(self._engine) as connection:
            row = connection.execute(query.where(plans.c.uuid == uuid)).first()
        if row is None or row.shown:
            return row and str(row.shown)
        return render(shown_plan(decode_plan(row.document), row.recorded_at))

    def proposal(self, uuid: str) -> Proposal | None:
        """Return the plan that the API was asked for."""
        query = select(plans.c.document.label("plan"), proposals).join(proposals)
        with reading(self._engine) as connection:
            row = connection.execute(query.where(plans.c.uuid == uuid)).first()
        return None if row is None else Proposal(decode_plan(row.plan), row.document, row.allow_reboot)

    def approve(self, proposal: Proposal, at: datetime, event: Event) -> None:
        """Note that a person approved what is planned for each host, and have the hosts looked at."""
        uuid, of_hosts = proposal.plan.uuid, proposal.plan.hosts
        rows = [
            {"host": host, "generation": plan.generation, "digest": plan.digest, "approved_at": at}
            for host, plan in of_hosts.items()
        ]
        with writing(self._engine) as connection:
            host_rows.put_approvals(connection, rows)
            is_it = proposals.c.plan_uuid == uuid
            connection.execute(update(proposals).where(is_it).values(document=proposal.document))
            enqueue(connection, of_hosts, "Approved", at)
            put_event(connection, event)
