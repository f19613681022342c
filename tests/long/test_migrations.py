# SPDX-License-Identifier: Apache-2.0
"""Does every migration go up and down, with rows in the tables, on either database, and end where the schema says?"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, Table, func, inspect, select, text

from cyborg_reconciler.adapters.database import migrations, open_journal, schema
from cyborg_reconciler.adapters.database.engine import reading, writing
from cyborg_reconciler.adapters.database.revision import migrate
from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.ports import Event
from tests.integration.databases import opened_anew
from tests.postgresql import Cluster

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
STEPS = [migrations.BASE, *migrations.revisions()]


@pytest.fixture
def engine(tmp_path: Path, empty_database: str) -> Iterator[Engine]:
    with opened_anew(tmp_path / "state", empty_database) as engine:
        yield engine


def fill(connection: Connection) -> None:
    """Put a row into every table that is there and has none; all refer to each other."""
    for table in present(connection):
        there = {column["name"] for column in inspect(connection).get_columns(table.name)}
        values = {
            column.name: NOW if isinstance(column.type, schema.UtcDateTime) else column.type.python_type(1)
            for column in table.columns
            if column.name in there and column.name != "number"
        }
        if not count(connection)[table.name]:
            connection.execute(table.insert().values(values))


def present(connection: Connection) -> list[Table]:
    """Return the schema's tables that are there, those first that others refer to."""
    names = set(inspect(connection).get_table_names())
    return [table for table in schema.metadata.sorted_tables if table.name in names]


def count(connection: Connection) -> dict[str, int]:
    """Return the number of rows of each table."""
    query = select(func.count())
    return {table.name: connection.execute(query.select_from(table)).scalar_one() for table in present(connection)}


def test_the_tables_are_those_that_the_last_migration_leaves(engine: Engine) -> None:
    migrate(engine)
    with reading(engine) as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata) == []
    assert STEPS[-1] == schema.REVISION


def test_every_migration_goes_up_and_down_with_data_in_the_tables(
    engine: Engine, empty_database: str, tmp_path: Path
) -> None:
    for revision in STEPS[1:]:  # at each revision every table has a row
        with writing(engine) as connection:
            before = count(connection)
            migrations.move(connection, revision)
            after = count(connection)
            assert all(after[table] == rows for table, rows in before.items() if table in after), "what stays, stays"
            fill(connection)
            assert set(count(connection).values()) == {1}
    assert set(before) <= {table.name for table in schema.metadata.sorted_tables}
    for older, newer in list(pairwise(STEPS))[::-1]:
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
    with open_journal(tmp_path / "state", database=empty_database) as journal:
        journal.record_event(Event(NOW, "works"))


def test_what_agents_told_of_their_drivers_is_told_again_where_it_was_dropped(engine: Engine) -> None:
    with writing(engine) as connection:
        migrations.move(connection, "v0008")
        fill(connection)
        assert connection.execute(select(schema.agents.c.drivers)).scalar_one()
        migrations.move(connection, "v0009")
        assert count(connection)["agent_drivers"] == 0
        assert connection.execute(select(schema.agents.c.drivers)).scalar_one() == ""


def test_a_migration_that_fails_leaves_the_database_as_it_was(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE events (mine TEXT)"))  # made late in the first: it fails half-way
    with pytest.raises(JournalError, match="already exists"):
        migrate(engine)
    with reading(engine) as connection:
        assert inspect(connection).get_table_names() == ["events"]


NOTES_TIMEOUT = """
CREATE TABLE noted (timeout TEXT);
GRANT ALL ON noted TO PUBLIC;
CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql
    AS 'BEGIN INSERT INTO noted VALUES (current_setting(''statement_timeout'')); END';
CREATE EVENT TRIGGER noting ON ddl_command_end EXECUTE FUNCTION note()
"""


def test_a_migration_may_take_as_long_as_it_takes(cluster: Cluster, empty_postgresql: str, tmp_path: Path) -> None:
    cluster.execute(NOTES_TIMEOUT, conninfo_to_dict(empty_postgresql)["dbname"])
    with opened_anew(tmp_path, empty_postgresql) as engine:
        migrate(engine, STEPS[1])
        with reading(engine) as connection:
            assert set(connection.execute(text("SELECT timeout FROM noted")).scalars()) == {"0"}
            assert connection.execute(text("SHOW statement_timeout")).scalar() == "1min"


def described(connection: Connection) -> dict[str, object]:
    """Return all that the database says of its tables; columns stand in the order in which they came."""
    found = inspect(connection)

    def plain(items: Any) -> list[str]:
        return sorted(str(sorted((key, str(value)) for key, value in item.items())) for item in items)

    return {
        name: (
            plain(found.get_columns(name)),
            sorted(found.get_pk_constraint(name)["constrained_columns"]),
            *(plain(ask(name)) for ask in (found.get_foreign_keys, found.get_indexes)),
            *(plain(ask(name)) for ask in (found.get_unique_constraints, found.get_check_constraints)),
        )
        for name in found.get_table_names()
    }


def test_a_new_database_is_as_if_it_had_come_all_the_way(engine: Engine) -> None:
    with writing(engine) as connection:
        migrations.move(connection, schema.REVISION)
        come = described(connection)
        migrations.move(connection, migrations.BASE)
        connection.execute(text("DROP TABLE alembic_version"))
    migrate(engine)
    with reading(engine) as connection:
        made = described(connection)
    assert made.keys() == come.keys()
    for table, columns in come.items():
        assert made[table] == columns, table
