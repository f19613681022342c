# SPDX-License-Identifier: Apache-2.0
"""Which journal a command works with, and what the loop does when it is another's."""

import os

import pytest

from cyborg_reconciler.cli.demo import own_journal
from cyborg_reconciler.cli.run import turn
from cyborg_reconciler.errors import AlreadyRunningError
from cyborg_reconciler.settings import read_settings
from tests.unit.world import YES, World

DATABASE = "CYBORG_RECONCILER_DATABASE"


def test_the_demo_keeps_its_hosts_out_of_the_database_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATABASE, "postgresql://host/name")
    with own_journal() as prefix:
        assert prefix == f"{DATABASE}= "
        assert read_settings().database == ""
    assert os.environ[DATABASE] == "postgresql://host/name"
    monkeypatch.delenv(DATABASE)
    with own_journal() as prefix:
        assert prefix == ""
    assert DATABASE not in os.environ


def test_a_loop_whose_hosts_another_process_has_taken_over_ends() -> None:
    world = World("a")
    world.journal.broken = AlreadyRunningError(wanted="the journal", found="process 2 works with it")
    with pytest.raises(AlreadyRunningError):
        turn(world.ports, YES)
