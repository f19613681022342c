# SPDX-License-Identifier: Apache-2.0
"""The journal, as the port has it: each method is one transaction, on disk when it returns.

Opened by `bootstrap`, called by `reconcile` and the CLI. Reads and writes the database: a file in the state folder, or
one on a PostgreSQL server.
"""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from sqlalchemy import Engine, select

from cyborg_reconciler.adapters.database import (
    agent_rows,
    declaration_rows,
    event_rows,
    host_driver_rows,
    host_rows,
    postgresql,
    run_rows,
    sqlite,
)
from cyborg_reconciler.adapters.database.accelerator_store import DatabaseAccelerators, DatabaseHardware
from cyborg_reconciler.adapters.database.agent_store import DatabaseAgents
from cyborg_reconciler.adapters.database.credential_store import DatabaseCredentials
from cyborg_reconciler.adapters.database.discovery_rows import found_by, put_found, read_digests, take_changed
from cyborg_reconciler.adapters.database.engine import begun_anew, reading, take_turns, translated, writing
from cyborg_reconciler.adapters.database.fleet import Fleet
from cyborg_reconciler.adapters.database.folder import DATABASE_NAME, FolderLock, make_file, make_folder
from cyborg_reconciler.adapters.database.queue_rows import enqueue
from cyborg_reconciler.adapters.database.revision import check_revision, migrate
from cyborg_reconciler.adapters.database.schema import controllers
from cyborg_reconciler.adapters.database.tallies import DatabaseTallies
from cyborg_reconciler.adapters.database.work import DatabaseWork
from cyborg_reconciler.core.state import History, Host, Phase
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.plan import Outcome, PlanDocument
from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.ports import (
    BegunRun,
    Controller,
    Event,
    HostRecord,
    Observation,
    RunRecord,
    Unobserved,
    apply_ended,
    run_ended,
    run_started,
)
from cyborg_reconciler.stores.work import carried_out

#: How long to wait for another connection's lock before JournalLockedError.
BUSY_TIMEOUT_S: Final = 5.0


def open_journal(
    folder: Path, *, database: str = "", exclusive: bool = True, busy_timeout_s: float = BUSY_TIMEOUT_S
) -> "DatabaseJournal":
    """Open the journal for writing: make it, or bring it up to date.

    It is on the server that the URL *database* names, or in *folder* where that is empty. One process at a time changes
    hosts: it opens the journal *exclusive*, which raises the fencing token and takes *folder* too, where its runs are.
    Others may note what they observe, and approve, beside it.

    Raises:
        AlreadyRunningError: another process has it open, exclusive.
        JournalError: it cannot be used.
    """
    with ExitStack() as undo:
        lock = None
        if exclusive or not database:
            make_folder(folder)
        if exclusive:
            lock = FolderLock(folder)
            undo.callback(lock.release)
        seat = postgresql.Seat() if exclusive and database else None
        if database:
            engine = postgresql.open_engine(database, writes=True, busy_timeout_s=busy_timeout_s, seat=seat)
        else:
            make_file(folder / DATABASE_NAME)
            engine = sqlite.open_engine(folder / DATABASE_NAME, writes=True, busy_timeout_s=busy_timeout_s)
        undo.callback(engine.dispose)
        migrate(engine)
        us = start(engine, by=1 if exclusive else 0)
        if seat:
            with translated(engine):
                seat.keep(engine, us.fencing_token)
        undo.pop_all()
    return DatabaseJournal(engine, us, lock)


def open_reader(folder: Path, *, database: str = "", busy_timeout_s: float = BUSY_TIMEOUT_S) -> "DatabaseJournal":
    """Open the journal for reading, also while a writer is at work. Its writing methods raise JournalError.

    Raises:
        JournalError: there is none, or it is of another revision.
    """
    path = folder / DATABASE_NAME
    if not database and not path.is_file():
        raise JournalError(
            wanted=f"a journal in {folder}",
            found="there is none",
            remedy="give the folder with --state; the first `observe`, `plan` or `apply` makes the journal",
        )
    with ExitStack() as undo:
        if database:
            engine = postgresql.open_engine(database, writes=False, busy_timeout_s=busy_timeout_s)
        else:
            engine = sqlite.open_engine(path, writes=False, busy_timeout_s=busy_timeout_s)
        undo.callback(engine.dispose)
        check_revision(engine)
        journal = DatabaseJournal(engine, read_controller(engine))
        undo.pop_all()
    return journal


def start(engine: Engine, by: int) -> Controller:
    """Return who we are: the id that the journal got once, and its token, raised *by* so much."""
    with writing(engine) as connection:
        take_turns(connection)
        row = connection.execute(select(controllers)).one_or_none()
        if row is None:
            us = Controller(id=str(uuid.uuid4()), fencing_token=1)
            connection.execute(controllers.insert().values(id=us.id, fencing_token=us.fencing_token))
        else:
            us = Controller(id=row.id, fencing_token=row.fencing_token + by)
            connection.execute(controllers.update().values(fencing_token=us.fencing_token))
    return us


def read_controller(engine: Engine) -> Controller:
    """Return who wrote last; its runs are open to a reader too, so the token is one that no run has."""
    with reading(engine) as connection:
        row = connection.execute(select(controllers)).one_or_none()
    return Controller(id=row.id if row else "", fencing_token=0)


class DatabaseJournal:
    """The memory, in a database. A context manager: leaving it closes the database, which others may then have."""

    def __init__(self, engine: Engine, controller: Controller, lock: FolderLock | None = None) -> None:
        self._engine, self._controller, self._lock = engine, controller, lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database, and give it and the folder back."""
        self._engine.dispose()
        if self._lock:
            self._lock.release()

    def accelerators(self) -> DatabaseAccelerators:
        """Return the accelerators, in the same database."""
        return DatabaseAccelerators(self._engine)

    def hardware(self) -> DatabaseHardware:
        """Return the hardware, in the same database."""
        return DatabaseHardware(self._engine)

    def credentials(self) -> DatabaseCredentials:
        """Return the users' tokens, in the same database."""
        return DatabaseCredentials(self._engine)

    def agents(self) -> DatabaseAgents:
        """Return the agents, in the same database."""
        return DatabaseAgents(self._engine)

    def tallies(self) -> DatabaseTallies:
        """Return the numbers of what there is, in the same database."""
        return DatabaseTallies(self._engine)

    def fleet(self) -> Fleet:
        """Return what the API shows and keeps besides, in the same database."""
        return Fleet(self._engine)

    def work(self) -> DatabaseWork:
        """Return what is to be done next, and by whom, in the same database."""
        return DatabaseWork(self._engine)

    def controller(self) -> Controller:
        """Return who we are; a reader has token 0."""
        return self._controller

    # ------------------------------------------------------------------------------------------------------------ hosts
    def histories(self, digests: Mapping[str, str]) -> Mapping[str, History]:
        """Return what is remembered of each host; a digest that is another than the last raises its generation."""
        with reading(self._engine) as connection:
            changed = host_rows.find_changed(connection, digests)
        if changed:
            with writing(self._engine) as connection:
                host_rows.raise_generations(connection, {host: digests[host] for host in changed})
        with reading(self._engine) as connection:
            return host_rows.read_histories(connection, list(digests))

    def retry(self, host: str, at: datetime) -> None:
        """Forget the failures and the reboots of *host* under its present generation, and have it looked at."""
        with writing(self._engine) as connection:
            host_rows.forget(connection, host)
            enqueue(connection, [host], "Retried", at)

    @begun_anew
    def record_observations(self, observed: Mapping[str, Observation | Unobserved]) -> None:
        """Keep the newest facts of each host; one that was not observed keeps what it has."""
        seen = {host: found for host, found in observed.items() if isinstance(found, Observation)}
        with writing(self._engine) as connection:
            host_rows.claim(connection, observed)
            new = host_rows.put_facts(connection, seen)
            if new:
                catalogue = declaration_rows.read_catalogue(connection)
                found = found_by(new, catalogue)
                changed = take_changed(connection, found, read_digests(connection, list(found)))
                told = put_found(connection, changed, max(seen[host].received_at for host in new))
                event_rows.put_events(connection, told)

    def facts(self, hosts: Sequence[str]) -> Mapping[str, tuple[bytes, datetime]]:
        """Return the newest facts of *hosts* and when they were received."""
        with reading(self._engine) as connection:
            return host_rows.read_facts(connection, hosts)

    def reported(self, since: datetime, hosts: Sequence[str] | None = None) -> Mapping[str, datetime]:
        """Return the hosts whose agents stand by the facts that are kept, and when they last did."""
        with reading(self._engine) as connection:
            return agent_rows.read_reported(connection, since, hosts)

    def record_hosts(self, records: Sequence[HostRecord]) -> None:
        """Keep where hosts stand."""
        with writing(self._engine) as connection:
            host_rows.put_records(connection, records)

    def record_phases(self, hosts: Sequence[str], phase: Phase, failed_in: Phase | None = None) -> None:
        """Keep in which phase *hosts* are."""
        with writing(self._engine) as connection:
            host_rows.put_phases(connection, hosts, phase, failed_in)

    def hosts(self, names: Sequence[str] | None = None) -> Sequence[HostRecord]:
        """Return every host ever seen, by name; of those called *names*, where some are given."""
        with reading(self._engine) as connection:
            return host_rows.read_records(connection, names)

    def record_reboot(self, host: str, boot_id: str, at: datetime) -> None:
        """Note that *host* will be rebooted from *boot_id*."""
        with writing(self._engine) as connection:
            host_rows.add_reboot(connection, host, boot_id, at)

    def record_verdicts(self, verified: Mapping[str, bool]) -> None:
        """Note whether each host was as desired when it was looked at."""
        with writing(self._engine) as connection:
            host_rows.set_verdicts(connection, verified)

    def approve(self, host: str, generation: int, digest: str, at: datetime) -> None:
        """Note that a person approved the actions with *digest* under *generation*, and have the host looked at."""
        row = {"host": host, "generation": generation, "digest": digest, "approved_at": at}
        with writing(self._engine) as connection:
            host_rows.put_approvals(connection, [row])
            enqueue(connection, [host], "Approved", at)

    def approved(self, host: str, generation: int, digest: str) -> bool:
        """Return whether just these actions were approved."""
        with reading(self._engine) as connection:
            return host_rows.is_approved(connection, host, generation, digest)

    # ------------------------------------------------------------------------------------------------------------- runs
    def open_run(self, plan: PlanDocument, at: datetime) -> Mapping[str, BegunRun]:
        """Keep *plan*, begin a run of it, and return that by host; approvals of it are used up."""
        with writing(self._engine) as connection:
            host_rows.use_up_approvals(connection, plan)
            asked = carried_out(host_driver_rows.read_open(connection, plan.hosts), plan)
            begun = run_rows.add_runs(connection, plan, self._controller.fencing_token, at, asked)
            for run, hosts in Counter(one.uuid for one in begun.values()).items():
                event_rows.put_event(connection, run_started(run, plan, hosts, at))
        return begun

    def record_outcome(self, run: str, host: str, outcome: Outcome, at: datetime) -> None:
        """Keep what came out for one host."""
        with writing(self._engine) as connection:
            run_rows.put_outcome(connection, {"run_uuid": run, "host": host, "ended_at": at}, outcome)
            event_rows.put_event(connection, apply_ended(run, host, outcome, at))

    def close_run(self, run: str, status: str, at: datetime) -> None:
        """End a run, and the outcomes that are still running."""
        with writing(self._engine) as connection:
            run_rows.end_run(connection, run, status, at)
            event_rows.put_event(connection, run_ended(run, status, at))

    def cancel_requested(self, run: str) -> bool:
        """Return whether somebody wants *run* to be the last of its pass."""
        with reading(self._engine) as connection:
            return run_rows.is_cancelled(connection, run)

    def open_runs(self) -> Sequence[RunRecord]:
        """Return the runs that an earlier process left open, oldest first; to a reader, all that are open."""
        with reading(self._engine) as connection:
            return run_rows.read_open(connection, self._controller.fencing_token)

    def runs(self, host: str = "", limit: int = 50) -> Sequence[RunRecord]:
        """Return the newest runs, newest first; of one host when *host* is given."""
        with reading(self._engine) as connection:
            return run_rows.read_newest(connection, host, limit)

    def plan(self, uuid: str) -> PlanDocument | None:
        """Return the plan that was kept under *uuid*."""
        with reading(self._engine) as connection:
            return run_rows.read_plan(connection, uuid)

    # ------------------------------------------------------------------------------------------ declarations and events
    def record_declarations(self, declared: Declared, at: datetime) -> None:
        """Keep that this is what is declared now, and of the tree, for each state that it was in, what had changed."""
        rows = declaration_rows.rows_of(declared)
        with reading(self._engine) as connection:
            is_known = declaration_rows.read_stamp(connection) == declaration_rows.stamp_of(declared, rows)
        if not is_known:
            with writing(self._engine) as connection:
                declaration_rows.put_declared(connection, declared, rows, at)

    def record_inventory(self, hosts: Sequence[Host]) -> None:
        """Keep the groups and labels of *hosts*."""
        with reading(self._engine) as connection:
            changed = declaration_rows.find_changed(connection, hosts)
        if changed:
            with writing(self._engine) as connection:
                declaration_rows.put_inventory(connection, changed)

    def record_event(self, event: Event) -> None:
        """Append to the audit trail."""
        with writing(self._engine) as connection:
            event_rows.put_event(connection, event)

    def events(self, host: str = "", limit: int = 100) -> Sequence[Event]:
        """Return the newest events, newest first; of one host when *host* is given."""
        with reading(self._engine) as connection:
            return event_rows.read_events(connection, host, limit)
