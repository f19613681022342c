# SPDX-License-Identifier: Apache-2.0
"""Which journal a command works with."""

import os

import pytest

from cyborg_reconciler.cli.demo import own_journal
from cyborg_reconciler.settings import read_settings

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
