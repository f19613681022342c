# SPDX-License-Identifier: Apache-2.0
"""What agents are to do, told until they have done it; and what their drivers found that no facts tell of."""

import uuid

import pytest

from tests.integration.api_support import problem
from tests.integration.test_api_agents import OPERATOR, enrolled, site

__all__ = ["enrolled", "site"]


def commands(agent, **said):
    answer = agent.check_in(full=False, **said)
    assert answer.status == 202, answer.data
    return answer.json()["commands"]


@pytest.fixture
def agent(enrolled):
    agent = enrolled()
    assert agent.check_in(done=[]).status == 202
    return agent


class TestCommands:
    def test_a_command_is_told_until_the_agent_has_done_it_and_its_number_is_not_given_again(self, site, agent):
        site.operators.ask(OPERATOR, [agent.host], "discover")
        (told,) = commands(agent, done=[])
        assert commands(agent, done=[]) == [told]  # the first answer may have been lost
        assert commands(agent, done=[told["id"]]) == []
        assert commands(agent, done=[told["id"]]) == []
        site.operators.ask(OPERATOR, [agent.host], "discover")
        (again,) = commands(agent, done=[])
        assert again["id"] > told["id"]

    def test_an_agent_speaks_of_its_own_commands_alone(self, site, agent, enrolled):
        other = enrolled()
        other.check_in(done=[])
        site.operators.ask(OPERATOR, [agent.host, other.host], "send_facts")
        (mine,) = commands(agent, done=[])
        assert len(commands(other, done=[mine["id"]])) == 1
        assert commands(agent, done=[]) == [mine]

    def test_an_agent_that_does_not_say_what_it_has_done_is_told_once(self, site, agent):
        site.operators.ask(OPERATOR, [agent.host], "discover")
        assert len(commands(agent)) == 1
        assert commands(agent) == []

    def test_a_new_token_is_told_until_it_is_used_and_the_old_one_opens_until_then(self, site, agent):
        site.operators.ask(OPERATOR, [agent.host], "rotate_token")
        (lost,) = commands(agent, done=[])
        (told,) = commands(agent, done=[])
        assert (lost["id"], lost["command"]) == (told["id"], "rotate_token")
        old, agent.token = agent.token, told["token"]
        assert commands(agent, done=[]) == []
        for token in (old, lost["token"]):
            agent.token = token
            problem(agent.check_in(full=False, done=[]), 401)

    @pytest.mark.parametrize("done", ["all", [True], [-1], [2**63], {"1": 2}])
    def test_what_is_no_list_of_numbers_is_refused(self, agent, done):
        problem(agent.check_in(full=False, done=done), 400)


def device(uuid_=None, *, address="dummy:0", **status):
    return {
        "uuid": uuid_ or str(uuid.uuid4()),
        "address": address,
        "acc_specs": {"device_type": "GENERIC", "acc_type": "VIRTUAL", "acc_capability": {"num": 1}},
        "acc_status": {"setup_required": True, **status},
    }


def told(agent, *devices, drivers=("dummy",)):
    """Check in with what the driver dummy found, and return the answer."""
    named = [{"name": name, "type": "GENERIC"} for name in drivers]
    answer = agent.check_in(full=False, hardware=[{"driver": "dummy", "devices": devices}], drivers=named, done=[])
    assert answer.status == 202, answer.data
    return answer.json()


class TestHardwareOfDrivers:
    def show(self, agent, one):
        return agent.site.server("GET", f"/v1/accelerators/{one['uuid']}").json()

    def want(self, agent, one, state):
        step = {"op": "replace", "path": "/state", "value": state}
        headers = {"content_type": "application/json-patch+json"}
        assert agent.site.server("PATCH", f"/v1/accelerators/{one['uuid']}", [step], **headers).status == 200

    def test_it_is_inactive_until_it_is_wanted_ready_set_up_and_well(self, agent):
        one = device()
        answer = told(agent, one)
        assert (answer["durable"], answer["ready"]) == (True, [])
        assert told(agent, one)["durable"] is False
        shown = self.show(agent, one)
        assert (shown["state"], shown["driver"], shown["host"]) == ("inactive", "dummy", agent.host)
        self.want(agent, one, "ready")
        assert told(agent, one)["ready"] == [{"driver": "dummy", "address": "dummy:0", "uuid": one["uuid"]}]
        assert self.show(agent, one)["state"] == "inactive"
        for status, state in (
            ({"setup_required": False, "reboot_required": True}, "inactive"),
            ({"setup_required": False}, "ready"),
            ({"setup_required": False, "health": "Degraded"}, "inactive"),
            ({"setup_required": False, "health": "Unknown"}, "inactive"),
        ):
            told(agent, device(one["uuid"], **status))
            assert self.show(agent, one)["state"] == state
        self.want(agent, one, "maintenance")
        assert told(agent, device(one["uuid"], setup_required=False))["ready"] == []
        assert self.show(agent, one)["state"] == "maintenance"

    def test_what_a_driver_does_not_tell_of_any_more_is_missing_and_a_silent_one_says_nothing(self, agent):
        one, other = device(), device(address="dummy:1")
        told(agent, one, other)
        agent.check_in(full=False, hardware=[], drivers=[{"name": "dummy", "type": "GENERIC"}])
        assert self.show(agent, one)["acc_status"]["health"] == "Healthy"
        agent.check_in()  # facts do not speak of it, and take nothing away
        assert self.show(agent, one)["acc_status"]["health"] == "Healthy"
        told(agent, other)
        assert self.show(agent, one)["acc_status"]["health"] == "Missing"
        self.want(agent, other, "ready")
        agent.check_in(full=False, hardware=[], drivers=[])  # the driver is gone
        assert self.show(agent, other)["acc_status"]["health"] == "Missing"
        assert self.show(agent, one)["status"] == 404  # and with it what nobody wants anything of

    def test_nobody_speaks_for_what_is_anothers(self, agent, enrolled):
        theirs, ours = enrolled(), device()
        told(agent, ours)
        theirs.check_in()
        told(theirs)  # that it has such a driver is news by itself
        path = f"/v1/accelerators?host={theirs.host}"
        found = agent.site.server("GET", path).json()["accelerator"][0]
        for uuid_ in (ours["uuid"], found["uuid"]):
            before = self.show(agent, {"uuid": uuid_})
            assert told(theirs, device(uuid_, setup_required=False))["durable"] is False
            assert self.show(agent, {"uuid": uuid_}) == before

    def test_what_is_nested_too_deep_or_is_no_device_is_refused(self, agent):
        deep = device()
        tree = deep["acc_specs"]["acc_capability"]
        for _ in range(20):
            tree["more"] = tree = {}
        for bad in (deep, device("X"), device(address="a b"), {**device(), "more": 1}):
            said = agent.check_in(full=False, hardware=[{"driver": "dummy", "devices": [bad]}])
            assert "hardware" in problem(said, 400).errors[0].path
