# SPDX-License-Identifier: Apache-2.0
"""How is a question answered that comes with nearly every request? By the driver, with a statement made ready before.

Called by the stores that answer the API and agents. SQLAlchemy keeps the connections (docs/adr/0029). Reads from the
database, and never writes.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, Select

from cyborg_reconciler.adapters.database.engine import POSTGRESQL, translated
from cyborg_reconciler.adapters.database.statements import as_sqlalchemy, make_ready


def ask(engine: Engine, statement: Select[Any], **parameters: object) -> list[Any]:
    """Return the rows that *statement* yields: tuples with the names of its columns.

    It sees one state of the database by itself, without a transaction around it.
    """
    ready = make_ready(engine.dialect, statement)
    given = ready.parameters(parameters)
    with translated(engine):
        return ready.rows(_fetch(engine, ready.text, given))


def _fetch(engine: Engine, text: str, given: Any) -> Sequence[Sequence[Any]]:  # noqa: ANN401 - as the driver takes it
    """Return what the driver finds, by a session in no transaction; one that fails is not used again.

    Raises:
        DBAPIError: as SQLAlchemy has it.
    """
    failures = engine.dialect.loaded_dbapi.Error
    pooled = None
    try:
        pooled = engine.raw_connection()
        session: Any = pooled.driver_connection
        if engine.dialect.name != POSTGRESQL:  # SQLite begins a transaction where it is told to, and here it is not
            return session.execute(text, given).fetchall()  # type: ignore[no-any-return]  # the driver's own
        session.autocommit = True
        found: Sequence[Sequence[Any]] = session.execute(text, given).fetchall()
        session.autocommit = False
    except failures as exc:
        if pooled is not None:
            pooled.invalidate(exc)
        raise as_sqlalchemy(exc, text, engine.dialect) from exc
    finally:
        if pooled is not None:
            pooled.close()
    return found
