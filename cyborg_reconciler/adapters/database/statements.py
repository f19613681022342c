# SPDX-License-Identifier: Apache-2.0
"""How does the driver take a statement? As SQLAlchemy writes it, once; and how does it execute one for many rows?

Called by `engine`, `asking` and whatever has rows. SQLAlchemy knows how values are stored; its own bookkeeping of each
execution costs several times what the database takes for a row (docs/adr/0029). A statement must be one of few that are
made once, since it is kept.
"""

import functools
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Dialect, Insert, Select, Update
from sqlalchemy.exc import DBAPIError

#: So many statements are kept ready. They are of few shapes: what differs from request to request is a parameter.
STATEMENTS_KEPT: Final = 512


@dataclass(frozen=True, slots=True)
class Ready:
    """A statement as the driver takes it.

    Attributes:
        places: the names of its parameters in their order; None where the driver takes them by name.
        values: what the statement itself gives them.
        written: what makes of a parameter what is stored, by name. shown: the same the other way round, by column; both
            without those that need nothing.
        row: makes a row of its values.
    """

    text: str
    places: Sequence[str] | None
    values: Mapping[str, Any]
    written: Mapping[str, Callable[[Any], Any]]
    shown: Mapping[int, Callable[[Any], Any]]
    row: Callable[[Sequence[Any]], Any]

    def parameters(self, given: Mapping[str, object]) -> Any:  # noqa: ANN401 - whatever the driver takes
        """Return the parameters as the driver takes them."""
        values = {**self.values, **given}
        for name, write in self.written.items():
            values[name] = write(values[name])
        return values if self.places is None else [values[name] for name in self.places]

    def rows(self, found: Sequence[Sequence[Any]]) -> list[Any]:
        """Return what the driver found as rows, whose values have names."""
        if not self.shown:
            return [self.row(values) for values in found]
        rows = []
        for values in found:
            row = list(values)
            for place, show in self.shown.items():
                row[place] = show(row[place])
            rows.append(self.row(row))
        return rows


def find(connection: Connection, statement: Select[Any], **parameters: object) -> list[Any]:
    """Return the rows that *statement* yields in the transaction of *connection*, as `asking.ask` does without one."""
    ready = make_ready(connection.dialect, statement)
    with _failures(connection, ready), closing(_cursor(connection)) as cursor:
        cursor.execute(ready.text, ready.parameters(parameters))
        return ready.rows(cursor.fetchall())


def put(connection: Connection, statement: Insert | Update, rows: Sequence[Mapping[str, object]]) -> None:
    """Execute *statement* for each of *rows*, all with the same names, in the transaction of *connection*."""
    if not rows:
        return
    names = tuple(rows[0])
    ready = make_ready(connection.dialect, statement, names)
    given = [ready.parameters({name: row[name] for name in names}) for row in rows]
    with _failures(connection, ready), closing(_cursor(connection)) as cursor:
        cursor.executemany(ready.text, given)


def _cursor(connection: Connection) -> Any:  # noqa: ANN401 - each driver has its own
    return connection.connection.cursor()


@contextmanager
def _failures(connection: Connection, ready: Ready) -> Iterator[None]:
    try:
        yield
    except connection.dialect.loaded_dbapi.Error as exc:
        raise as_sqlalchemy(exc, ready.text, connection.dialect) from exc


@functools.lru_cache(maxsize=STATEMENTS_KEPT)
def make_ready(dialect: Dialect, statement: Select[Any] | Insert | Update, names: tuple[str, ...] = ()) -> Ready:
    """Return *statement* as the driver of *dialect* takes it; *names* are those of what one that writes is given."""
    keys = list(names) if names else None
    compiled: Any = statement.compile(dialect=dialect, column_keys=keys, for_executemany=bool(names))
    binds = {name: bind.type.dialect_impl(dialect) for bind, name in compiled.bind_names.items()}
    columns = list(statement.selected_columns) if isinstance(statement, Select) else []
    kinds = [column.type.dialect_impl(dialect) for column in columns]
    written = {name: kind.bind_processor(dialect) for name, kind in binds.items()}
    shown = {place: kind.result_processor(dialect, None) for place, kind in enumerate(kinds)}
    defaults = {column.key: column.default.arg for column in compiled.prefetch or ()}
    row = namedtuple("Row", [str(column.key) for column in columns])  # type: ignore[misc]  # noqa: PYI024 - made of a list
    return Ready(
        text=str(compiled),
        places=compiled.positiontup,
        values={**compiled.params, **defaults},
        written={name: write for name, write in written.items() if write},
        shown={place: show for place, show in shown.items() if show},
        row=row._make,
    )


def as_sqlalchemy(exc: Any, text: str, dialect: Dialect) -> DBAPIError:  # noqa: ANN401 - each driver has its own
    """Return the failure *exc* of the driver as SQLAlchemy has it."""
    is_lost = dialect.is_disconnect(exc, None, None)
    failures = dialect.loaded_dbapi.Error
    found: DBAPIError = DBAPIError.instance(
        text, None, exc, failures, hide_parameters=True, connection_invalidated=is_lost, dialect=dialect
    )
    return found
