# SPDX-License-Identifier: Apache-2.0
"""How is a database on a PostgreSQL server reached, and what do its errors mean?

Opened by the journal; `engine` begins transactions as is said here, and translates errors. Opens connections.
"""

import os
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, LiteralString
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError

from cyborg_reconciler.errors import (
    AlreadyRunningError,
    JournalError,
    JournalFullError,
    JournalLockedError,
    JournalUnavailableError,
    SettingsInvalidError,
)

if TYPE_CHECKING:
    import psycopg

#: What a transaction that only reads is begun with: it sees one state of the database.
READS: Final[Mapping[str, Any]] = {"isolation_level": "REPEATABLE READ"}

#: What one that writes is begun with: each statement sees what others have committed, and waits for rows they hold.
WRITES: Final[Mapping[str, Any]] = {"isolation_level": "READ COMMITTED"}

#: The first half of the keys of our advisory locks ("cybo"), and the second halves. They are a database's own.
LOCKS: Final = 0x6379626F
WRITER: Final = 1
TURN: Final = 2
EVENTS: Final = 3

#: How long the server may take to notice that a process has ended, which held the lock; and how often it is looked at.
LEAVE_S: Final = 1.0
LOOK_EVERY_S: Final = 0.02

#: How long a statement may take of one who only reads, and of one who writes: others wait for him. Migrations are free.
READER_TIMEOUT_S: Final = 30
WRITER_TIMEOUT_S: Final = 60

#: What a connection is opened with unless the URL says otherwise: whoever hangs, or whose machine has gone, is given up
#: within a minute by the other side, and with him what he locked.
#: Source: https://www.postgresql.org/docs/current/libpq-connect.html, "Parameter Key Words".
PARAMETERS: Final[Mapping[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
#: The same on the side of the server. What was acknowledged is on its disk, whatever it does for others.
OPTIONS: Final[Mapping[str, Any]] = {
    "synchronous_commit": "on",
    "idle_in_transaction_session_timeout": 60_000,
    "tcp_keepalives_idle": 30,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

#: Connections that are kept, and that may come on top while many threads are at work.
POOL_SIZE: Final = 5
POOL_OVERFLOW: Final = 10

#: SQLSTATEs: there is no server, it is on its way up or down, lets nobody in, or gave us up.
#: Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
UNAVAILABLE_STATES: Final = {"57P01", "57P02", "57P03", "57P05", "57014", "53300", "25P03"}
UNAVAILABLE_CLASS: Final = "08"
#: Another transaction had what we need for too long: lock_timeout, a deadlock, or a state that could not be kept.
LOCKED_STATES: Final = {"55P03", "40P01", "40001"}
FULL_STATE: Final = "53100"


class Seat:
    """The right to change hosts, of one process at a time: each of its sessions holds an advisory lock.

    The lock is shared among the sessions of that process, so that no statement of it runs in one without; another
    process needs it for itself alone to begin. It goes with its sessions, however those end. When all were lost (the
    server was started anew) it is taken again with the next session, unless somebody else has sat down meanwhile.

    Attributes:
        token: the fencing token of who sits here; None while he is just sitting down.
    """

    def __init__(self) -> None:
        self.token: int | None = None

    def enter(self, session: "psycopg.Connection[Any]", name: str) -> None:
        """Have *session*, which is in no transaction, hold the lock.

        Raises:
            AlreadyRunningError: another process has it, or has had it since.
        """
        if self.token is None:
            is_ours = take_alone(session)
        else:
            is_ours = ask(session, "SELECT pg_try_advisory_lock_shared(%s, %s)", LOCKS, WRITER)
            is_ours = is_ours and self.token == ask(session, "SELECT fencing_token FROM controllers")
        if not is_ours:
            session.execute("SELECT pg_advisory_unlock_all()")  # or our next session may find this one, which ends
            holder = find_holder(session)
            raise AlreadyRunningError(
                wanted=f"the journal {name} for this process alone",
                found=f"{holder} works with it" if holder else "another process works with it, or has since we did",
                remedy="wait for the other process or end it, then start again",
            )

    def keep(self, engine: Engine, token: int) -> None:
        """Share the lock, from now on, among the sessions of this process, which has got *token*."""
        with engine.connect() as connection:
            for function in ("pg_advisory_lock_shared", "pg_advisory_unlock"):
                connection.execute(text(f"SELECT {function}({LOCKS}, {WRITER})"))
        self.token = token


def take_alone(session: "psycopg.Connection[Any]") -> bool:
    """Take the lock for *session* alone, and return whether it was to be had.

    It is asked for again and again rather than waited for: who waits is in the way of the new sessions of who has it.
    """
    deadline_s = time.monotonic() + LEAVE_S
    while not ask(session, "SELECT pg_try_advisory_lock(%s, %s)", LOCKS, WRITER):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def ask(session: "psycopg.Connection[Any]", query: LiteralString, *parameters: object) -> Any:  # noqa: ANN401  any value
    """Return the one value that *query* yields; None where it yields no row."""
    row = session.execute(query, parameters).fetchone()
    return row[0] if row else None


def find_holder(session: "psycopg.Connection[Any]") -> str:
    """Return what the session that holds the lock of a writer calls itself; empty where that cannot be told."""
    query = """
        SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND granted AND pid <> pg_backend_pid()
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
    return str(ask(session, query, LOCKS, WRITER) or "")


def open_engine(database: str, *, writes: bool, busy_timeout_s: float, seat: Seat | None = None) -> Engine:
    """Return an engine for the database with the URL *database*; nothing is opened yet.

    A connection that was lost is noticed when it is to be used, and replaced.

    Raises:
        SettingsInvalidError: the URL cannot be used, or psycopg is not installed.
    """
    name = without_password(database)
    try:
        import psycopg  # noqa: PLC0415  an extra; who keeps the journal in SQLite does without
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415  the same
    except ImportError as exc:
        raise SettingsInvalidError(
            wanted=f"psycopg, to reach the database {name}",
            found=str(exc),
            remedy="pip install 'cyborg-reconciler[postgresql]'",
        ) from exc
    try:
        given = conninfo_to_dict(database)
    except psycopg.Error as exc:
        raise SettingsInvalidError(wanted="a URL of PostgreSQL as `database`", found=one_line(exc)) from exc
    parameters, dumper = session_parameters(given, writes=writes, busy_timeout_s=busy_timeout_s), text_dumper()

    def connect() -> "psycopg.Connection[Any]":
        session: psycopg.Connection[Any] = psycopg.connect(autocommit=True, **parameters)
        try:
            session.adapters.register_dumper(str, dumper)
            if seat:
                seat.enter(session, name)
            session.autocommit = False
        except BaseException:
            session.close()
            raise
        return session

    engine = create_engine(
        URL.create("postgresql+psycopg", database=name),  # for people: `connect` knows better
        creator=connect,
        hide_parameters=True,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        use_native_hstore=False,
    )

    @event.listens_for(engine, "checkout")
    def _check(session: "psycopg.Connection[Any]", _record: object, _fairy: object) -> None:
        try:
            look_for_end(session)
        except psycopg.OperationalError as exc:
            raise InvalidatePoolError(one_line(exc)) from exc  # this one is replaced, and so are those beside it

    return engine


def look_for_end(session: "psycopg.Connection[Any]") -> None:
    """Raise psycopg's OperationalError when the server, or the kernel, has ended *session* since it was last used.

    What came in is read, without a question to the server: that would take as long as a query.
    """
    for _ in range(2):  # the server's last words, and then the end
        session.pgconn.consume_input()


def session_parameters(given: Mapping[str, Any], *, writes: bool, busy_timeout_s: float) -> dict[str, Any]:
    """Return what a session is opened with: what the URL says, and ours where it says nothing."""
    timeout_s = WRITER_TIMEOUT_S if writes else READER_TIMEOUT_S
    options = {**OPTIONS, "lock_timeout": max(1, int(busy_timeout_s * 1000)), "statement_timeout": timeout_s * 1000}
    if not writes:
        options["default_transaction_read_only"] = "on"
    ours = " ".join(f"-c {option}={value}" for option, value in options.items())
    return {
        **PARAMETERS,
        "application_name": f"process {os.getpid()} on {socket.gethostname()}"[:63],  # more would be cut off
        **({"target_session_attrs": "read-write"} if writes else {}),
        **given,
        "options": f"{ours} {given.get('options', '')}".rstrip(),
        "client_encoding": "utf8",
    }


def text_dumper() -> type["psycopg.adapt.Dumper"]:
    r"""Return what writes texts as PostgreSQL takes them: it has no NUL, which becomes ``\x00``, as it is shown."""
    from psycopg.types.string import StrDumperUnknown  # noqa: PLC0415  an extra, see `open_engine`

    class TextDumper(StrDumperUnknown):
        def dump(self, obj: str) -> Any:  # noqa: ANN401  psycopg's Buffer
            return super().dump(obj.replace("\x00", r"\x00"))

    return TextDumper


def without_password(database: str) -> str:
    """Return the URL *database* as it may be shown."""
    url = urlsplit(database)
    user, at, place = url.netloc.rpartition("@")
    query = "&".join(part for part in url.query.split("&") if "password" not in unquote(part.partition("=")[0]))
    return f"{url.scheme}://{user.partition(':')[0]}{at}{place}{url.path}{'?' if query else ''}{query}"


def translate(exc: DBAPIError, name: str) -> JournalError:
    """Return the journal's error for *exc* of the database *name*."""
    state = getattr(exc.orig, "sqlstate", None) or ""
    wanted, found = f"the journal {name}", one_line(exc.orig)
    if state == FULL_STATE:
        remedy = "make room where the database server keeps its files; nothing was lost"
        return JournalFullError(wanted=wanted, found=found, remedy=remedy)
    if state in LOCKED_STATES:
        return JournalLockedError(wanted=wanted, found=found)
    is_lost = not state and isinstance(exc, (OperationalError, InterfaceError))
    if exc.connection_invalidated or is_lost or state in UNAVAILABLE_STATES or state[:2] == UNAVAILABLE_CLASS:
        return JournalUnavailableError(wanted=wanted, found=found)
    return JournalError(wanted=wanted, found=found, remedy="see the database server's log")


def one_line(exc: BaseException | None) -> str:
    """Return what *exc* says, without the rows and statements that it shows."""
    diagnosis = getattr(exc, "diag", None)
    return " ".join((getattr(diagnosis, "message_primary", None) or str(exc)).split())


def wait_for_turn(connection: Connection, queue: int = TURN) -> None:
    """Have this transaction wait for others that have called this with the same *queue*, until they are through."""
    connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCKS}, {queue})"))


def lift_timeout(connection: Connection) -> None:
    """Let the statements of this transaction take as long as they take."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))
