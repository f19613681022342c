# SPDX-License-Identifier: Apache-2.0
"""A question that the driver answers: who asks never meets another's answer, and leaves nothing open."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import bindparam, event, func, literal, select

from cyborg_reconciler.adapters.database import sqlite
from cyborg_reconciler.adapters.database.asking import ask
from cyborg_reconciler.adapters.database.schema import hosts
from cyborg_reconciler.errors import JournalError

SAID = select(bindparam("said", type_=hosts.c.name.type).label("said"))
MEET = select(func.meet().label("number"))
WRONG = select(literal(1).label("one")).select_from(hosts).where(hosts.c.name == bindparam("wanted"))


@pytest.fixture
def engine(empty_file, tmp_path):
    database = tmp_path / "journal.db"
    database.write_bytes(empty_file.read_bytes())
    engine = sqlite.open_engine(database, writes=True, busy_timeout_s=5)
    yield engine
    engine.dispose()


def open_files(engine):
    return sum(os.path.realpath(one) == engine.url.database for one in Path("/proc/self/fd").iterdir())


def test_who_asks_while_others_are_asking_has_a_session_alone(engine):
    meeting = threading.Barrier(2, timeout=20)
    event.listen(engine, "connect", lambda session, _: session.create_function("meet", 0, meeting.wait))
    with ThreadPoolExecutor(2) as pool:
        for _ in ("by new sessions", "by those that are kept"):
            both = pool.map(lambda _: ask(engine, MEET), range(2))
            assert sorted(rows[0].number for rows in both) == [0, 1]
    with ThreadPoolExecutor(8) as pool:
        heard = pool.map(lambda number: ask(engine, SAID, said=str(number))[0].said, range(400))
        assert list(heard) == [str(number) for number in range(400)]


def test_who_asks_one_after_another_asks_by_one_session(engine):
    ask(engine, SAID, said="a")
    at_first = open_files(engine)
    for _ in range(20):
        ask(engine, SAID, said="a")
    assert open_files(engine) == at_first > 0


def test_nothing_is_open_when_the_engine_is_disposed_of(engine):
    ask(engine, SAID, said="a")
    engine.dispose()
    assert open_files(engine) == 0
    assert ask(engine, SAID, said="b")[0].said == "b"


def test_a_session_that_failed_is_closed(engine):
    ask(engine, WRONG, wanted="a")
    engine.pool.dispose()
    assert open_files(engine) == 1
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE hosts RENAME TO others")
    with pytest.raises(JournalError, match="no such table"):
        ask(engine, WRONG, wanted="a")
    engine.pool.dispose()
    assert open_files(engine) == 0
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE others RENAME TO hosts")
    assert ask(engine, WRONG, wanted="a") == []
