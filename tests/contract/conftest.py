# SPDX-License-Identifier: Apache-2.0
"""Journals of three kinds, which keep the same promises: both databases, and the fake."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cyborg_reconciler.adapters.database import open_journal, sqlite
from cyborg_reconciler.adapters.database.folder import DATABASE_NAME, make_file, make_folder
from cyborg_reconciler.adapters.database.revision import migrate
from cyborg_reconciler.ports import Journal
from cyborg_reconciler.testing import FakeJournal

#: Opens the same journal anew, as the next process does.
Opener = Callable[[], Journal]


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in a file, with the journal's tables, and nothing in them."""
    path = tmp_path_factory.mktemp("empty") / DATABASE_NAME
    make_file(path)
    engine = sqlite.open_engine(path, writes=True, busy_timeout_s=5)
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture(autouse=True)
def _tables(request: pytest.FixtureRequest) -> None:
    """Have tests on SQLite begin with the tables, as those on PostgreSQL do: making them takes longer than the rest."""
    chosen = getattr(request.node, "callspec", None)
    if chosen is not None and "sqlite" in chosen.params.values():
        folder = request.getfixturevalue("tmp_path") / "state"
        make_folder(folder)
        shutil.copy(request.getfixturevalue("empty_file"), folder)


@pytest.fixture(params=["sqlite", "postgresql", "fake"])
def opener(request, tmp_path: Path) -> Iterator[Opener]:
    if request.param == "fake":
        yield open_fakes()
        return
    database = request.getfixturevalue("postgresql") if request.param == "postgresql" else ""
    with ExitStack() as opened:

        def open_database() -> Journal:
            opened.close()
            return opened.enter_context(open_journal(tmp_path / "state", database=database))

        yield open_database


def open_fakes() -> Opener:
    """Return what opens a fake, and then the same one anew."""
    opened: list[FakeJournal] = []

    def open_fake() -> Journal:
        opened.append(opened[-1].reopened() if opened else FakeJournal())
        return opened[-1]

    return open_fake
