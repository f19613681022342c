# SPDX-License-Identifier: Apache-2.0
# long: all that the reporter does, with one server that plays the conductor
"""How observations come to the conductor: order, outages, refusals, tokens, commands. The clocks are numbers here."""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cyborg_reconciler.agent.conductor import Command, Receipt, Welcome
from cyborg_reconciler.agent.drivers.dummy import DummyDriver
from cyborg_reconciler.agent.drivers.registry import Registry
from cyborg_reconciler.agent.observer import ALL, Observation
from cyborg_reconciler.agent.reporter import Clocks, Means, Reporter
from cyborg_reconciler.agent.spool import LIMIT
from cyborg_reconciler.agent.state import StateFolder, read_identity
from cyborg_reconciler.errors import ConductorError
from cyborg_reconciler.limits import DRIVER_DEVICES, HOST_DEVICES

UUID = "6d1c3a52-0df8-4c3d-9f6e-0a4b7f3d8a11"
INTERVAL_S = 60
WALL = 1_700_000_000.0


def no(status: int, kind: str = "", retry_after_s: float | None = None) -> ConductorError:
    return ConductorError(wanted="it", found="no", status=status, kind=kind, retry_after_s=retry_after_s)


AWAY, STALE, UNKNOWN = no(0), no(409, "stale-check-in"), no(409, "unknown-fingerprint")


def seen(fingerprint: str) -> Observation:
    facts = {
        "fingerprint": fingerprint,
        "hostname": "compute-7",
        "system_uuid": {"unknown": "not for us"},
        "kernel": {"boot_id": "boot-1"},
        "devices": [{"macs": ["52:54:00:00:00:01"]}, {"physfn": "0000:3b:00.0", "macs": ["52:54:00:00:00:02"]}],
    }
    return Observation(facts, {"dummy": tuple(DummyDriver(1).discover(facts))}, ("a reason",))


@dataclass
class Conductor:
    """Takes check-ins as the real one does, unless *answers* say otherwise."""

    tokens: set[str] = field(default_factory=lambda: {"first"})
    answers: deque[ConductorError] = field(default_factory=deque)
    commands: list[Command] = field(default_factory=list)
    given: str | None = "first"
    looked_up: list[tuple[str, Any]] = field(default_factory=list)
    greeted: list[str] = field(default_factory=list)
    check_ins: list[dict[str, Any]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)

    def look_up(self, token: str, inventory: Any) -> Welcome:
        self.looked_up.append((token, inventory))
        if self.answers:
            raise self.answers.popleft()
        given, self.given = self.given, None
        return Welcome("compute-7", UUID, INTERVAL_S, given)

    def hello(self, token: str, endpoint: str) -> Welcome:
        self.greeted.append(endpoint)
        self._admit(token)
        return Welcome("compute-7", UUID, INTERVAL_S)

    def check_in(self, token: str, host: str, body: Any) -> Receipt:
        assert host == "compute-7"
        self.check_ins.append(body)
        self._admit(token)
        self.taken.append(body)
        commands, self.commands = tuple(self.commands), []
        return Receipt(INTERVAL_S, commands)

    def _admit(self, token: str) -> None:
        if self.answers:
            raise self.answers.popleft()
        if token not in self.tokens:
            raise no(401)

    def places(self) -> list[tuple[int, int, bool]]:
        """Of what was taken: epoch, sequence, and whether it had the facts."""
        return [(body["epoch"] - int(WALL), body["sequence"], "facts" in body) for body in self.taken]


@dataclass
class Watch:
    """What the reporter needs of the observer."""

    latest: Observation | None = None
    failure: str | None = None
    hung: bool = False
    busy: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)
    wanted: list[Any] = field(default_factory=list)

    def is_hung(self, now: float) -> bool:
        del now
        return self.hung

    def want(self, *said: Any) -> None:
        self.wanted.append(said)

    def ask(self, driver: str = ALL) -> bool:
        self.asked.append(driver)
        return True


def tokens(world):
    """The token that is kept, and the one before it."""
    kept = read_identity(world.folder)
    return kept.token, kept.previous


class World:
    """An agent's reporter, restarted as often as one likes, on one state folder."""

    def __init__(self, path: Any) -> None:
        self.path, self.conductor, self.watch = path, Conductor(), Watch(seen("one"))
        self.wall, self.now = WALL, 1000.0
        enrolment = path / "enrolment"
        enrolment.write_text("enrol-me")
        enrolment.chmod(0o600)
        self._folder: StateFolder | None = None
        self.restart()

    def restart(self, **means: Any) -> None:
        if self._folder:
            self._folder.close()
        self.folder = self._folder = StateFolder(self.path / "state")
        registry = Registry([DummyDriver(1)], self.folder)
        file, endpoint = self.path / "enrolment", lambda: "compute-7:1337"
        given = Means(self.conductor, self.watch, registry, self.folder, file, endpoint, "0.1.0")
        self.reporter = Reporter(replace(given, **means), Clocks(lambda: self.wall, lambda: 0.5), first_at=self.now)

    def step(self, after_s: float = 0.0) -> float:
        """Let *after_s* pass, and have the reporter do what is due; return until when."""
        self.now += after_s
        return self.reporter.step(self.now)

    def settle(self) -> float:
        """Step until nothing is to be done at once; a reporter that never rests is a failure."""
        for _ in range(10):
            delay = self.step()
            if delay > 0:
                return delay
        message = "it never rests"
        raise AssertionError(message)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


# ---------------------------------------------------------------------------------------------------------- check-ins
def test_look_up_hello_facts_and_then_the_fingerprint_alone(world):
    assert world.settle() == pytest.approx(INTERVAL_S)
    [(token, inventory)] = world.conductor.looked_up
    assert (token, inventory) == (
        "enrol-me",
        {"hostname": "compute-7", "system_uuid": None, "macs": ["52:54:00:00:00:01"]},
    )
    assert world.conductor.greeted == ["compute-7:1337"]
    assert world.step(INTERVAL_S) > 0
    first, second = world.conductor.taken
    assert first["facts"] == world.watch.latest.facts
    assert second.keys() == first.keys() - {"facts"} | {"usage"}
    assert (second["boot_id"], second["agent_version"], second["unread"]) == ("boot-1", "0.1.0", ["a reason"])
    assert second["drivers"] == [
        {"name": "dummy", "type": "GENERIC", "status": "READY", "endpoint": "compute-7:1337"},
    ]
    assert second["status"] == [{"address": "dummy:0", "health": "Healthy", "driver": "dummy"}]
    assert second["usage"] == [{"address": "dummy:0", "metrics": {"utilisation_ratio": 0.0}}]
    assert second["sent_at"] == "2023-11-14T22:13:20+00:00"


def test_before_its_time_nothing_is_said_unless_there_is_news(world):
    world.settle()
    assert world.step(10) == pytest.approx(INTERVAL_S - 10)
    world.watch.latest = seen("two")
    world.settle()
    assert [body["fingerprint"] for body in world.conductor.taken] == ["one", "two"]
    assert world.conductor.places() == [(0, 1, True), (0, 2, True)]


def test_after_a_boot_nothing_is_said_before_its_turn_and_what_is_seen_until_then_is_kept(world):
    world.now -= 20  # of the turn, as the schedule drew it
    assert world.step() == 20
    world.watch.latest = seen("two")
    assert world.step(15) == 5
    assert world.conductor.looked_up == []
    assert len(world.folder.names("spool")) == 2
    world.now += 5
    world.settle()
    assert [body["fingerprint"] for body in world.conductor.taken] == ["one", "two"]


def test_a_clock_that_is_set_back_changes_neither_order_nor_schedule(world):
    world.settle()
    world.wall -= 86_400
    assert world.step(INTERVAL_S) == pytest.approx(INTERVAL_S)
    world.restart()
    world.settle()
    assert world.conductor.places() == [(0, 1, True), (0, 2, False), (1, 1, True)]


def test_while_the_observer_hangs_nothing_is_said_to_be_as_it_was(world, caplog):
    world.settle()
    world.watch.hung = True
    before = len(world.conductor.check_ins)
    for _ in range(3):
        assert world.step(INTERVAL_S) < INTERVAL_S
    assert len(world.conductor.check_ins) == before
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    world.watch.hung = False
    world.settle()
    assert len(world.conductor.check_ins) == before + 1


def test_what_cannot_be_observed_any_more_is_not_said_to_be_as_it_was(world):
    world.settle()
    world.watch.failure = "no /sys"
    assert world.step(INTERVAL_S) > INTERVAL_S
    assert len(world.conductor.taken) == 1


# ------------------------------------------------------------------------------------------------------------- outages
def test_an_outage_is_waited_for_with_longer_and_longer_pauses_and_ends_with_the_newest_state_in_order(world):
    world.settle()
    world.conductor.answers.extend([AWAY] * 3)
    world.watch.latest = seen("two")
    pauses = [world.step(INTERVAL_S)]
    world.watch.latest = seen("three")
    assert world.step() == pytest.approx(pauses[0])  # news does not break the pause
    pauses += [world.step(pauses[0]), world.step(2)]
    assert pauses == [0.75, 1.5, 3.0]
    world.step(3)
    assert [(body["fingerprint"], body["sequence"]) for body in world.conductor.taken[1:]] == [("two", 2), ("three", 3)]


def test_retry_after_is_honoured(world):
    world.conductor.answers.append(no(503, retry_after_s=120))
    assert 120 <= world.step() < 132
    world.step(60)
    assert len(world.conductor.looked_up) == 1


def test_a_long_outage_leaves_a_few_states_of_which_the_last_is_the_newest(world):
    world.settle()
    for number in range(20):
        world.conductor.answers.append(AWAY)
        world.watch.latest = seen(f"state {number}")
        world.step(1000)
    world.conductor.answers.clear()
    world.step(1000)
    assert [body["fingerprint"] for body in world.conductor.taken[1:]] == [f"state {n}" for n in range(20 - LIMIT, 20)]


def test_what_a_killed_agent_could_not_deliver_comes_before_what_is_so_now(world):
    world.settle()
    world.conductor.answers.append(AWAY)
    world.watch.latest = seen("two")
    world.step(INTERVAL_S)
    world.wall += 100
    world.watch.latest = seen("three")
    world.restart()
    world.settle()
    assert [body["fingerprint"] for body in world.conductor.taken] == ["one", "two", "three"]
    assert world.conductor.places() == [(0, 1, True), (0, 2, True), (100, 1, True)]
    assert len(world.conductor.looked_up) == 1


def test_what_a_restarted_agent_sees_is_kept_though_not_even_its_hello_is_heard(world):
    world.settle()
    for number, state in enumerate(("two", "three")):
        world.wall += 100
        world.watch.latest = seen(state)
        world.restart()
        world.conductor.answers.append(AWAY)
        world.step()
        assert len(world.folder.names("spool")) == number + 1
    world.restart()
    world.settle()
    assert [body["fingerprint"] for body in world.conductor.taken][:3] == ["one", "two", "three"]


# ------------------------------------------------------------------------------------------------------------ refusals
def test_a_conductor_that_forgot_the_fingerprint_gets_the_facts_at_once(world):
    world.settle()
    world.conductor.answers.append(UNKNOWN)
    world.step(INTERVAL_S)
    assert world.conductor.places() == [(0, 1, True), (0, 3, True)]


def test_an_agent_that_was_rolled_back_goes_on_in_a_higher_epoch_with_the_facts(world):
    world.settle()
    world.conductor.answers.append(STALE)
    pause = world.step(INTERVAL_S)
    world.step(pause)
    world.settle()
    assert world.conductor.places() == [(0, 1, True), (1, 1, True)]
    world.restart()
    world.settle()
    assert world.conductor.places()[-1] == (2, 1, True)


def test_a_conductor_that_finds_everything_stale_is_not_asked_without_a_pause(world):
    world.conductor.answers.extend([STALE] * 50)
    for _ in range(8):
        assert world.step(1000) > 0
    assert len(world.conductor.check_ins) <= 8


def test_what_an_earlier_agent_left_and_the_conductor_knows_already_is_dropped(world):
    world.settle()
    world.conductor.answers.append(AWAY)
    world.watch.latest = seen("two")
    world.step(INTERVAL_S)
    world.wall += 100
    world.watch.latest = seen("three")
    world.restart()
    known = world.conductor.check_in

    def check_in(token: str, host: str, body: Any) -> Receipt:
        if body["fingerprint"] == "two":
            raise STALE
        return known(token, host, body)

    world.conductor.check_in = check_in
    world.settle()
    assert world.conductor.places() == [(0, 1, True), (100, 1, True)]


def test_facts_that_will_never_be_taken_do_not_block_the_way(world):
    world.settle()
    world.conductor.answers.extend([no(413), UNKNOWN, no(413)])
    world.watch.latest = seen("two")
    for _ in range(2):
        assert world.step(1000) > 0
    world.watch.latest = seen("three")
    world.step(1000)
    assert world.conductor.taken[-1]["fingerprint"] == "three"


def test_that_a_driver_has_fallen_silent_is_said_once(world):
    world.restart(registry=Registry([], world.folder))
    world.watch.latest = replace(seen("one"), devices={}, remote={"crypto": [{"uuid": UUID}]})
    world.settle()
    world.watch.latest = replace(world.watch.latest, remote={})
    assert world.settle() > 0
    world.step(INTERVAL_S)
    said = [body.get("hardware") for body in world.conductor.taken]
    assert said == [[{"driver": "crypto", "devices": [{"uuid": UUID}]}], [], None]


def test_hardware_that_makes_a_check_in_too_long_is_left_out_with_the_reason_and_the_facts_arrive(world):
    few, many = [{"uuid": UUID}], [{"uuid": UUID, "acc_specs": "x" * 700_000}]
    facts = seen("two").facts | {"devices": [{"macs": ["y" * 400_000]}]}
    world.watch.latest = replace(seen("two"), facts=facts, remote={"few": few, "many": many})
    assert world.settle() > 0
    world.step(INTERVAL_S)
    first, second = world.conductor.taken
    assert "facts" in first
    assert [one["driver"] for one in first["hardware"]] == ["dummy", "few"]
    assert first["unread"] == ["a reason", "driver many: its hardware is left out: the check-in would be too long"]
    assert [one["driver"] for one in second["hardware"]] == ["dummy", "few", "many"]  # without facts, there is room


def test_of_more_devices_than_a_host_may_have_the_first_are_told_and_the_rest_is_said_to_be_left_out(world):
    devices = [{"uuid": f"{number:032x}"} for number in range(DRIVER_DEVICES)]
    world.watch.latest = replace(seen("one"), devices={}, remote={"a": devices, "b": devices, "c": devices[:3]})
    world.restart(registry=Registry([], world.folder))
    world.settle()
    world.watch.latest = replace(world.watch.latest, remote={"a": devices, "b": devices[1:], "c": devices[:3][::-1]})
    world.settle()
    first, second = world.conductor.taken
    assert [len(one["devices"]) for one in first["hardware"]] == [DRIVER_DEVICES, HOST_DEVICES - DRIVER_DEVICES, 0]
    assert [one.get("whole", True) for one in first["hardware"]] == [True, True, False]
    assert first["unread"][-1].startswith("driver c: 3 of its 3 devices are left out")
    assert second["hardware"][-1] == {"driver": "c", "devices": devices[:1], "whole": False}
    assert second["unread"][-1].startswith("driver c: 2 of its 3 devices are left out")
    world.step(INTERVAL_S)
    assert len(world.conductor.taken) == 3, "nor is it news again and again"


# -------------------------------------------------------------------------------------------------------------- tokens
def test_a_rotated_token_is_used_and_the_old_one_goes_once_the_new_one_is_taken(world):
    world.conductor.commands = [Command(1, "rotate_token", token="second")]
    world.settle()
    assert tokens(world) == ("second", "first")
    world.conductor.tokens = {"second"}
    world.step(INTERVAL_S)
    assert tokens(world) == ("second", None)
    world.restart()
    world.settle()
    assert len(world.conductor.taken) == 3


def test_where_the_new_token_is_not_taken_the_one_before_serves(world):
    world.conductor.commands = [Command(1, "rotate_token", token="second")]
    world.settle()
    world.step(INTERVAL_S)
    assert tokens(world) == ("first", None)
    assert len(world.conductor.taken) == 2


def test_a_new_token_that_cannot_be_kept_is_not_used_before_it_can(world):
    world.settle()
    full = world.folder.path / "identity.json.new"
    full.mkdir()  # nothing can be written there
    world.conductor.commands = [Command(1, "rotate_token", token="second")]
    world.conductor.tokens = {"first", "second"}
    world.step(INTERVAL_S)
    assert (world.reporter.identity.token, tokens(world)) == ("first", ("first", None))
    full.rmdir()
    world.conductor.commands = [Command(1, "rotate_token", token="second")]
    world.step(INTERVAL_S)
    assert (world.reporter.identity.token, tokens(world)) == ("second", ("second", "first"))


def test_a_host_whose_token_was_revoked_enrols_anew_when_it_may(world):
    world.settle()
    world.conductor.tokens = {"second"}
    assert world.step(INTERVAL_S) < INTERVAL_S
    assert world.reporter.identity.token == "first"
    world.conductor.given = "second"
    world.step(10)
    world.settle()
    assert world.reporter.identity.token == "second"
    assert world.conductor.places()[-1][2] is False


def test_a_look_up_that_is_refused_later_takes_nothing_away(world):
    world.settle()
    world.conductor.answers.extend([no(401), no(403)])
    world.step(INTERVAL_S)
    world.step(10)
    assert world.reporter.identity.token == "first"
    assert len(world.conductor.taken) == 2


def test_a_host_that_has_a_token_and_lost_it_says_so(world, caplog):
    world.conductor.given = None
    assert world.step() > 0
    assert "revoke it, and enrol it anew" in caplog.text
    assert world.reporter.identity is None


def test_a_token_that_is_given_once_is_not_asked_for_before_it_can_be_kept(tmp_path, caplog):
    full = tmp_path / "state/epoch.json.new"
    full.mkdir(parents=True)  # nothing can be written there
    world = World(tmp_path)
    assert world.step() > 0
    assert world.conductor.looked_up == []
    assert "epoch.json: cannot be written" in caplog.text
    full.rmdir()
    world.step(10)
    assert len(world.conductor.taken) == 1


def test_without_an_enrolment_token_it_waits_for_one(world):
    (world.path / "enrolment").unlink()
    assert world.step() > 0
    assert world.conductor.looked_up == []
    (world.path / "enrolment").write_text("enrol-me")
    (world.path / "enrolment").chmod(0o600)
    world.step(10)
    assert len(world.conductor.taken) == 1
