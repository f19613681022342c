# SPDX-License-Identifier: Apache-2.0
"""Journals of three kinds, which keep the same promises: both databases, and the fake."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.ports import Journal
from cyborg_reconciler.testing import FakeJournal

#: Opens the same journal anew, as the next process does.
Opener = Callable[[], Journal]


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
