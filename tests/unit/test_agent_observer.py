# SPDX-License-Identifier: Apache-2.0
"""When the agent looks at its host, and what comes of it. The clock is a number here."""

from pathlib import Path

import pytest

from cyborg_reconciler.agent.drivers.dummy import DummyDriver
from cyborg_reconciler.agent.drivers.registry import Registry
from cyborg_reconciler.agent.observer import ALL, EVENT, LOOK, RETRY_S, Observer
from cyborg_reconciler.agent.schedule import AT_MOST_S, QUIET_S
from cyborg_reconciler.agent.settings import AgentSettings
from cyborg_reconciler.agent.state import StateFolder
from cyborg_reconciler.errors import HostUnreadableError

SETTINGS = AgentSettings(conductor="https://cloud.example", poll_interval_s=5, facts_interval_s=300)


class Host:
    """What the observer reads; *fingerprint* and *stamp* change as a story wants it."""

    def __init__(self):
        self.fingerprint, self.stamp, self.looks, self.fails = "one", "a", 0, False

    def read_facts(self, modules=()):
        self.looks += 1
        self.modules = modules
        if self.fails:
            raise HostUnreadableError(wanted="the host's devices", found="/sys/bus: no such folder")
        return {"fingerprint": self.fingerprint, "devices": [], "kernel": {"args_configured": {"unknown": "no GRUB"}}}

    def read_stamp(self):
        return self.stamp


class FailingDriver(DummyDriver):
    name = "failing"

    def discover(self, facts):
        return facts["of which there are none"]


class World:
    def __init__(self, path: Path, *drivers):
        self.host, self.news, self.now = Host(), [], 1000.0
        self.registry = Registry([DummyDriver(2), *drivers], StateFolder(path / "state"))
        self.observer = Observer(self.host, self.registry, SETTINGS, lambda: self.news.append(self.host.fingerprint))

    def step(self, after_s=0.0):
        self.now += after_s
        return self.observer.step(self.now)

    def event(self, after_s=0.0):
        self.now += after_s
        self.observer.take(EVENT, self.now)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_on_its_first_run_it_looks_at_once_and_every_driver_discovers(world):
    assert world.observer.busy == {"dummy"}
    assert world.step() == SETTINGS.poll_interval_s
    assert world.observer.busy == set()
    assert world.news == ["one"]
    assert [device.address for device in world.observer.latest.devices["dummy"]] == ["dummy:0", "dummy:1"]
    assert world.observer.latest.unread == ("no GRUB",)


def test_while_nothing_tells_of_a_change_only_the_stamp_is_read(world):
    world.step()
    for _ in range(59):
        world.step(5)
    assert world.host.looks == 1
    world.step(5)
    assert world.host.looks == 2
    assert world.news == ["one"]


def test_another_stamp_has_it_look_once_it_is_quiet(world):
    world.step()
    world.host.stamp, world.host.fingerprint = "b", "two"
    assert world.step(5) == QUIET_S
    world.step(QUIET_S)
    assert (world.host.looks, world.news) == (2, ["one", "two"])


def test_a_burst_of_events_is_one_look(world):
    world.step()
    for _ in range(100):
        world.event(0.01)
        world.step()
    assert world.host.looks == 1
    world.step(QUIET_S)
    assert world.host.looks == 2


def test_events_that_never_cease_are_looked_at_now_and_then(world):
    world.step()
    for _ in range(200):
        world.event(0.1)
        world.step()
    assert world.host.looks == 1 + int(200 * 0.1 / (AT_MOST_S + 0.1))


def test_events_that_come_while_it_is_at_a_turn_are_one_message(world):
    def look_while_events_come():
        for _ in range(1000):
            world.observer.note_event()
        return "a"

    turns = []

    def clock():
        turns.append(world.now)
        return world.now

    world.step()
    world.host.read_stamp = look_while_events_come
    for looks in (2, 3):  # the message was taken: the next event is another
        world.step(5)
        world.observer.stop()
        world.observer.run(clock)
        assert len(turns) < 20
        world.step(QUIET_S)
        assert world.host.looks == looks


def test_a_signal_has_it_look_at_once(world):
    world.step()
    world.observer.take(LOOK, world.now)
    world.step()
    assert (world.host.looks, world.news) == (2, ["one"])


def test_a_host_that_cannot_be_read_is_looked_at_again_and_that_it_can_again_is_news(world):
    world.step()
    world.host.fails = True
    world.event()
    world.step(QUIET_S)
    assert "no such folder" in world.observer.failure
    assert world.observer.latest.fingerprint == "one"
    world.host.fails = False
    world.step(RETRY_S)
    assert world.observer.failure is None
    assert world.news == ["one", "one"]


def test_one_that_is_at_a_turn_for_too_long_hangs_and_one_that_ends_a_long_turn_does_not(world):
    def look_long():
        assert not world.observer.is_hung(world.now + 60)
        assert world.observer.is_hung(world.now + 61), "it has begun its turn, and does not end it"
        world.now += 100
        return "b"

    world.host.read_stamp = look_long
    world.observer.stop()
    world.observer.run(lambda: world.now)
    assert not world.observer.is_hung(world.now)
    assert world.observer.is_hung(world.now + 61), "it does not begin another one"


def test_a_discovery_that_is_under_way_is_not_begun_again(world):
    assert not world.observer.ask()
    assert not world.observer.ask("dummy")
    world.step()
    assert world.observer.ask("dummy")
    assert not world.observer.ask(ALL)
    assert world.observer.busy == {"dummy"}
    world.step()
    assert world.observer.ask(ALL)


def test_a_driver_that_fails_does_not_silence_the_others(tmp_path):
    world = World(tmp_path, FailingDriver(1))
    world.step()
    assert world.news == ["one"]
    assert world.observer.latest.devices["failing"] == ()
    assert len(world.observer.latest.devices["dummy"]) == 2
