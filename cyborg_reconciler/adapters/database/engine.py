# SPDX-License-Identifier: Apache-2.0
"""How is the database reached, and what do its errors mean? The one place that knows SQLite from others.

Called by the journal. Opens the database, brings it to the present revision, and turns SQLAlchemy's errors into ours.
"""

import errno
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from cyborg_reconciler.adapters.database import schema
from cyborg_reconciler.errors import JournalError, JournalFullError, JournalLockedError

#: A transaction with this option takes the write lock when it begins: one that read first could not get it any more.
WRITES: Final = "cyborg_writes"

#: SQLite's result codes, without the extended part. Source: https://www.sqlite.org/rescode.html
LOCKED_CODES: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
PRIMARY_CODE: Final = 0xFF

#: How long to wait before a locked database is tried again where SQLite does not wait by itself.
LOOK_EVERY_S: Final = 0.02


def open_engine(path: Path, *, writes: bool, busy_timeout_s: float) -> Engine:
    """Return an engine for the SQLite database at *path*, which exists; nothing is opened yet."""
    uri = f"{path.absolute().as_uri()}?{how_to_open(path, writes=writes)}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=busy_timeout_s, check_same_thread=False)

    engine = create_engine(URL.create("sqlite", database=str(path)), creator=connect)

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so, see below
        if writes:
            use_write_ahead_log(connection, busy_timeout_s)
        for pragma in ("foreign_keys=ON", "synchronous=FULL" if writes else "query_only=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        taken = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if taken else "BEGIN")

    return engine


def use_write_ahead_log(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    """Have the database keep a write-ahead log, as it does ever after.

    Two who do this to a new database at once are in each other's way, and SQLite tells one of them at once, without the
    wait that it keeps otherwise.
    """
    deadline_s = time.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & PRIMARY_CODE not in LOCKED_CODES or time.monotonic() > deadline_s:
                raise
            time.sleep(LOOK_EVERY_S)
        else:
            return


def how_to_open(path: Path, *, writes: bool) -> str:
    """Return SQLite's parameters for the database at *path*.

    A reader writes too (who reads what, in the file beside the write-ahead log), unless he may not write into the
    folder. Where there is no log either, nobody writes just now, and the database alone is all there is.
    Source: https://www.sqlite.org/wal.html, "Read-Only Databases".
    """
    if writes or os.access(path.parent, os.W_OK):
        return "mode=rw"
    return "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Give a connection that sees one state of the database."""
    with translated(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Give a connection whose work is on disk when the block has been left, or is not there at all."""
    with translated(engine), engine.connect() as connection, connection.execution_options(**{WRITES: True}).begin():
        yield connection


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Raise our errors for those of the database. A row that another forbids is the caller's to explain."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as exc:
        raise translate(exc, engine.url.database or "") from exc
    except SQLAlchemyError as exc:
        raise JournalError(wanted=f"the journal {engine.url.database}", found=str(exc)) from exc


def translate(exc: DBAPIError, path: str) -> JournalError:
    """Return the journal's error for *exc*."""
    found = str(exc.orig)
    code = getattr(exc.orig, "sqlite_errorcode", 0) & PRIMARY_CODE
    kind = JournalError
    if code in LOCKED_CODES:
        kind = JournalLockedError
    elif code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and is_full(path)):
        kind = JournalFullError
    return kind(wanted=f"the journal {path}", found=found)


def is_full(path: str) -> bool:
    """Return whether the file system under *path* has no room left; SQLite may call that an input/output error."""
    try:
        return os.statvfs(Path(path).parent).f_bavail == 0
    except OSError as exc:
        return exc.errno == errno.ENOSPC


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, update: Sequence[str]) -> None:
    """Insert *rows*; of those that are there, set the columns *update*, or leave them as they are."""
    if not rows:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    keys = [column.name for column in table.primary_key.columns]
    if update:
        statement = statement.on_conflict_do_update(
            index_elements=keys, set_={name: statement.excluded[name] for name in update}
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    connection.execute(statement, list(rows))


def read_revision(engine: Engine) -> str:
    """Return the revision of the database; empty when it has no tables yet."""
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return ""
        return str(connection.execute(select(text("version_num")).select_from(text("alembic_version"))).scalar() or "")


def migrate(engine: Engine, revision: str = schema.REVISION) -> None:
    """Bring the database to *revision*, all or nothing.

    Raises:
        JournalError: the database is of a newer release.
    """
    found = read_revision(engine)
    if found == revision:
        return
    from alembic.util import CommandError  # noqa: PLC0415  alembic takes long to import, and is seldom needed

    from cyborg_reconciler.adapters.database import migrations  # noqa: PLC0415  imports alembic as well

    try:
        with writing(engine) as connection:
            migrations.move(connection, revision)
    except CommandError as exc:
        raise outdated(engine, found, revision) from exc


def check_revision(engine: Engine) -> None:
    """Raise JournalError unless the database is of the present revision; for readers, who change nothing."""
    found = read_revision(engine)
    if not found:
        raise JournalError(
            wanted=f"the journal {engine.url.database}",
            found="it is empty",
            remedy="wait for the first `observe`, `plan`, `apply` or `run`, which fills it",
        )
    if found != schema.REVISION:
        raise outdated(engine, found, schema.REVISION)


def outdated(engine: Engine, found: str, wanted: str) -> JournalError:
    """Return the error for a database that is of another revision than this program."""
    return JournalError(
        wanted=f"the journal {engine.url.database} of revision {wanted}",
        found=f"revision {found}",
        remedy="an older one is brought up to date by `observe`, say; a newer one needs a newer program",
    )
