# SPDX-License-Identifier: Apache-2.0
"""How does one read and write, whichever database it is? Transactions, and the statements that SQL has no one word for.

Called by the journal and by whatever keeps rows beside its own. Raises our errors for those of the database.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, ParamSpec, TypeVar

import msgspec
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Engine,
    Insert,
    String,
    Table,
    TableValuedAlias,
    bindparam,
    func,
    select,
)
from sqlalchemy import update as update_rows
from sqlalchemy.dialects.postgresql import insert as insert_in_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_in_sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from cyborg_reconciler.adapters.database import postgresql, sqlite
from cyborg_reconciler.adapters.database.statements import put
from cyborg_reconciler.errors import JournalError, JournalUnavailableError

POSTGRESQL: Final = "postgresql"

#: Names in one query. SQLite takes 32766 parameters, PostgreSQL 65535.
NAMES_AT_ONCE: Final = 5000

#: How often a transaction begins anew at most. Whatever still is in its way then is not somebody's new row.
BEGUN_ANEW: Final = 4

Given = ParamSpec("Given")
Said = TypeVar("Said")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Give a connection that sees one state of the database."""
    options = postgresql.READS if engine.dialect.name == POSTGRESQL else sqlite.READS
    with translated(engine), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Give a connection whose work is on disk when the block has been left, or is not there at all.

    In SQLite one writes at a time. In PostgreSQL many do: what is read here in order to be written must be kept from
    the others first, by `lock_rows` or `take_turns`, or be written by `update_if`.

    No two wait for each other, since all write in one order: first the rows of hosts, by name; then those of
    accelerators, by uuid; then whatever hangs on either; then the queue, by host; events are the last. Of a kind all
    rows are locked or written at once, those of many hosts too. Who needs none of an earlier kind begins later.

    Raises:
        JournalUnavailableError: when the connection was lost at the very end, the work may be there all the same.
    """
    options = postgresql.WRITES if engine.dialect.name == POSTGRESQL else sqlite.WRITES
    with translated(engine), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


def begun_anew(transaction: Callable[Given, Said]) -> Callable[Given, Said]:
    """Have a *transaction* that met a row which somebody entered since it looked begin anew: then it sees that row.

    In SQLite nobody enters anything meanwhile.
    """

    @functools.wraps(transaction)
    def until_none_is_met(*args: Given.args, **named: Given.kwargs) -> Said:
        for _ in range(BEGUN_ANEW):
            with suppress(IntegrityError):
                return transaction(*args, **named)
        return transaction(*args, **named)

    return until_none_is_met


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Raise our errors for those of the database. A row that another forbids is the caller's to explain."""
    name = engine.url.database or ""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as exc:
        translate = postgresql.translate if engine.dialect.name == POSTGRESQL else sqlite.translate
        raise translate(exc, name) from exc
    except PoolTimeoutError as exc:
        raise JournalUnavailableError(wanted=f"the journal {name}", found="all connections are busy") from exc
    except SQLAlchemyError as exc:
        raise JournalError(wanted=f"the journal {name}", found=str(exc)) from exc


def portions(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield *names* in portions that fit a query."""
    for start in range(0, len(names), NAMES_AT_ONCE):
        yield names[start : start + NAMES_AT_ONCE]


def listed(dialect: str, parameter: str) -> TableValuedAlias:
    """Return a table whose column ``value`` has what is given as one *parameter*, so that a statement is always one."""
    if dialect == POSTGRESQL:
        return func.unnest(bindparam(parameter, type_=ARRAY(String))).table_valued("value").render_derived()
    return func.json_each(bindparam(parameter, type_=String)).table_valued("value")


def as_list(dialect: str, names: Sequence[str]) -> Sequence[str] | str:
    """Return *names* as the parameter of `listed`.

    Raises:
        JournalError: one has a NUL, behind which SQLite would not read on, and which PostgreSQL does not take.
    """
    if any("\x00" in name for name in names):
        raise JournalError(wanted="names without NUL", found=repr(next(name for name in names if "\x00" in name)))
    return names if dialect == POSTGRESQL else msgspec.json.encode(names).decode()


def take_turns(connection: Connection, queue: int = postgresql.TURN) -> None:
    """Have the transactions that call this with a *queue* follow one upon another, as all that write do in SQLite."""
    if connection.dialect.name == POSTGRESQL:
        postgresql.wait_for_turn(connection, queue)


def lock_rows(connection: Connection, column: ColumnElement[Any], names: Collection[str]) -> None:
    """Keep others from writing the rows with *names* in *column* until the transaction ends.

    All lock in the same order, so that no two wait for each other: in that of the bytes, whatever the database's own.
    """
    if connection.dialect.name != POSTGRESQL:
        return
    for portion in portions(sorted(names)):
        query = select(column).where(column.in_(portion)).order_by(column.collate("C"))
        connection.execute(query.with_for_update(key_share=True))


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, update: Sequence[str]) -> None:
    """Insert *rows*, each with its key; of those that are there, set the columns *update*, or leave them alone."""
    if rows:
        keys = [column.name for column in table.primary_key.columns]
        # In order, as in `lock_rows`.
        ordered = sorted(rows, key=lambda row: [row[key] for key in keys])
        put(connection, _upserting(connection.dialect.name, table, tuple(update)), ordered)


@functools.cache
def _upserting(dialect: str, table: Table, update: tuple[str, ...]) -> Insert:
    """Return the statement of `upsert`: making it takes longer than running it."""
    statement = (insert_in_postgresql if dialect == POSTGRESQL else insert_in_sqlite)(table)
    keys = [column.name for column in table.primary_key.columns]
    if not update:
        return statement.on_conflict_do_nothing(index_elements=keys)
    return statement.on_conflict_do_update(
        index_elements=keys, set_={name: statement.excluded[name] for name in update}
    )


def update_if(
    connection: Connection, table: Table, key: Mapping[str, Any], version: int, values: Mapping[str, Any]
) -> bool:
    """Set *values* in the row with *key* if its column ``version`` still is *version*, and return whether it was.

    The version rises by one with it: of many who saw the same one, just one succeeds.
    """
    statement = update_rows(table).where(table.c.version == version)
    for name, value in key.items():
        statement = statement.where(table.c[name] == value)
    return connection.execute(statement.values({**values, "version": version + 1})).rowcount == 1
