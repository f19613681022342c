# SPDX-License-Identifier: Apache-2.0
"""How do the databases find events of a host and a kind, where there are many? They say so themselves."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import event, text

from cyborg_reconciler.adapters.database import open_journal, schema
from cyborg_reconciler.adapters.database.engine import writing
from cyborg_reconciler.adapters.database.event_store import DatabaseEvents
from cyborg_reconciler.stores.pages import PageQuery
from tests.integration.databases import opened_anew

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
MANY = 5000
EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}


@pytest.mark.parametrize("marker", ["", "2000"])
def test_events_of_a_host_and_a_kind_are_found_by_their_index(tmp_path, database, marker):
    with open_journal(tmp_path / "state", database=database):
        pass
    said = []
    with opened_anew(tmp_path / "state", database) as engine:
        rows = [
            {"at": NOON, "kind": f"kind-{n % 7}", "host": f"host-{n % 50}", "message": "", "data": None, "run": None}
            for n in range(MANY)
        ]
        with writing(engine) as connection:
            connection.execute(schema.events.insert(), rows)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))

        @event.listens_for(engine, "before_cursor_execute")
        def _note(connection, cursor, statement, parameters, _context, _many):
            if statement.startswith("SELECT"):
                cursor.execute(EXPLAIN[connection.dialect.name] + statement, parameters)
                said.append(" ".join(str(row) for row in cursor.fetchall()))

        wanted = PageQuery({"host": "host-3", "kind": "kind-3"}, limit=100, marker=marker, descending=True)
        page = DatabaseEvents(engine).page(wanted)
    below = int(marker) - 1 if marker else MANY
    assert len(page.documents) == sum(n % 50 == 3 and n % 7 == 3 for n in range(below))
    assert "ix_events_host_kind_number" in said[-1]
