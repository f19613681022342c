# SPDX-License-Identifier: Apache-2.0
"""How is a database in a file reached, and what do SQLite's errors mean?

Opened by the journal; `engine` begins transactions as is said here, and translates errors. Opens files.
"""

import errno
import os
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from cyborg_reconciler.errors import JournalError, JournalFullError, JournalLockedError

#: What a transaction that only reads is begun with.
READS: Final[Mapping[str, Any]] = {}

#: What one that writes is begun with: the write lock is taken at once; once it had read, it might not get it any more.
WRITES: Final[Mapping[str, Any]] = {"cyborg_writes": True}

#: SQLite's result codes, without the extended part. Source: https://www.sqlite.org/rescode.html
LOCKED_CODES: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
PRIMARY_CODE: Final = 0xFF

#: How long to wait before a locked database is tried again where SQLite does not wait by itself.
LOOK_EVERY_S: Final = 0.02
#: The same before one may write. SQLite would wait for up to 100 ms, while those who came later get their turn.
LOOK_FOR_TURN_EVERY_S: Final = 0.001


def open_engine(path: Path, *, writes: bool, busy_timeout_s: float) -> Engine:
    """Return an engine for the database at *path*, which exists; nothing is opened yet."""
    uri = f"{path.absolute().as_uri()}?{how_to_open(path, writes=writes)}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=busy_timeout_s, check_same_thread=False)

    engine = create_engine(URL.create("sqlite", database=str(path)), creator=connect, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so, see below
        if writes:
            use_write_ahead_log(connection, busy_timeout_s)
        for pragma in ("foreign_keys=ON", "synchronous=FULL" if writes else "query_only=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().keys() >= WRITES.keys():
            begin_to_write(connection, busy_timeout_s)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def begin_to_write(connection: Connection, busy_timeout_s: float) -> None:
    """Begin a transaction with the write lock, of which there is one for all processes.

    Raises:
        DBAPIError: it was not to be had within *busy_timeout_s*, or something else is wrong.
    """
    session: Any = connection.connection.driver_connection
    deadline_s = time.monotonic() + busy_timeout_s
    session.execute("PRAGMA busy_timeout=0").close()
    try:
        while True:
            try:
                session.execute("BEGIN IMMEDIATE").close()
            except sqlite3.Error as exc:
                is_locked = getattr(exc, "sqlite_errorcode", 0) & PRIMARY_CODE in LOCKED_CODES
                if not is_locked or time.monotonic() > deadline_s:
                    raise DBAPIError.instance(
                        "BEGIN IMMEDIATE", None, exc, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
                    ) from exc
                time.sleep(LOOK_FOR_TURN_EVERY_S)
            else:
                return
    finally:
        session.execute(f"PRAGMA busy_timeout={int(busy_timeout_s * 1000)}").close()


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


def translate(exc: DBAPIError, path: str) -> JournalError:
    """Return the journal's error for *exc* of the database at *path*."""
    code = getattr(exc.orig, "sqlite_errorcode", 0) & PRIMARY_CODE
    kind = JournalError
    if code in LOCKED_CODES:
        kind = JournalLockedError
    elif code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and is_full(path)):
        kind = JournalFullError
    return kind(wanted=f"the journal {path}", found=str(exc.orig))


def is_full(path: str) -> bool:
    """Return whether the file system under *path* has no room left; SQLite may call that an input/output error."""
    try:
        return os.statvfs(Path(path).parent).f_bavail == 0
    except OSError as exc:
        return exc.errno == errno.ENOSPC
