# SPDX-License-Identifier: Apache-2.0
"""What goes to the driver past SQLAlchemy is what SQLAlchemy would store and read, and fails as it would."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError

from cyborg_reconciler.adapters.database.engine import as_list, listed, reading, upsert, writing
from cyborg_reconciler.adapters.database.schema import UtcDateTime
from cyborg_reconciler.adapters.database.statements import find, put
from cyborg_reconciler.errors import JournalError
from tests.integration.databases import opened_anew

THINGS = Table(
    "things",
    MetaData(),
    Column("name", String(20), primary_key=True),
    Column("at", UtcDateTime),
    Column("count", Integer, nullable=False, default=7),
)
AT = datetime(2026, 1, 5, 12, 0, 0, 250_000, tzinfo=UTC)
INSERT = insert(THINGS)
ALL = select(THINGS).order_by(THINGS.c.name)
NAMED = select(THINGS.c.at, THINGS.c.count).where(THINGS.c.name == bindparam("wanted"), THINGS.c.count > 0)
COUNTED = THINGS.update().where(THINGS.c.name == bindparam("one")).values(count=bindparam("new"), at=AT)


@pytest.fixture
def engine(tmp_path: Path, database: str) -> Iterator[Engine]:
    with opened_anew(tmp_path, database) as engine:
        with writing(engine) as connection:
            THINGS.create(connection)
        yield engine


@pytest.fixture
def filled(engine: Engine) -> Engine:
    with writing(engine) as connection:
        put(connection, INSERT, [{"name": "first", "at": AT}, {"name": "second", "at": None}])
    return engine


def rows(engine: Engine) -> list[tuple[object, ...]]:
    with reading(engine) as connection:
        return [tuple(row) for row in connection.execute(ALL)]


def test_what_is_left_out_gets_its_default(filled: Engine) -> None:
    assert rows(filled) == [("first", AT, 7), ("second", None, 7)]


def test_what_is_found_has_names_and_types(filled: Engine) -> None:
    with reading(filled) as connection:
        (row,) = find(connection, NAMED, wanted="first")
        assert (row.at, row.count) == (AT, 7)
        assert find(connection, NAMED, wanted="third") == []
        assert [tuple(row) for row in find(connection, ALL)] == [("first", AT, 7), ("second", None, 7)]


def test_a_row_is_changed_by_what_it_and_the_statement_give(filled: Engine) -> None:
    with writing(filled) as connection:
        put(connection, COUNTED, [{"one": "second", "new": 3}, {"one": "third", "new": 4}])
        put(connection, COUNTED, [])
    assert rows(filled) == [("first", AT, 7), ("second", AT, 3)]


def test_an_upsert_leaves_alone_what_it_is_not_told_to_set(filled: Engine) -> None:
    with writing(filled) as connection:
        upsert(
            connection, THINGS, [{"name": name, "at": None, "count": 1} for name in ("third", "first")], update=["at"]
        )
        upsert(connection, THINGS, [{"name": "second", "count": 1}], update=[])
    assert rows(filled) == [("first", None, 7), ("second", None, 7), ("third", None, 1)]


def test_it_is_part_of_the_transaction(filled: Engine) -> None:
    with pytest.raises(IntegrityError), writing(filled) as connection:
        _replace_all(connection)
    assert [name for name, *_ in rows(filled)] == ["first", "second"]


def _replace_all(connection: Connection) -> None:
    """Put others in the place of all rows, and then one of these twice."""
    connection.execute(delete(THINGS))
    put(connection, INSERT, [{"name": "fourth", "at": AT}])
    assert [row.name for row in find(connection, ALL)] == ["fourth"]
    put(connection, INSERT, [{"name": "fourth", "at": AT}])


def test_a_row_that_another_forbids_is_the_callers_to_explain(filled: Engine) -> None:
    with pytest.raises(IntegrityError), writing(filled) as connection:
        put(connection, INSERT, [{"name": "fourth", "at": AT}, {"name": "first", "at": AT}])
    assert [name for name, *_ in rows(filled)] == ["first", "second"]


def test_a_failure_is_ours_and_does_not_show_rows(engine: Engine) -> None:
    with writing(engine) as connection:
        THINGS.drop(connection)
    with pytest.raises(JournalError) as failure, writing(engine) as connection:
        put(connection, INSERT, [{"name": "sesame", "at": AT}])
    assert "sesame" not in str(failure.value)


def test_rows_of_one_call_are_alike(filled: Engine) -> None:
    with pytest.raises(KeyError, match="at"), writing(filled) as connection:
        put(connection, INSERT, [{"name": "fourth", "at": AT}, {"name": "fifth"}])
    assert len(rows(filled)) == 2


@pytest.mark.parametrize("names", [[], ["one"], ['"', "\\u0000", "\ufeff", "{}", "7", "b,a", "ünïcode", "\n"]])
def test_names_that_are_one_parameter_come_through_as_they_are(engine: Engine, names: list[str]) -> None:
    with reading(engine) as connection:
        dialect = connection.dialect.name
        rows = find(connection, select(listed(dialect, "given").c.value), given=as_list(dialect, names))
    assert [row.value for row in rows] == names


def test_a_name_that_would_come_through_as_another_is_refused(engine: Engine) -> None:
    with pytest.raises(JournalError, match="without NUL"):
        as_list(engine.dialect.name, ["compute-1", "compute-1\x00 and more"])
