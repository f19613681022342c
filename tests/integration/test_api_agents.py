# SPDX-License-Identifier: Apache-2.0
# long: all that agents say, to one server that is started once
"""Agents over real HTTP: look-up, hello, check-in, as the wire has them; the facts are those of simulated hosts."""

import json
import sqlite3
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.conductor.admission import Admission
from cyborg_reconciler.conductor.agents import Agents, AgentTerms
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.saving import SaveOut, Saver
from cyborg_reconciler.documents.rest.agent import (
    CheckInGiven,
    DeviceTold,
    HardwareTold,
    InventoryGiven,
    LookupGiven,
    SetupTold,
    SpecsTold,
)
from cyborg_reconciler.documents.rest.hardware import Hardware
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import samples
from cyborg_reconciler.simulation.hosts import write_tree
from cyborg_reconciler.testing import FixedClock
from tests.integration.api_support import Server, problem, serving
from tests.integration.api_world import pages
from tests.integration.console import call

OPERATOR = Caller("operator", Role.ADMIN)


@dataclass
class Site:
    """A server, what operators ask of agents on its database, and what a host reports."""

    server: Server
    state: Path
    operators: Agents
    facts: dict[str, Any]

    def minted(self, host: str) -> str:
        return self.operators.enrol(OPERATOR, host, timedelta(hours=1))

    def cli(self, *arguments: str) -> str:
        command = [str(Path(sys.executable).parent / "cyborg-reconciler"), *arguments, "--state", str(self.state)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def rows(self, query: str, *values: Any) -> list[Any]:
        with sqlite3.connect(f"file:{self.state / 'journal.db'}?mode=ro", uri=True) as database:
            return database.execute(query, values).fetchall()


@dataclass
class Speaker:
    """An agent, as far as the wire sees it."""

    site: Site
    host: str
    token: str
    epoch: int = 1
    sequence: int = 0
    inventory: dict[str, Any] = field(default_factory=dict)

    def check_in(self, *, full: bool = True, **said: Any) -> Any:
        self.sequence += 1
        facts = said.pop("facts", self.site.facts)
        path = said.pop("path", f"/v1/heartbeat/{self.host}")
        body = {
            "agent_version": "0.1.0",
            "boot_id": "boot-1",
            "epoch": self.epoch,
            "sequence": self.sequence,
            "fingerprint": facts["fingerprint"],
            **({"facts": facts} if full else {}),
            **said,
        }
        return self.site.server("POST", path, body, authorization=f"Bearer {self.token}")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agents")
    write_tree(samples.demo_machines()[0], folder / "host")
    facts = json.loads(json.dumps(gather(Tree(str(folder / "host")), connection="local")))
    state = folder / "state"
    with serving(state, "--auth", "none") as server, open_admission(Settings(state)) as operators:
        yield Site(server, state, operators, facts)


def look_up(site, token, **inventory):
    body = {"agent_version": "0.1.0", "inventory": {"hostname": "whatever", **inventory}}
    return site.server("POST", "/v1/lookup", body, authorization=f"Bearer {token}")


@pytest.fixture(scope="module")
def enrolled(site):
    """Enrols the agent of a new host, and returns it."""

    def enrol(host="", **inventory):
        host = host or f"compute-{uuid.uuid4().hex[:8]}"
        answer = look_up(site, site.minted(host), hostname=host, **inventory)
        assert answer.status == 200, answer.data
        return Speaker(site, host, answer.json()["token"], inventory=inventory)

    return enrol


@pytest.fixture(scope="module")
def agent(enrolled):
    return enrolled()


def other_facts(facts, **changes):
    """The facts of a host that changed."""
    return {**facts, **changes, "fingerprint": uuid.uuid4().hex}


class TestLookUp:
    def test_an_enrolment_token_gets_its_hosts_own_token_once(self, site):
        minted = site.minted("once-1")
        first = look_up(site, minted, hostname="once-1").json()
        assert (first["host"], first["heartbeat_interval"]) == ("once-1", 60)
        assert first["token"].startswith("cya_")
        again = look_up(site, minted, hostname="once-1.example.com")
        assert (again.status, "token" in again.json()) == (200, False)

    def test_of_many_who_look_up_at_once_one_gets_the_token(self, site):
        minted = site.minted("many-1")
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: look_up(site, minted, hostname="many-1").json(), range(16)))
        assert sum("token" in answer for answer in answers) == 1

    def test_tokens_are_kept_nowhere_in_the_clear(self, site, agent):
        minted = site.minted("hidden-1")
        agent.check_in()
        kept = b"".join(path.read_bytes() for path in site.state.rglob("*") if path.is_file())
        assert minted.encode() not in kept
        assert agent.token.encode() not in kept

    def test_a_host_is_known_by_its_uuid_and_its_macs_before_its_name(self, site, enrolled):
        mac = "52:54:00:aa:00:01"
        known = enrolled(system_uuid="4c4c4544-0042-3510-8052-b4c04f564433", macs=[mac])
        for inventory in ({"system_uuid": "4c4c4544-0042-3510-8052-b4c04f564433"}, {"macs": [mac]}):
            other = site.minted(f"other-{uuid.uuid4().hex[:6]}")
            problem(look_up(site, other, **inventory), 403)
            assert look_up(site, site.minted(known.host), hostname=known.host, **inventory).json()["host"] == known.host

    def test_an_inventory_of_two_hosts_is_a_conflict(self, site, enrolled):
        for number in (1, 2):
            enrolled(macs=[f"52:54:00:bb:00:0{number}"])
        both = ["52:54:00:bb:00:01", "52:54:00:bb:00:02"]
        problem(look_up(site, site.minted("both-1"), macs=both), 409)

    @pytest.mark.parametrize("is_known", [True, False])
    def test_who_shows_its_own_token_is_not_shut_out_by_what_another_claims(self, site, enrolled, is_known):
        known_by = {"system_uuid": str(uuid.uuid4()), "macs": [f"52:54:00:ee:00:0{int(is_known)}"]}
        host = f"honest-{uuid.uuid4().hex[:8]}"
        if is_known:
            enrolled(host, **known_by)
        hostile = enrolled(**known_by)
        # By its name with a domain, and, where it was known before, by what it is known by.
        for hostname in (f"{host}.example.com", *(["whatever"] if is_known else [])):
            answer = look_up(site, site.minted(host), **known_by, hostname=hostname)
            assert (answer.status, answer.json()["host"], "token" in answer.json()) == (200, host, True)
        (told, *_) = site.rows("select message from events where host = ? and kind = 'IdentityContested'", host)
        assert hostile.host in told[0]
        # That host's token on the machine of the other is refused still.
        problem(look_up(site, site.minted(host), **known_by, hostname=hostile.host), 409)

    def test_who_calls_itself_otherwise_than_its_token_says_is_no_host_that_is_known(self, site):
        minted = site.minted("right-1")
        problem(look_up(site, minted, hostname="wrong-1"), 404)
        assert "token" in look_up(site, minted, hostname="right-1").json(), "it was not used up"

    def test_no_token_and_a_wrong_one_are_told_the_same(self, site):
        wrong = look_up(site, "cye_wrong")
        spent = look_up(site, site.minted("spent-1") + "x")
        assert problem(wrong, 401).detail == problem(spent, 401).detail
        problem(site.server("POST", "/v1/lookup", {"agent_version": "1", "inventory": {"hostname": "a"}}), 401)


class TestHello:
    def test_an_agent_is_told_its_host(self, site, agent):
        body = {"status": "READY", "endpoint": "compute-7:1337"}
        answer = site.server("POST", "/v1/hello", body, authorization=f"Bearer {agent.token}")
        assert answer.json()["host"] == agent.host
        problem(site.server("POST", "/v1/hello", body, authorization="Bearer cya_wrong"), 401)
        problem(site.server("POST", "/v1/hello", {**body, "x": 1}, authorization=f"Bearer {agent.token}"), 400)


class TestCheckIn:
    def test_facts_are_kept_and_then_their_fingerprint_is_enough(self, site, enrolled):
        agent = enrolled()
        problem(agent.check_in(full=False), 409)
        first = agent.check_in()
        assert (first.status, first.json()["durable"], first.json()["commands"]) == (202, True, [])
        (kept,) = site.rows("select document from facts where host = ?", agent.host)
        assert json.loads(kept[0]) == site.facts
        assert agent.check_in(full=False).json()["durable"] is False
        changed = other_facts(site.facts)
        problem(agent.check_in(full=False, facts=changed), 409)
        assert agent.check_in(facts=changed).json()["durable"] is True

    def test_what_it_says_of_its_drivers_is_kept_where_it_changed(self, site, enrolled):
        agent, pci = enrolled(), {"name": "pci", "type": "GENERIC", "status": "READY", "endpoint": ""}
        assert agent.check_in(drivers=[pci]).status == 202
        for said, durable in (([pci], False), ([{**pci, "status": "IN-PROGRESS"}], True), ([], False)):
            assert agent.check_in(full=False, drivers=said).json()["durable"] is durable
        (told,) = site.server("GET", f"/v1/backends?host={agent.host}&driver=pci").json()["backends"]
        assert (told["status"], told["endpoint_known"], told["health"]) == ("IN-PROGRESS", False, "Progressing")

    def test_what_is_older_is_refused_and_changes_nothing(self, site, enrolled):
        agent = enrolled()
        newest = other_facts(site.facts)
        agent.sequence = 10
        assert agent.check_in(facts=newest).status == 202
        agent.sequence = 4
        assert problem(agent.check_in(), 409).type == "/problems/stale-check-in"
        assert site.rows("select fingerprint from facts where host = ?", agent.host) == [(newest["fingerprint"],)]
        agent.epoch, agent.sequence = 2, 0
        assert agent.check_in().status == 202

    def test_a_second_agent_of_one_host_is_refused_and_told_of(self, site, enrolled):
        agent = enrolled()
        agent.epoch = 7
        assert agent.check_in().status == 202
        clone = Speaker(site, agent.host, agent.token, epoch=6)
        problem(clone.check_in(boot_id="boot-2"), 409)
        assert site.rows("select kind from events where host = ? and kind = 'AgentRefused'", agent.host)

    def test_a_token_speaks_for_its_own_host_alone(self, site, enrolled):
        one, other = enrolled(), enrolled()
        problem(one.check_in(path=f"/v1/heartbeat/{other.host}"), 403)
        problem(one.check_in(path="/v1/heartbeat/nowhere"), 404)
        assert site.rows("select host from facts where host = ?", other.host) == []
        (told,) = site.rows("select message from events where host = ? and kind = 'AgentRefused' limit 1", one.host)
        assert other.host in told[0]

    def test_what_is_revoked_opens_nothing_until_the_host_is_enrolled_anew(self, site, enrolled):
        agent = enrolled()
        assert agent.check_in().status == 202
        site.operators.revoke(OPERATOR, agent.host)
        problem(agent.check_in(), 401)
        assert enrolled(agent.host).token != agent.token

    def test_a_token_is_rotated_by_a_check_in_and_the_old_one_works_until_the_new_one_was_used(self, site, enrolled):
        agent = enrolled()
        agent.check_in()
        site.operators.ask(OPERATOR, [agent.host], "rotate_token")
        (told,) = agent.check_in(full=False).json()["commands"]
        assert told["command"] == "rotate_token"
        assert agent.check_in(full=False).status == 202
        old, agent.token = agent.token, told["token"]
        assert agent.check_in(full=False).status == 202
        agent.token = old
        problem(agent.check_in(full=False), 401)

    @pytest.mark.parametrize(
        "said",
        [
            {"epoch": "1"},
            {"epoch": -1},
            {"sequence": 2**63},
            {"colour": "red"},
            {"facts": {"fingerprint": "x"}},
            {"status": [{"address": "0000:3b:00.0", "health": "Fine"}]},
            {"usage": [{"address": "0000:3b:00.0", "metrics": {"a b": 1}}]},
        ],
    )
    def test_what_is_no_check_in_is_refused(self, agent, said):
        assert problem(agent.check_in(**said), 400).errors

    def test_a_user_has_no_agents_calls(self, site):
        problem(site.server("POST", "/v1/heartbeat/compute-1", {}), 401)


class TestCommands:
    def test_agents_are_enrolled_listed_and_shut_out_by_command(self, site):
        minted = site.cli("agents", "enrol", "typed-1", "--new")
        agent = Speaker(site, "typed-1", look_up(site, minted, hostname="typed-1").json()["token"])
        assert agent.check_in().status == 202
        listed = {one["host"]: one for one in json.loads(site.cli("agents", "list", "--output", "json"))}
        assert listed["typed-1"]["last_seen_at"]
        assert "hash" not in json.dumps(listed)
        site.cli("agents", "revoke", "typed-1")
        assert "revoked" in next(line for line in site.cli("agents", "list").splitlines() if "typed-1" in line)

    def test_a_name_that_nobody_knows_is_enrolled_by_who_says_that_it_is_new(self, site):
        before = site.rows("select count(*) from hosts")
        refused = call("agents", "enrol", "unheard-of-1", "--state", site.state)
        assert (refused.code, "say --new" in " ".join(refused.errors.split())) == (1, True)
        for name in ("a b", "a/b", "", "n" * 256, "a\n"):
            refused = call("agents", "enrol", name, "--new", "--state", site.state)
            assert (refused.code, "none can be called so" in " ".join(refused.errors.split())) == (1, True)
        assert site.rows("select count(*) from hosts") == before
        site.cli("agents", "enrol", "unheard-of-1", "--new")
        site.cli("agents", "enrol", "unheard-of-1")


class TestSilence:
    def test_who_falls_silent_is_told_of_once_and_clears_by_itself(self, tmp_path):
        clock = FixedClock()
        with open_journal(tmp_path / "state") as journal:
            saver = Saver(journal.agents(), SaveOut())
            service, admission = Agents(journal.agents(), saver, clock), Admission(journal.agents(), clock)
            given = LookupGiven(agent_version="1", inventory=InventoryGiven(hostname="quiet-1"))
            enroller = service.enroller(admission.enrol(OPERATOR, "quiet-1", timedelta(hours=1)))
            host, _ = service.look_up(enroller, given)
            device = DeviceTold(str(uuid.uuid4()), "dummy:0", SpecsTold("GENERIC"), SetupTold(setup_required=True))
            said = CheckInGiven("1", "boot-1", 1, 1, "", hardware=[HardwareTold("dummy", [device])])
            service.check_in(service.speaker(host.token), "quiet-1", said)
            assert admission.mark_silent() == []
            silent_since = partial(self.silent_since, journal, "quiet-1")
            began = clock.now()
            assert silent_since() == ("False", "Heard", began)
            clock.move(60)
            again = msgspec.structs.replace(said, sequence=2, boot_id="boot-2")  # with news, so that it is kept now
            service.check_in(service.speaker(host.token), "quiet-1", again)
            assert silent_since() == ("False", "Heard", began), "it is as it was, whenever it checks in"
            clock.move(181)
            fell = clock.now()
            assert admission.mark_silent() == ["quiet-1"]
            clock.move(60)
            assert admission.mark_silent() == []
            assert silent_since() == ("True", "NotHeard", fell)
            assert service.store.agent("quiet-1").silent
            shown = call("status", "quiet-1", "--output", "json", "--state", tmp_path / "state").data[0]["conditions"]
            assert [(one["type"], one["status"]) for one in shown] == [("AgentSilent", "True")]
            assert "AgentSilent" in call("status", "quiet-1", "--state", tmp_path / "state").output
            again = msgspec.structs.replace(again, sequence=3, hardware=[])
            service.check_in(service.speaker(host.token), "quiet-1", again)
            assert not service.store.agent("quiet-1").silent
            assert silent_since() == ("False", "Heard", clock.now())
            kinds = [event.kind for event in journal.events("quiet-1")]
            assert (kinds.count("AgentSilent"), kinds.count("AgentHeard")) == (1, 1)
            clock.move(190)  # it may have been heard, and that is not written before the next save-out
            terms = AgentTerms(save_out_s=30)
            assert Admission(journal.agents(), clock, terms).mark_silent() == []
            assert admission.mark_silent() == ["quiet-1"]
            saver.close()

    @staticmethod
    def silent_since(journal, host):
        """What the API says of the silence of a host's agent, and since when that is so."""
        shown = json.loads(journal.fleet().hosts.document(host))["conditions"]
        (one,) = [one for one in shown if one["type"] == "AgentSilent"]
        return one["status"], one["reason"], datetime.fromisoformat(one["last_transition_time"])

    def test_a_name_that_never_reported_is_no_alarm(self, tmp_path):
        with open_journal(tmp_path / "state") as journal:
            admission = Admission(journal.agents(), FixedClock())
            admission.enrol(OPERATOR, "never-1", timedelta(hours=1))
            assert admission.mark_silent() == []


class TestDiscovery:
    def accelerators(self, site, agent):
        return site.server("GET", f"/v1/accelerators?host={agent.host}&sort=name").json()["accelerator"]

    def test_what_is_found_is_inserted_inactive_and_keeps_its_uuid(self, site, enrolled):
        agent = enrolled()
        agent.check_in()
        found = self.accelerators(site, agent)
        assert found
        assert {(one["state"], one["desired_state"]) for one in found} == {("inactive", "inactive")}
        assert {one["acc_specs"]["device_type"] for one in found} >= {"GPU"}
        assert all(one["attach_info"]["address"] for one in found)
        changed = other_facts(site.facts, hostname="renamed")
        agent.check_in(facts=changed)
        assert [one["uuid"] for one in self.accelerators(site, agent)] == [one["uuid"] for one in found]

    def test_what_an_agent_says_of_a_devices_health_counts_until_it_says_otherwise(self, site, enrolled):
        agent = enrolled()
        agent.check_in()
        path = f"/v1/accelerators?host={agent.host}"
        card, *others = site.server("GET", path).json()["accelerator"]
        where = ("SELECT address FROM accelerators WHERE uuid = ?", card["uuid"])
        ((address,),) = site.rows(*where)
        with open_journal(site.state, exclusive=False) as journal:
            store = journal.accelerators()
            verified = replace(store.accelerator(card["uuid"]), state="ready", desired_state="ready")
            store.record([(verified, [])])

        def says(health):
            status = [{"address": address, "health": health, "driver": "generic-pci"}]
            answer = agent.check_in(full=False, status=status)
            assert answer.status == 202, answer.data
            return answer.json()["durable"]

        def shown():
            found = {one["uuid"]: one for one in site.server("GET", path).json()["accelerator"]}
            assert [found[one["uuid"]] for one in others] == others
            return found[card["uuid"]]["acc_status"]["health"], found[card["uuid"]]["state"]

        well = card["acc_status"]["health"]
        assert (says("Healthy"), shown()) == (False, (well, "ready"))
        assert (says("Degraded"), shown()) == (True, ("Degraded", "inactive"))
        assert "it is inactive" in problem(site.server("PUT", f"/v1/accelerators/{card['uuid']}", {}), 409).detail
        assert says("Degraded") is False, "it is kept already"
        assert agent.check_in(full=False).json()["durable"] is False, "where nothing is said, nothing changes"
        for facts in (other_facts(site.facts), site.facts):
            agent.check_in(facts=facts)
        assert shown() == ("Degraded", "inactive"), "facts do not speak of it"
        assert (says("Healthy"), shown()) == (True, (well, "inactive")), "it is ready when the next pass has seen it"
        told = site.server("GET", f"/v1/events?kind=AcceleratorHealthTold&host={agent.host}").json()["events"]
        assert [one["after"]["health"] for one in told] == ["Healthy", "Degraded"]

        assert (says("Degraded"), shown()) == (True, ("Degraded", "inactive"))
        site.operators.revoke(OPERATOR, agent.host)
        assert shown() == (well, "inactive"), "who does not speak any more would never take it back"
        (told,) = site.server("GET", f"/v1/events?kind=AcceleratorHealthForgotten&host={agent.host}").json()["events"]
        assert (told["before"]["health"], told["after"]["health"]) == ("Degraded", "Healthy")
        assert site.rows("SELECT reason FROM queue WHERE host = ?", agent.host) == [("HealthForgotten",)]

    def test_what_goes_is_missing_and_comes_back_as_itself(self, site, enrolled):
        agent = enrolled()
        agent.check_in()
        (gpu, *_) = [one for one in self.accelerators(site, agent) if one["acc_specs"]["device_type"] == "GPU"]
        address = gpu["attach_info"]["address"]
        rest = [device for device in site.facts["devices"] if device["address"] != address]
        agent.check_in(facts=other_facts(site.facts, devices=rest))
        gone = site.server("GET", f"/v1/accelerators/{gpu['uuid']}").json()
        assert (gone["acc_status"]["health"], gone["state"]) == ("Missing", "inactive")
        agent.check_in(facts=other_facts(site.facts))
        assert site.server("GET", f"/v1/accelerators/{gpu['uuid']}").json()["acc_status"]["health"] != "Missing"

    def test_a_pf_that_gets_vfs_is_withdrawn_and_not_missing(self, site, enrolled):
        agent = enrolled()
        agent.check_in()
        (gpu, *_) = [one for one in self.accelerators(site, agent) if one["acc_specs"]["device_type"] == "GPU"]
        pf = next(one for one in site.facts["devices"] if one["address"] == gpu["attach_info"]["address"])
        vf = {**pf, "address": "0000:3b:00.4", "physfn": pf["address"], "vf_index": 0, "total_vfs": None}
        rest = [one for one in site.facts["devices"] if one is not pf]
        divided = [*rest, {**pf, "num_vfs": 1, "vfs": [vf["address"]]}, vf]
        agent.check_in(facts=other_facts(site.facts, devices=divided))
        found = {one["attach_info"]["address"]: one for one in self.accelerators(site, agent)}
        assert found[vf["address"]]["acc_specs"]["acc_type"] == "VF"
        assert found[pf["address"]]["acc_status"]["health"] != "Missing"
        self.refuse_to_offer(site, agent, gpu["uuid"], pf["address"])
        agent.check_in(facts=other_facts(site.facts, devices=rest))
        gone = {one["attach_info"]["address"]: one["acc_status"]["health"] for one in self.accelerators(site, agent)}
        assert {gone[pf["address"]], gone[vf["address"]]} == {"Missing"}

    @staticmethod
    def refuse_to_offer(site, agent, uuid, address):
        """Check that the hardware with *uuid* is claimed by no spelling, and that the answer leads to what can be."""
        for given in ({"uuid": uuid}, {"host": agent.host, "address": address}):
            found = problem(site.server("POST", "/v1/accelerators", {"name": f"no {uuid}", **given}), 409)
            assert f"{address} of {agent.host}" in found.detail
            assert "no accelerator" in found.detail
            assert site.server("GET", f"/v1/hosts/{agent.host}/hardware").status == 200
            assert f"/v1/hosts/{agent.host}/hardware has" in found.detail

    def test_hardware_that_is_no_accelerator_cannot_be_claimed_whichever_way_it_is_named(self, site, enrolled):
        agent = enrolled()
        agent.check_in()
        hardware = site.server("GET", f"/v1/hosts/{agent.host}/hardware?limit=1000").json()["hardware"]
        offered = {one["uuid"] for one in self.accelerators(site, agent)}
        bridge = next(one for one in hardware if one["uuid"] not in offered)
        self.refuse_to_offer(site, agent, bridge["uuid"], bridge["address"])
        problem(site.server("GET", f"/v1/accelerators/{bridge['uuid']}"), 404)
        nothing = {"name": "nothing", "host": agent.host, "address": "0000:fe:00.0"}
        assert "nothing was found there" in problem(site.server("POST", "/v1/accelerators", nothing), 409).detail

    def test_what_is_claimed_by_its_uuid_is_claimed_where_it_is(self, site, enrolled):
        agent = enrolled()
        agent.check_in()
        one = self.accelerators(site, agent)[0]
        given = {"name": "elsewhere", "uuid": one["uuid"], "host": agent.host, "address": "0000:fe:00.0"}
        assert {wrong.path for wrong in problem(site.server("POST", "/v1/accelerators", given), 400).errors} == {
            "$.address"
        }

    def test_one_that_was_found_is_claimed_by_name_and_what_discovery_says_stays(self, site, enrolled):
        agent = enrolled()
        agent.check_in()
        (gpu, *_) = [one for one in self.accelerators(site, agent) if one["acc_specs"]["device_type"] == "GPU"]
        body = {"name": f"GPU of {agent.host}", "host": agent.host, "address": gpu["attach_info"]["address"]}
        answer = site.server("POST", "/v1/accelerators", body)
        assert (answer.status, answer.headers["Location"]) == (201, f"/accelerators/{gpu['uuid']}")
        problem(site.server("POST", "/v1/accelerators", {**body, "name": "again"}), 409)
        path = f"/v1/accelerators/{gpu['uuid']}"
        problem(site.server("PUT", f"{path}/num", {"num": gpu["acc_specs"]["num"] + 1}), 409)
        overlay = {"acc_capability": {"mode": "compute"}}
        assert (
            site.server("PUT", f"{path}/acc_capability", overlay).json()["acc_specs"]["acc_capability"]["mode"]
            == "compute"
        )
        agent.check_in(facts=other_facts(site.facts))
        kept = site.server("GET", path).json()
        assert kept["acc_specs"]["acc_capability"]["mode"] == "compute"
        assert kept["name"] == body["name"]

    def test_every_device_is_hardware_and_pages_follow_each_other(self, site, enrolled):
        agent = enrolled()
        agent.check_in()
        for path in (f"/v1/hosts/{agent.host}/hardware", "/v1/hardware"):
            found, ids = {}, {}
            for sort in ("uuid", "uuid:desc"):
                shown, _ = pages(site.server, f"{path}?limit=3&sort={sort}", "hardware")
                found[sort] = [Hardware.model_validate(one) for one in shown]
                ids[sort] = [one.uuid for one in found[sort]]
            assert ids["uuid"] == sorted(set(ids["uuid"])) == ids["uuid:desc"][::-1]
            on_host = {one.address for one in found["uuid"] if one.host == agent.host}
            assert on_host == {device["address"] for device in site.facts["devices"]}
            problem(site.server("GET", f"{path}?sort=address"), 400)
        problem(site.server("GET", "/v1/hosts/nowhere/hardware"), 404)

    @pytest.mark.parametrize(("path", "driver"), [("discovery", None), ("drivers/pci/discovery", "pci")])
    def test_an_agent_is_told_to_look_again_once(self, site, enrolled, path, driver):
        agent = enrolled()
        agent.check_in(drivers=[{"name": "pci", "type": "GENERIC"}])
        for _ in range(2):
            answer = site.server("POST", f"/v1/hosts/{agent.host}/{path}")
            assert (answer.status, answer.json()) == (202, {"status": "IN-PROGRESS"})
        (told,) = agent.check_in(full=False).json()["commands"]
        assert (told["command"], told["driver"]) == ("discover", driver)
        assert agent.check_in(full=False).json()["commands"] == []
        problem(site.server("POST", f"/v1/hosts/nowhere/{path}"), 404)

    def test_a_driver_is_the_agents_or_without_one_the_catalogues(self, site, enrolled):
        agent = enrolled()
        agent.check_in(drivers=[{"name": "pci", "type": "GENERIC"}])
        path = f"/v1/hosts/{agent.host}/drivers"
        for unknown in ("nobody", "virtio-crypto"):
            assert "on host" in problem(site.server("POST", f"{path}/{unknown}/discovery"), 404).detail
        assert agent.check_in(full=False).json()["commands"] == []
        site.operators.revoke(OPERATOR, agent.host)
        assert site.server("POST", f"{path}/virtio-crypto/discovery").status == 202
        problem(site.server("POST", f"{path}/nobody/discovery"), 404)

    def test_all_agents_are_told(self, site, enrolled):
        agents = [enrolled() for _ in range(2)]
        for agent in agents:
            agent.check_in()
        assert site.server("POST", "/v1/discovery").status == 202
        assert all(agent.check_in(full=False).json()["commands"] for agent in agents)
