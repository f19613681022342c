# SPDX-License-Identifier: Apache-2.0
"""How is a question answered that comes with nearly every request? By the driver, with a statement made ready before.

Called by the stores that answer the API and agents. SQLAlchemy writes the statement, keeps the connections, and knows
how values are stored; its own bookkeeping of each execution costs several times what the database takes for a row
(docs/adr/0029). Reads from the database, and never writes.
"""

import functools
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Dialect, Engine, Select
from sqlalchemy.exc import DBAPIError

from cyborg_reconciler.adapters.database.engine import POSTGRESQL, translated

#: So many statements are kept ready. They are of few shapes: what differs from request to request is a parameter.
READY: Final = 512


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


def ask(engine: Engine, statement: Select[Any], **parameters: object) -> list[Any]:
    """Return the rows that *statement* yields: tuples with the names of its columns.

    It sees one state of the database by itself, without a transaction around it. It must be one of few that are made
    once, since it is kept.
    """
    ready = make_ready(engine.dialect, statement)
    given = ready.parameters(parameters)
    with translated(engine):
        return ready.rows(_fetch(engine, ready.text, given))


@functools.lru_cache(maxsize=READY)
def make_ready(dialect: Dialect, statement: Select[Any]) -> Ready:
    """Return *statement* as the driver of *dialect* takes it."""
    compiled = statement.compile(dialect=dialect)
    binds = {name: bind.type.dialect_impl(dialect) for bind, name in compiled.bind_names.items()}
    columns = statement.selected_columns
    kinds = [column.type.dialect_impl(dialect) for column in columns]
    written = {name: kind.bind_processor(dialect) for name, kind in binds.items()}
    shown = {place: kind.result_processor(dialect, None) for place, kind in enumerate(kinds)}
    row = namedtuple("Row", [str(column.key) for column in columns])  # type: ignore[misc]  # noqa: PYI024 - made of a list
    return Ready(
        text=str(compiled),
        places=compiled.positiontup,
        values=compiled.params,
        written={name: write for name, write in written.items() if write},
        shown={place: show for place, show in shown.items() if show},
        row=row._make,
    )


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
        lost = engine.dialect.is_disconnect(exc, None, None)
        raise DBAPIError.instance(
            text, None, exc, failures, hide_parameters=True, connection_invalidated=lost, dialect=engine.dialect
        ) from exc
    finally:
        if pooled is not None:
            pooled.close()
    return found
