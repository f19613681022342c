# SPDX-License-Identifier: Apache-2.0
"""Both databases without their journal: an engine on what is there. Used by the tests of the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from cyborg_reconciler.adapters.database import postgresql, sqlite


@contextmanager
def opened_anew(folder: Path, database: str) -> Iterator[Engine]:
    """Give an engine that writes to *database*, or to that in *folder* where it is empty."""
    if database:
        engine = postgresql.open_engine(database, writes=True, busy_timeout_s=60)
    else:
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "journal.db").touch()
        engine = sqlite.open_engine(folder / "journal.db", writes=True, busy_timeout_s=60)
    try:
        yield engine
    finally:
        engine.dispose()
