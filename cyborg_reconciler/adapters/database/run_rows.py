# SPDX-License-Identifier: Apache-2.0
"""What does the journal know of plans and runs? The statements about the tables plans, runs and outcomes.

Called by the journal, inside its transactions.
"""

import uuid
from collections import defaultdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, select, update

from cyborg_reconciler.adapters.database.engine import lock_rows, upsert
from cyborg_reconciler.adapters.database.schema import outcomes, plans, runs
from cyborg_reconciler.documents.plan import Outcome, PlanDocument, decode_plan, encode
from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.ports import RunRecord

RUNNING: Final = "running"


def add_run(connection: Connection, plan: PlanDocument, fencing_token: int, at: datetime) -> str:
    """Enter a run of *plan*, all of whose hosts are running, and return its uuid."""
    run = str(uuid.uuid4())
    put_plan(connection, plan, at)
    connection.execute(
        runs.insert().values(
            uuid=run, plan_uuid=plan.uuid, fencing_token=fencing_token, status=RUNNING, started_at=at, ended_at=None
        )
    )
    rows = [{"run_uuid": run, "host": host, "status": RUNNING, "document": "", "ended_at": None} for host in plan.hosts]
    upsert(connection, outcomes, rows, update=[])
    return run


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
    """End a run, and the outcomes that are still running."""
    require_run(connection, run)
    connection.execute(update(runs).where(runs.c.uuid == run).values(status=status, ended_at=at))
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
    )


def read_plan(connection: Connection, uuid_: str) -> PlanDocument | None:
    """Return the plan that was kept under *uuid_*."""
    document = connection.execute(select(plans.c.document).where(plans.c.uuid == uuid_)).scalar_one_or_none()
    return None if document is None else decode_plan(document)
