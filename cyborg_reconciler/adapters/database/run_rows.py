# SPDX-License-Identifier: Apache-2.0
"""What does the journal know of plans and runs? The statements about the tables plans, runs and outcomes.

Called by the journal, inside its transactions.
"""

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, select, update

from cyborg_reconciler.adapters.database.engine import lock_rows, upsert
from cyborg_reconciler.adapters.database.schema import cancellations, host_drivers, outcomes, plans, runs
from cyborg_reconciler.documents.plan import NO_PLAN, Outcome, PlanDocument, decode_plan, encode
from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.ports import BegunRun, RunRecord
from cyborg_reconciler.stores.work import RunNews
from cyborg_reconciler.tracing import REQUEST_ID

RUNNING: Final = "running"
#: Of a run that was asked for, and that nobody has begun.
PENDING: Final = "pending"


def add_runs(
    connection: Connection, plan: PlanDocument, fencing_token: int, at: datetime, asked: Mapping[str, str]
) -> dict[str, BegunRun]:
    """Enter that *plan* is carried out, and return the run of each host: that which was *asked* for, or a new one."""
    values = {"plan_uuid": plan.uuid, "fencing_token": fencing_token, "status": RUNNING, "started_at": at}
    rest = [host for host in plan.hosts if host not in asked]
    begun = dict.fromkeys(rest, BegunRun(_insert(connection, plan, values, rest))) if rest else {}
    put_plan(connection, plan, at)
    for host, run in sorted(asked.items()):
        connection.execute(update(runs).where(runs.c.uuid == run).values(values))
        anew = {"status": RUNNING, "document": "", "ended_at": None}
        connection.execute(update(outcomes).where(outcomes.c.run_uuid == run).values(anew))
        begun[host] = BegunRun(run, read_request(connection, run))
    return begun


def read_request(connection: Connection, run: str) -> str:
    """Return the request in which a run was asked for; empty where nobody asked for it."""
    return connection.execute(select(runs.c.request_id).where(runs.c.uuid == run)).scalar() or ""


def add_pending(connection: Connection, host: str, at: datetime) -> str:
    """Enter a run of *host* that was asked for, in the present request, and return its uuid."""
    values = {"plan_uuid": NO_PLAN.uuid, "fencing_token": 0, "status": PENDING, "started_at": at}
    return _insert(connection, NO_PLAN, {**values, "request_id": REQUEST_ID.get()}, [host])


def _insert(connection: Connection, plan: PlanDocument, values: dict[str, Any], hosts: Sequence[str]) -> str:
    """Enter a run of *plan* with *values*, whose *hosts* are in its status, and return its uuid."""
    run = str(uuid.uuid4())
    put_plan(connection, plan, values["started_at"])
    connection.execute(runs.insert().values(uuid=run, ended_at=None, **values))
    shared = {"run_uuid": run, "status": values["status"], "document": "", "ended_at": None}
    upsert(connection, outcomes, [{**shared, "host": host} for host in hosts], update=[])
    return run


def is_cancelled(connection: Connection, run: str) -> bool:
    """Return whether somebody wants a run to be the last of its pass."""
    query = select(cancellations.c.run_uuid).where(cancellations.c.run_uuid == run)
    return connection.execute(query).first() is not None


def is_pending(connection: Connection, run: str) -> bool:
    """Return whether nobody is at work on a run that was asked for."""
    return connection.execute(select(runs.c.status).where(runs.c.uuid == run)).scalar() == PENDING


def cancel_pending(connection: Connection, run: str, at: datetime) -> None:
    """End a run that was asked for and that nobody waits for any more."""
    for table, column in ((runs, runs.c.uuid), (outcomes, outcomes.c.run_uuid)):
        where = (column == run, table.c.status == PENDING)
        connection.execute(update(table).where(*where).values(status="cancelled", ended_at=at))


def tell(connection: Connection, run: str, news: RunNews, at: datetime) -> None:
    """Enter what has become of a run that was asked for; of one that was carried out in another, plan and outcome.

    What came out for the host, where that is known, stays.
    """
    values: dict[str, Any] = {"status": news.status, "message": news.message}
    outcome: dict[str, Any] = {"status": news.status}
    where = [outcomes.c.run_uuid == run]
    if news.status != PENDING:
        values["ended_at"] = outcome["ended_at"] = at
    if news.by in {"", run}:
        where.append(outcomes.c.document == "")
    else:
        of_run, of_host = runs.alias(), outcomes.alias()
        for name in ("plan_uuid", "fencing_token", "started_at"):
            values[name] = select(of_run.c[name]).where(of_run.c.uuid == news.by).scalar_subquery()
        theirs = (of_host.c.run_uuid == news.by, of_host.c.host == outcomes.c.host)
        for name in ("status", "document"):
            outcome[name] = select(of_host.c[name]).where(*theirs).scalar_subquery()
    is_open = (runs.c.uuid == run, runs.c.status == PENDING)
    if connection.execute(update(runs).where(*is_open).values(values)).rowcount:
        connection.execute(update(outcomes).where(*where).values(outcome))


def put_plan(connection: Connection, plan: PlanDocument, at: datetime) -> None:
    """Enter a plan, unless it is there."""
    kept = {"uuid": plan.uuid, "document": encode(plan).decode(), "recorded_at": at}
    upsert(connection, plans, [kept], update=[])


def put_outcome(connection: Connection, row: dict[str, Any], outcome: Outcome) -> None:
    """Enter what came out for one host of a run."""
    require_run(connection, row["run_uuid"])
    values = {**row, "status": outcome.status, "document": encode(outcome).decode()}
    upsert(connection, outcomes, [values], update=["status", "document", "ended_at"])


def end_run(connection: Connection, run: str, status: str, at: datetime) -> None:
    """End a run, and the outcomes that are still running; one that somebody waits for is pending again."""
    require_run(connection, run)
    is_awaited = select(host_drivers.c.run).where(host_drivers.c.run == run, host_drivers.c.is_open)
    values: dict[str, Any] = {"status": status, "ended_at": at}
    if connection.execute(is_awaited).first() is not None:
        values = {"status": PENDING}
    connection.execute(update(runs).where(runs.c.uuid == run).values(values))
    still_open = (outcomes.c.run_uuid == run) & (outcomes.c.status == RUNNING)
    connection.execute(update(outcomes).where(still_open).values(status=status, ended_at=at))


def require_run(connection: Connection, run: str) -> None:
    """Raise JournalError when there is no such run; keep others from it until the transaction ends."""
    lock_rows(connection, runs.c.uuid, [run])
    if connection.execute(select(runs.c.number).where(runs.c.uuid == run)).first() is None:
        raise JournalError(wanted=f"run {run}", found="the journal has no such run", remedy="see `history`")


def read_open(connection: Connection, fencing_token: int) -> list[RunRecord]:
    """Return the runs that are open and not those of *fencing_token*, oldest first."""
    query = select(runs).where(runs.c.status == RUNNING, runs.c.fencing_token != fencing_token)
    return read_runs(connection, query.order_by(runs.c.number))


def read_newest(connection: Connection, host: str, limit: int) -> list[RunRecord]:
    """Return the newest runs, newest first; of one host when *host* is given."""
    query = select(runs)
    if host:
        query = query.where(runs.c.uuid.in_(select(outcomes.c.run_uuid).where(outcomes.c.host == host)))
    return read_runs(connection, query.order_by(runs.c.number.desc()).limit(limit))


def read_runs(connection: Connection, query: Select[Any]) -> list[RunRecord]:
    """Return the runs that *query* yields, each with its hosts."""
    rows = connection.execute(query).all()
    of_run: dict[str, dict[str, str]] = defaultdict(dict)
    wanted = [row.uuid for row in rows]
    found = select(outcomes.c.run_uuid, outcomes.c.host, outcomes.c.status).where(outcomes.c.run_uuid.in_(wanted))
    for row in sorted(connection.execute(found), key=lambda row: str(row.host)):
        of_run[row.run_uuid][row.host] = row.status
    return [parse_run(row, of_run[row.uuid]) for row in rows]


def parse_run(row: Row[Any], hosts: dict[str, str]) -> RunRecord:
    """Return a row of the table runs as what it says."""
    return RunRecord(
        uuid=row.uuid,
        plan_uuid=row.plan_uuid,
        status=row.status,
        started_at=row.started_at,
        ended_at=row.ended_at,
        hosts=hosts,
        message=row.message,
        request_id=row.request_id,
    )


def read_plan(connection: Connection, uuid_: str) -> PlanDocument | None:
    """Return the plan that was kept under *uuid_*."""
    document = connection.execute(select(plans.c.document).where(plans.c.uuid == uuid_)).scalar_one_or_none()
    return None if document is None else decode_plan(document)
