# SPDX-License-Identifier: Apache-2.0
"""What the journal does when the world does not play along: kill -9, locks, a full disk, another writer or release."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, select

from cyborg_reconciler.adapters.database import migrations, open_journal, open_reader, schema
from cyborg_reconciler.adapters.database.engine import migrate, open_engine, reading, writing
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.errors import (
    AlreadyRunningError,
    JournalError,
    JournalFullError,
    JournalLockedError,
    NextStep,
)
from cyborg_reconciler.ports import Event, Journal

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
WRITER = Path(__file__).with_name("journal_writer.py")
BIG = Event(NOW, "big", message="x" * 100_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def kill_in_the_middle(folder: Path, name: str, after_s: float) -> list[list[str]]:
    """Run the writer, kill it *after_s* seconds after its first word, and return the words of each acknowledgement."""
    with subprocess.Popen([sys.executable, WRITER, folder, name], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        first = writer.stdout.readline()
        time.sleep(after_s)
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read()
    lines = (first + rest).decode().split("\n")
    assert lines.pop() == "", "a pipe takes a short line whole or not at all"
    return [line.split() for line in lines]


def test_kill_9_loses_nothing_that_was_acknowledged(folder: Path) -> None:
    chance = random.Random(20260105)  # noqa: S311  only the moment of the kill depends on it
    acknowledged: list[list[str]] = []
    for number in range(5):
        acknowledged += kill_in_the_middle(folder, f"round{number}", chance.uniform(0.0, 0.4))
    with open_journal(folder) as journal:
        runs = {run.uuid: run for run in journal.runs(limit=100_000)}
        events = {event.message for event in journal.events(limit=100_000)}
        plans = {run.plan_uuid for run in runs.values()}
        open_ = {run.uuid for run in journal.open_runs()}
        facts = dict(journal.facts([f"compute-{number}" for number in range(7)]))
    newest = {}
    for kind, what, *mark in acknowledged:
        if kind == "facts":
            newest[what] = mark[0]
        elif kind == "run":
            assert what in open_
            assert runs[what].plan_uuid == mark[0]
            assert mark[0] in plans
        elif kind == "outcome":
            assert runs[what].hosts == {mark[0]: "applied"}
        else:
            assert what in events
    assert len(acknowledged) > 50
    for host, mark in newest.items():
        # The very last write may be on disk without having been acknowledged.
        found = decode_facts(facts[host][0]).kernel.boot_id
        assert order(found) >= order(mark)


def order(mark: str) -> tuple[int, int]:
    """Return when the writer wrote *mark*: its round, and its number in that."""
    name, number = mark.split("-")
    return int(name.removeprefix("round")), int(number)


def test_a_locked_database_is_said_to_be_locked(folder: Path) -> None:
    with open_journal(folder, busy_timeout_s=0.1) as journal:
        journal.record_event(Event(NOW, "before"))
        with closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(JournalLockedError, match="locked") as caught:
                journal.record_event(Event(NOW, "meanwhile"))
            assert caught.value.next_step is NextStep.RETRY
            other.execute("ROLLBACK")
        journal.record_event(Event(NOW, "after"))
        assert [event.kind for event in journal.events()] == ["after", "before"]


def test_a_short_lock_is_waited_for(folder: Path) -> None:
    with open_journal(folder, busy_timeout_s=10) as journal:
        code = (
            "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); time.sleep(0.5); c.execute('ROLLBACK')"
        )
        command = [sys.executable, "-c", code, folder / "journal.db"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
            assert other.stdout
            assert other.stdout.readline() == b"locked\n"
            journal.record_event(Event(NOW, "waited"))
        assert [event.kind for event in journal.events()] == ["waited"]


def test_a_full_database_loses_nothing(folder: Path) -> None:
    with open_journal(folder) as journal:
        journal.record_event(Event(NOW, "before"))
        with journal._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1")  # SQLite makes it the pages that there are
        acknowledged = record_until_full(journal)
    with open_journal(folder) as journal:
        assert [event.kind for event in journal.events()] == ["big"] * acknowledged + ["before"]
        journal.record_event(Event(NOW, "after"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte; needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["/usr/bin/mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["/usr/bin/umount", place], check=True)


def fill_disk(path: Path) -> None:
    """Write to *path* until nothing more can be written."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 512):
            pass
    assert os.statvfs(path).f_bavail == 0


def record_until_full(journal: Journal) -> int:
    """Record big events, and return how many were acknowledged."""
    for acknowledged in range(1000):
        try:
            journal.record_event(BIG)
        except JournalFullError:
            return acknowledged
    pytest.fail("it never was full")


def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    folder = small_disk / "state"
    filler = small_disk / "filler"
    with open_journal(folder) as journal:
        acknowledged = record_until_full(journal)
        assert len(journal.events()) == acknowledged > 0
        fill_disk(filler)
        with pytest.raises(JournalFullError, match="make room") as caught:
            journal.record_event(BIG)
        assert caught.value.next_step is NextStep.STALL
    filler.unlink()
    with open_journal(folder) as journal:
        assert len(journal.events()) == acknowledged
        journal.record_event(Event(NOW, "after"))


def test_a_state_folder_cannot_be_made_on_a_full_disk(small_disk: Path) -> None:
    fill_disk(small_disk / "filler")
    with pytest.raises(JournalError), open_journal(small_disk / "state"):
        pass


def test_two_writers_do_not_run_at_once(folder: Path) -> None:
    with (
        open_journal(folder) as journal,
        pytest.raises(AlreadyRunningError, match=f"process {os.getpid()} works with it"),
    ):
        open_journal(folder)
    with open_journal(folder) as again:
        assert again.controller().fencing_token == journal.controller().fencing_token + 1


BESIDE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.ports import Event
for number in range(8):
    with open_journal(Path(sys.argv[1]), exclusive=False, busy_timeout_s=30) as journal:
        journal.record_event(Event(datetime.now(UTC), sys.argv[2], message=str(number)))
"""


def test_those_who_change_no_hosts_write_beside_each_other_from_the_first_moment_on(folder: Path) -> None:
    names = ["a", "b", "c"]
    writers = [subprocess.Popen([sys.executable, "-c", BESIDE, folder, name]) for name in names]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    with open_journal(folder) as journal:
        written = sorted((event.kind, int(event.message)) for event in journal.events(limit=1000))
        token = journal.controller().fencing_token
        with open_journal(folder, exclusive=False) as beside:
            assert beside.controller() == journal.controller()
    assert written == [(name, number) for name in names for number in range(8)]
    with open_journal(folder) as journal:
        assert journal.controller().fencing_token == token + 1, "only who changes hosts raises the token"


def test_a_killed_writer_gives_its_folder_back(folder: Path) -> None:
    with subprocess.Popen([sys.executable, WRITER, folder, "x"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        writer.stdout.readline()
        with pytest.raises(AlreadyRunningError, match=f"process {writer.pid} "):
            open_journal(folder)
        writer.send_signal(signal.SIGKILL)
    with open_journal(folder) as journal:
        assert journal.open_runs() or journal.facts(["compute-0"])


def test_a_reader_reads_while_a_writer_writes(folder: Path) -> None:
    with open_journal(folder) as journal, open_reader(folder) as reader:
        journal.record_event(Event(NOW, "seen"))
        assert [event.kind for event in reader.events()] == ["seen"]
        with pytest.raises(JournalError, match="readonly"):
            reader.record_event(Event(NOW, "never"))
        assert reader.controller().id == journal.controller().id


READER = """
import sys
from pathlib import Path
from cyborg_reconciler.adapters.database import open_reader
with open_reader(Path(sys.argv[1])) as journal:
    print(*(event.message for event in journal.events()))
"""
#: Root may write everywhere unless that is taken from him.
WITHOUT_POWERS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


@pytest.mark.parametrize("is_writer_at_work", [False, True])
def test_a_reader_needs_no_more_than_to_read(folder: Path, *, is_writer_at_work: bool) -> None:
    with open_journal(folder) as journal, contextlib.ExitStack() as stack:
        journal.record_event(Event(NOW, "seen", message="here?"))
        if not is_writer_at_work:
            journal.close()
        folder.chmod(0o500)
        stack.callback(folder.chmod, 0o700)
        command = [*WITHOUT_POWERS, sys.executable, "-c", READER, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("here?\n", "")


def test_a_reader_needs_a_journal(folder: Path) -> None:
    with pytest.raises(JournalError, match="there is none"):
        open_reader(folder)
    assert not folder.exists()


def test_nobody_else_may_read_the_state_folder(folder: Path) -> None:
    old = os.umask(0)
    try:
        with open_journal(folder) as journal:
            journal.record_event(Event(NOW, "secret"))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    finally:
        os.umask(old)
    assert modes == {
        "state": 0o700,
        "journal.db": 0o600,
        "journal.db-wal": 0o600,
        "journal.db-shm": 0o600,
        "lock": 0o600,
    }


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(JournalError, match=r"others may write into it.*chmod 700"):
        open_journal(tmp_path)


def test_a_file_that_is_no_database_is_said_to_be_none(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "journal.db").write_bytes(b"a letter to my mother" * 1000)
    with pytest.raises(JournalError, match="not a database"):
        open_journal(folder)
    assert (folder / "journal.db").read_bytes().startswith(b"a letter"), "it is left as it was"


def test_a_journal_of_a_newer_release_is_refused_and_kept(folder: Path) -> None:
    open_journal(folder).close()
    with closing(sqlite3.connect(folder / "journal.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9999'")
    before = (folder / "journal.db").read_bytes()
    with pytest.raises(JournalError, match="revision v9999"):
        open_journal(folder)
    with pytest.raises(JournalError, match="revision v9999"):
        open_reader(folder)
    assert (folder / "journal.db").read_bytes() == before


# ----------------------------------------------------------------------------------------------------------- migrations
def fill(connection: Connection) -> dict[str, int]:
    """Put a row into every table that is there, and return how many each has."""
    present = set(inspect(connection).get_table_names())
    connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
    for table in schema.metadata.sorted_tables:
        if table.name in present:
            there = {column["name"] for column in inspect(connection).get_columns(table.name)}
            values = {
                column.name: NOW if isinstance(column.type, schema.UtcDateTime) else column.type.python_type(1)
                for column in table.columns
                if column.name in there and column.name != "number"
            }
            connection.execute(table.insert().values(values))
    return count(connection)


def count(connection: Connection) -> dict[str, int]:
    """Return the number of rows of each table."""
    present = set(inspect(connection).get_table_names())
    tables = [table for table in schema.metadata.sorted_tables if table.name in present]
    return {table.name: len(connection.execute(select(table.primary_key.columns[0])).all()) for table in tables}


def test_the_tables_are_those_that_the_last_migration_leaves(folder: Path) -> None:
    with open_journal(folder) as journal, reading(journal._engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    assert migrations.revisions()[-1] == schema.REVISION


def test_every_migration_goes_up_and_down_with_data_in_the_tables(folder: Path) -> None:
    open_journal(folder).close()
    engine = open_engine(folder / "journal.db", writes=True, busy_timeout_s=1)
    with writing(engine) as connection:
        connection.execute(schema.controllers.delete())
        filled = fill(connection)
    assert set(filled) == {table.name for table in schema.metadata.sorted_tables}
    assert set(filled.values()) == {1}
    steps = [migrations.BASE, *migrations.revisions()]
    for older, newer in list(pairwise(steps))[::-1]:
        with writing(engine) as connection:
            before = count(connection)
            migrations.move(connection, older)
            left = count(connection)
            assert all(before[table] == rows for table, rows in left.items()), "what stays keeps its rows"
            migrations.move(connection, newer)
            assert count(connection).keys() == before.keys()
            migrations.move(connection, older)
    with reading(engine) as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
    migrate(engine)
    engine.dispose()
    with open_journal(folder) as journal:
        journal.record_event(Event(NOW, "works"))


def test_a_migration_that_fails_leaves_the_database_as_it_was(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        connection.execute("CREATE TABLE events (mine TEXT)")  # made late in the first migration: it fails half-way
    with pytest.raises(JournalError, match="already exists"):
        open_journal(folder)
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert tables == [("events",)]


def test_the_folder_is_free_again_when_opening_failed(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "journal.db").write_bytes(b"no database" * 1000)
    with pytest.raises(JournalError):
        open_journal(folder)
    shutil.copyfile(os.devnull, folder / "journal.db")
    open_journal(folder).close()
