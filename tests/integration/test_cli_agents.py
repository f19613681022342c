# SPDX-License-Identifier: Apache-2.0
"""`agents list`: what an operator is shown of the agents that there are, and what the asking changes: nothing."""

from datetime import UTC, datetime

from cyborg_reconciler.bootstrap import open_stores
from cyborg_reconciler.ports import Event
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.stores.agents import Agent, Inventory, every_agent
from tests.integration.console import call

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_mistyped_state_folder_has_no_journal_and_gets_none(tmp_path):
    answer = call("agents", "list", "--state", tmp_path / "mistyped")
    assert (answer.code, "there is none" in answer.last_error) == (1, True)
    assert not (tmp_path / "mistyped").exists()


def test_all_agents_are_listed_however_many_are_read_at_a_time(tmp_path):
    hosts = [f"compute-{number}" for number in range(5)]
    with open_stores(Settings(state_dir=tmp_path / "state")) as stores:
        assert call("agents", "list", "--state", tmp_path / "state").output == "no agents yet\n"
        for host in hosts:
            stores.agents.enrol(Agent(host=host, uuid=""), "", Inventory(host), Event(NOW, "AgentEnrolled", host))
        for at_once in (1, 2, 5, 6):
            assert [one.host for one in every_agent(stores.agents, at_once)] == hosts
    listed = call("agents", "list", "-o", "json", "--state", tmp_path / "state").data
    assert [one["host"] for one in listed] == hosts
