# SPDX-License-Identifier: Apache-2.0
"""Of many who saw one version of a row and change it, just one succeeds: in one process or two, on either database."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from cyborg_reconciler.adapters.database.engine import reading, update_if, writing
from tests.integration import version_racer
from tests.integration.databases import opened_anew
from tests.integration.version_racer import RACED

ROOT = Path(__file__).parents[2]
PROCESSES, THREADS, LAST = 2, 25, 60


@pytest.fixture
def engine(tmp_path: Path, database: str) -> Iterator[Engine]:
    """A database with one row of version 0, and another that is nobody's business."""
    with opened_anew(tmp_path, database) as engine:
        with writing(engine) as connection:
            RACED.create(connection)
            connection.execute(
                RACED.insert(), [{"name": name, "version": 0, "winner": ""} for name in ("row", "other")]
            )
        yield engine


def rows(engine: Engine) -> list[tuple[str, int, str]]:
    with reading(engine) as connection:
        return [tuple(row) for row in connection.execute(select(RACED).order_by(RACED.c.name.desc()))]


def test_only_the_version_that_was_seen_is_changed(engine: Engine) -> None:
    with writing(engine) as connection:
        assert update_if(connection, RACED, {"name": "row"}, 0, {"winner": "first"})
        assert not update_if(connection, RACED, {"name": "row"}, 0, {"winner": "second"})
        assert not update_if(connection, RACED, {"name": "gone"}, 0, {"winner": "nobody"})
        assert update_if(connection, RACED, {"name": "row"}, 1, {})
    assert rows(engine) == [("row", 2, "first"), ("other", 0, "")]


def test_of_fifty_threads_in_two_processes_one_raises_each_version(
    engine: Engine, database: str, tmp_path: Path
) -> None:
    command = [sys.executable, version_racer.__file__, tmp_path, database, str(THREADS), str(LAST)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(PROCESSES)
        ]
        for racer in racers:
            assert racer.stdout
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin
            racer.stdin.write("go\n")
            racer.stdin.flush()
        said = [racer.communicate(timeout=300)[0] for racer in racers]
        assert [racer.returncode for racer in racers] == [0] * PROCESSES
    won = sorted(int(version) for words in said for version in words.split())
    assert won == list(range(LAST)), "each version was raised by one, and by one only"
    assert [version for _, version, _ in rows(engine)] == [LAST, 0]
