# SPDX-License-Identifier: Apache-2.0
"""How is a question answered that comes with nearly every request? By the driver, with a statement made ready before.

Called by the stores that answer the API and agents. SQLAlchemy makes the connections, and keeps those of PostgreSQL;
SQLite's are kept here (docs/adr/0029). Reads from the database, and never writes.
"""

from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, Select, event

from cyborg_reconciler.adapters.database.engine import POSTGRESQL, translated
from cyborg_reconciler.adapters.database.statements import as_sqlalchemy, make_ready

#: What a session of SQLite's may keep in memory, in KiB: the upper pages of the indexes. There are as many sessions as
#: threads, and with SQLite's own 2000 an agent of 10,000 was found in 12.6 us instead of 13.8.
CACHE_KIB: Final = 500

#: Sessions of SQLite that nobody uses just now, by engine.
_spare: Final[WeakKeyDictionary[Engine, list[Any]]] = WeakKeyDictionary()


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
    ask_by = _by_pooled if engine.dialect.name == POSTGRESQL else _by_spare
    try:
        return ask_by(engine, text, given)
    except engine.dialect.loaded_dbapi.Error as exc:
        raise as_sqlalchemy(exc, text, engine.dialect) from exc


def _by_spare(engine: Engine, text: str, given: Any) -> Sequence[Sequence[Any]]:  # noqa: ANN401 - as above
    """Ask SQLite, which begins a transaction where it is told to, and here it is not.

    The session is none of the pool's, which takes longer to give one than SQLite takes to answer. That used last is
    taken first, as it has read the most.
    """
    spare = _spare.get(engine)
    if spare is None:
        spare = _begin_spare(engine)
    session: Any
    try:
        session = spare.pop()
    except IndexError:  # all others are being used
        pooled = engine.raw_connection()
        session = pooled.driver_connection
        pooled.detach()
        session.execute(f"PRAGMA cache_size=-{CACHE_KIB}").close()
    try:
        found: Sequence[Sequence[Any]] = session.execute(text, given).fetchall()
    except BaseException:
        session.close()
        raise
    spare.append(session)
    return found


def _begin_spare(engine: Engine) -> list[Any]:
    """Return where the sessions of *engine* are kept until it is disposed of."""
    spare = _spare.setdefault(engine, [])

    @event.listens_for(engine, "engine_disposed")
    def _close(_engine: Engine) -> None:
        while spare:
            spare.pop().close()

    return spare


def _by_pooled(engine: Engine, text: str, given: Any) -> Sequence[Sequence[Any]]:  # noqa: ANN401 - as above
    """Ask PostgreSQL."""
    pooled = engine.raw_connection()
    try:
        session: Any = pooled.driver_connection
        session.autocommit = True
        found: Sequence[Sequence[Any]] = session.execute(text, given).fetchall()
        session.autocommit = False
    except engine.dialect.loaded_dbapi.Error as exc:
        pooled.invalidate(exc)
        raise
    finally:
        pooled.close()
    return found
