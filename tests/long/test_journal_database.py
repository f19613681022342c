# SPDX-License-Identifier: Apache-2.0
"""What the journal promises on either database when the world does not play along: kill -9, others who write."""

import os
import random
import signal
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from cyborg_reconciler.adapters.database import open_journal, open_reader
from cyborg_reconciler.adapters.database.engine import reading, writing
from cyborg_reconciler.core.state import History
from cyborg_reconciler.errors import AlreadyRunningError, JournalError
from cyborg_reconciler.ports import Event
from tests.integration.acknowledged import Writer, assert_kept
from tests.integration.databases import opened_anew

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def elsewhere(folder: Path, database: str) -> Path:
    """The folder of one who would write as well: it is the database that the two share, and with SQLite the folder."""
    return folder.with_name("other-machine") if database else folder


def test_kill_9_loses_nothing_that_was_acknowledged(folder: Path, database: str) -> None:
    chance = random.Random(20260105)  # noqa: S311  only the moment of the kill depends on it
    acknowledged: list[list[str]] = []
    for number in range(3):
        with Writer(folder, f"round{number}", database) as writer:
            writer.listen(lines=chance.randint(10, 60))
            writer.process.send_signal(signal.SIGKILL)
            acknowledged += writer.acknowledged()
    assert len(acknowledged) > 30
    with open_journal(folder, database=database) as journal:
        assert_kept(journal, acknowledged)


def test_two_writers_do_not_run_at_once(folder: Path, elsewhere: Path, database: str) -> None:
    with (
        open_journal(folder, database=database) as journal,
        pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}( on .*)? works with it"),
    ):
        open_journal(elsewhere, database=database)
    with open_journal(elsewhere, database=database) as again:
        assert again.controller().id == journal.controller().id
        assert again.controller().fencing_token == journal.controller().fencing_token + 1


BESIDE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.ports import Event
for number in range(8):
    with open_journal(Path(sys.argv[1]), database=sys.argv[2], exclusive=False, busy_timeout_s=30) as journal:
        journal.record_event(Event(datetime.now(UTC), sys.argv[3], message=str(number)))
"""


def test_those_who_change_no_hosts_write_beside_each_other_from_the_first_moment_on(
    folder: Path, empty_database: str
) -> None:
    database = empty_database
    names = ["a", "b", "c"]
    writers = [subprocess.Popen([sys.executable, "-c", BESIDE, folder, database, name]) for name in names]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    with open_journal(folder, database=database) as journal:
        written = sorted((event.kind, int(event.message)) for event in journal.events(limit=1000))
        token = journal.controller().fencing_token
        with open_journal(folder, database=database, exclusive=False) as beside:
            assert beside.controller() == journal.controller()
    assert written == [(name, number) for name in names for number in range(8)]
    with open_journal(folder, database=database) as journal:
        assert journal.controller().fencing_token == token + 1, "only who changes hosts raises the token"


def test_a_killed_writer_gives_back_what_it_had(folder: Path, elsewhere: Path, database: str) -> None:
    with Writer(folder, "round0", database) as writer:
        with pytest.raises(AlreadyRunningError, match=f"process {writer.process.pid} "):
            open_journal(elsewhere, database=database)
        writer.process.send_signal(signal.SIGKILL)
        acknowledged = writer.acknowledged()
    with open_journal(elsewhere, database=database) as journal:
        assert_kept(journal, acknowledged)


def test_a_reader_reads_while_a_writer_writes(folder: Path, database: str) -> None:
    with open_journal(folder, database=database) as journal, open_reader(folder, database=database) as reader:
        journal.record_event(Event(NOW, "seen"))
        assert [event.kind for event in reader.events()] == ["seen"]
        with pytest.raises(JournalError, match=r"read-?only"):
            reader.record_event(Event(NOW, "never"))
        assert reader.controller().id == journal.controller().id


def test_a_journal_of_a_newer_release_is_refused_and_kept(folder: Path, database: str) -> None:
    with open_journal(folder, database=database) as journal, writing(journal._engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v9999'"))
        tables = inspect(connection).get_table_names()
    for open_it in (open_journal, open_reader):
        with pytest.raises(JournalError, match="revision v9999"):
            open_it(folder, database=database)
    with opened_anew(folder, database) as engine, reading(engine) as connection:
        assert inspect(connection).get_table_names() == tables
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "v9999"


RECORDERS = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.core.state import Health, Phase, Sync
from cyborg_reconciler.ports import HostRecord, Unobserved
folder, database, way = sys.argv[1:]
hosts = [f"{'Aa'[number % 2]}-{number}" for number in range(40)][:: int(way)]
with open_journal(Path(folder), database=database, exclusive=False, busy_timeout_s=60) as journal:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(10):
        journal.record_observations(dict.fromkeys(hosts, Unobserved("Unreachable", way)))
        journal.histories(dict.fromkeys(hosts, "a"))
        journal.record_verdicts(dict.fromkeys(hosts, False))
        journal.record_hosts([
            HostRecord(host, "", 0, Sync.UNKNOWN, Health.UNKNOWN, Phase.IDLE, message=host[:i % 2])
            for i, host in enumerate(hosts)
        ])
        journal.record_phases(hosts, Phase.APPLYING)
"""


def test_writers_of_the_same_hosts_lose_nothing_and_never_wait_for_each_other(folder: Path, database: str) -> None:
    with open_journal(folder, database=database) as journal, ExitStack() as stack:
        writers = []
        for way in ("1", "-1", "1", "-1"):
            command = [sys.executable, "-c", RECORDERS, folder, database, way]
            opened = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            writers.append(stack.enter_context(opened))
        for writer in writers:
            assert writer.stdout
            writer.stdout.readline()
        for writer in writers:
            assert writer.stdin
            writer.stdin.write(b"go\n")
            writer.stdin.close()
        assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0]
        hosts = [record.name for record in journal.hosts()]
        remembered = journal.histories(dict.fromkeys(hosts, "a"))
    assert len(hosts) == 40
    assert set(remembered.values()) == {History(generation=1, failures=40)}
