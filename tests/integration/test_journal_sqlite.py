# SPDX-License-Identifier: Apache-2.0
"""What the journal in a file does when the world does not play along: locks, a full disk, what is in the folder."""

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cyborg_reconciler.adapters.database import open_journal, open_reader
from cyborg_reconciler.errors import JournalError, JournalFullError, JournalLockedError, NextStep
from cyborg_reconciler.ports import Event
from tests.disks import BIG, record_until_full, small_disk

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


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
def a_megabyte(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "1m") as place:
        yield place


def fill_disk(path: Path) -> None:
    """Write to *path* until nothing more can be written."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 512):
            pass
    assert os.statvfs(path).f_bavail == 0


def test_a_full_disk_loses_nothing(a_megabyte: Path) -> None:
    folder = a_megabyte / "state"
    filler = a_megabyte / "filler"
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


def test_a_state_folder_cannot_be_made_on_a_full_disk(a_megabyte: Path) -> None:
    fill_disk(a_megabyte / "filler")
    with pytest.raises(JournalError), open_journal(a_megabyte / "state"):
        pass


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


def test_one_process_may_open_it_twice_and_no_reader_that_ends_takes_the_log_away_from_it(folder: Path) -> None:
    command = [sys.executable, "-c", READER, folder]
    with open_journal(folder, exclusive=False) as beside, open_journal(folder) as journal:
        beside.record_event(Event(NOW, "seen", message="first"))
        subprocess.run(command, check=True)  # as the last one who closes the database it would remove the log
        journal.record_event(Event(NOW, "seen", message="second"))
        assert (folder / "journal.db-wal").exists()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "second first\n"


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


def test_the_folder_is_free_again_when_opening_failed(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "journal.db").write_bytes(b"no database" * 1000)
    with pytest.raises(JournalError):
        open_journal(folder)
    shutil.copyfile(os.devnull, folder / "journal.db")
    open_journal(folder).close()
