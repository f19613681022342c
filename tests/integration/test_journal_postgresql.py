# SPDX-License-Identifier: Apache-2.0
"""What the journal on a PostgreSQL server does when that goes away, is full or is taken over, and what it tells."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from cyborg_reconciler.adapters.database import DatabaseJournal, open_journal, open_reader
from cyborg_reconciler.adapters.database.engine import reading
from cyborg_reconciler.bootstrap import Target, open_memory, open_ports
from cyborg_reconciler.core.state import Phase
from cyborg_reconciler.errors import (
    AlreadyRunningError,
    JournalError,
    JournalFullError,
    JournalLockedError,
    JournalUnavailableError,
    NextStep,
    SettingsInvalidError,
)
from cyborg_reconciler.ports import Event, Unobserved
from cyborg_reconciler.settings import Settings
from tests.disks import BIG, record_until_full, small_database
from tests.integration.acknowledged import Writer, assert_kept
from tests.integration.api_support import until
from tests.postgresql import GUARDED, PASSWORD, Cluster

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture
def journal(tmp_path: Path, postgresql: str) -> Iterator[DatabaseJournal]:
    with open_journal(tmp_path / "state", database=postgresql) as journal:
        yield journal


@contextmanager
def stopped(cluster: Cluster, how: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """Have the server be away."""
    cluster.stop(how)
    try:
        yield
    finally:
        cluster.start()


def kinds(journal: DatabaseJournal) -> list[str]:
    return [event.kind for event in journal.events()][::-1]


def test_a_server_that_goes_away_is_said_to_be_away_and_is_found_again(
    cluster: Cluster, journal: DatabaseJournal, postgresql: str, tmp_path: Path
) -> None:
    place = tmp_path / "elsewhere"
    with (
        open_reader(place, database=postgresql) as reader,
        open_journal(place, database=postgresql, exclusive=False) as beside,
    ):
        journal.record_event(Event(NOW, "before"))
        assert kinds(reader) == kinds(beside) == ["before"]
        with stopped(cluster):
            for attempt in (
                lambda: journal.record_event(Event(NOW, "lost")),
                lambda: journal.record_event(Event(NOW, "lost as well")),
                lambda: beside.approve("compute-1", 1, "d", NOW),
                reader.events,
                lambda: open_reader(place, database=postgresql),
                lambda: open_journal(place, database=postgresql),
            ):
                with pytest.raises(JournalUnavailableError, match="see whether the database server runs") as caught:
                    attempt()
                assert caught.value.next_step is NextStep.RETRY
                assert "\n" not in caught.value.line()
        journal.record_event(Event(NOW, "after"))
        assert kinds(journal) == kinds(reader) == kinds(beside) == ["before", "after"]
        assert not beside.approved("compute-1", 1, "d")
        with pytest.raises(AlreadyRunningError):
            open_journal(place, database=postgresql)


def test_a_server_that_is_killed_keeps_what_was_acknowledged(cluster: Cluster, postgresql: str, tmp_path: Path) -> None:
    with Writer(tmp_path / "state", "round0", postgresql) as writer:
        writer.listen(lines=50)
        with stopped(cluster, signal.SIGQUIT):
            acknowledged = writer.acknowledged()
        assert writer.process.wait(60) == 1, "it does not go on as if nothing were"
    with open_journal(tmp_path / "state", database=postgresql) as journal:
        assert_kept(journal, acknowledged)


def cut_off(cluster: Cluster) -> None:
    """End all sessions of the tests' role, as a server does that is started anew."""
    cluster.execute("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname LIKE 'test%'")


def wait_for_nobody(cluster: Cluster) -> None:
    """Wait until no session holds a writer's lock: the server ends one some time after its client has gone."""
    with psycopg.connect(cluster.url("postgres", "root"), autocommit=True) as session:
        until(lambda: not session.execute("SELECT FROM pg_locks WHERE locktype = 'advisory'").fetchall())


def test_who_was_cut_off_keeps_others_out_again_with_its_next_word(
    cluster: Cluster, journal: DatabaseJournal, postgresql: str, tmp_path: Path
) -> None:
    cut_off(cluster)
    assert journal.events() == []
    with pytest.raises(AlreadyRunningError, match="works with it; wait for the other process or end it"):
        open_journal(tmp_path / "elsewhere", database=postgresql)
    journal.record_event(Event(NOW, "after"))


def test_who_was_cut_off_writes_no_more_once_another_has_begun(
    cluster: Cluster, journal: DatabaseJournal, postgresql: str, tmp_path: Path
) -> None:
    cut_off(cluster)
    with open_journal(tmp_path / "elsewhere", database=postgresql) as other:
        assert other.controller().fencing_token == journal.controller().fencing_token + 1
        with pytest.raises(AlreadyRunningError, match="works with it"):
            journal.record_event(Event(NOW, "late"))
    wait_for_nobody(cluster)
    with pytest.raises(AlreadyRunningError, match="has since we did"):
        journal.record_event(Event(NOW, "later"))
    with open_reader(tmp_path, database=postgresql) as reader:
        assert reader.events() == []


def test_rows_that_another_keeps_locked_are_said_to_be_locked(tmp_path: Path, postgresql: str) -> None:
    with open_journal(tmp_path / "state", database=postgresql, busy_timeout_s=0.1) as journal:
        journal.record_observations({"compute-1": Unobserved("Unreachable", "")})
        with psycopg.connect(postgresql) as other:
            other.execute("SELECT name FROM hosts FOR UPDATE")
            with pytest.raises(JournalLockedError, match="lock timeout") as caught:
                journal.record_phases(["compute-1"], Phase.APPLYING)
            assert caught.value.next_step is NextStep.RETRY
        journal.record_phases(["compute-1"], Phase.APPLYING)
        assert [record.phase for record in journal.hosts()] == [Phase.APPLYING]


def test_a_full_disk_under_the_server_loses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    with (
        small_database(cluster) as (url, ballast),
        open_journal(tmp_path / "state", database=url) as journal,
    ):
        acknowledged = record_until_full(journal)
        assert len(journal.events(limit=1000)) == acknowledged > 0
        with pytest.raises(JournalFullError, match="make room where the database server") as caught:
            journal.record_event(BIG)
        assert caught.value.next_step is NextStep.STALL
        ballast.write_bytes(b"")
        journal.record_event(Event(NOW, "after"))


def test_a_password_comes_from_its_file_and_is_never_shown(cluster: Cluster, postgresql: str, tmp_path: Path) -> None:
    name = psycopg.conninfo.conninfo_to_dict(postgresql)["dbname"]
    url = f"postgresql://{GUARDED}@127.0.0.1:{cluster.port}/{name}?connect_timeout=60"
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for path, password in ((right, PASSWORD), (wrong, "not that one")):
        path.touch(mode=0o600)
        path.write_text(f"*:*:*:{GUARDED}:{password}\n")
    with open_journal(tmp_path / "state", database=f"{url}&passfile={right}") as journal:
        journal.record_event(Event(NOW, "let in"))
    for more in (f"&passfile={wrong}", f"&passfile={wrong}&password=hidden", "&pass%77ord=hidden"):
        with pytest.raises(JournalUnavailableError, match="password authentication failed") as caught:
            open_reader(tmp_path, database=f"{url.replace('@', ':hidden@')}{more}")
        assert f"postgresql://{GUARDED}@127.0.0.1:{cluster.port}/" in caught.value.line()
        assert "hidden" not in caught.value.line()


def test_a_reader_needs_a_journal_and_a_database(cluster: Cluster, empty_postgresql: str, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="it is empty; wait for the first `observe`"):
        open_reader(tmp_path, database=empty_postgresql)
    with pytest.raises(JournalUnavailableError, match='database "nowhere" does not exist'):
        open_reader(tmp_path, database=cluster.url("nowhere"))
    with pytest.raises(SettingsInvalidError, match=r"a URL of PostgreSQL.*invalid"):
        open_reader(tmp_path, database="postgresql://host/name?what=1")


def test_a_text_may_hold_what_postgresql_has_no_letter_for(journal: DatabaseJournal) -> None:
    journal.record_event(Event(NOW, "read", "compute-1", "serial \x00\x01 → \N{PILE OF POO}"))
    assert journal.events("compute-1")[0].message == "serial \\x00\x01 → \N{PILE OF POO}"


def test_what_is_acknowledged_is_on_disk_and_what_hangs_is_given_up(postgresql: str, tmp_path: Path) -> None:
    url = f"{postgresql}&options=-c%20synchronous_commit%3Doff&application_name=ours"
    with (
        open_journal(tmp_path / "state", database=postgresql) as journal,
        open_reader(tmp_path, database=url) as reader,
    ):
        assert show(journal, "synchronous_commit", "statement_timeout", "lock_timeout") == ["on", "1min", "5s"]
        assert show(reader, "statement_timeout", "default_transaction_read_only") == ["30s", "on"]
        assert show(reader, "synchronous_commit", "application_name") == ["off", "ours"], "who says otherwise has it so"


def show(journal: DatabaseJournal, *names: str) -> list[str]:
    with reading(journal._engine) as connection:
        return [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]


def test_the_setting_leads_there(postgresql: str, tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state", database=postgresql)
    with open_memory(settings, writes=True) as memory:
        memory.approve("compute-1", 1, "d", NOW)
    with open_ports(settings, Target((), "", ""), exclusive=True) as ports, open_memory(settings) as memory:
        assert ports.journal.approved("compute-1", 1, "d")
        assert memory.approved("compute-1", 1, "d")
        with pytest.raises(AlreadyRunningError), open_ports(settings, Target((), "", ""), exclusive=True):
            pass
    assert [path.name for path in settings.state_dir.iterdir()] == ["lock"], "no journal, and a lock for the runs"


WITHOUT_PSYCOPG = """
import sys
from pathlib import Path
sys.modules["psycopg"] = None
from cyborg_reconciler.adapters.database import open_reader
from cyborg_reconciler.errors import SettingsInvalidError
try:
    open_reader(Path("nowhere"), database="postgresql://host/name")
except SettingsInvalidError as exc:
    print(exc.line())
"""


def test_without_psycopg_it_is_said_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PSYCOPG], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("psycopg, to reach the database postgresql://host/name: ")
    assert done.stdout.endswith("pip install 'cyborg-reconciler[postgresql]'\n")
