# SPDX-License-Identifier: Apache-2.0
"""Which services are up, over both databases: what says so itself, and what is heard."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.conductor.agents import AgentTerms
from cyborg_reconciler.conductor.presence import FORGOTTEN_AFTER, Identity, Presence, SignsOfLife
from cyborg_reconciler.documents.rest.fleet import ServiceList
from cyborg_reconciler.errors import RequestInvalidError
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.agents import READY, UNREACHABLE, Agent, AgentDriver, CheckIn, Enrolment, Inventory
from cyborg_reconciler.stores.pages import PageQuery
from cyborg_reconciler.testing import FixedClock
from tests.integration.api_support import until

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
PCI, DUMMY = AgentDriver("pci", "GENERIC", READY), AgentDriver("dummy", "CRYPTO", UNREACHABLE)


class Place:
    """A journal's services and agents, and a clock that goes when it is told to."""

    def __init__(self, journal):
        self.clock = FixedClock(NOON)
        self.store, self.backends, self.agents = journal.fleet().services, journal.fleet().backends, journal.agents()
        self.presence = Presence(self.store, self.clock, AgentTerms())

    def signs(self, kind="api", name="http://127.0.0.1:6670", host="ctl-1", **more):
        me = Identity(type=kind, host=host, name=name, version="0.1.0")
        given = {"every_s": 10, "started_at": NOON, **more}
        return SignsOfLife(store=self.store, clock=self.clock, me=me, **given)

    def enrol(self, host):
        self.agents.mint(f"hash of {host}", Enrolment(host, NOON + timedelta(hours=1)), Event(NOON, "Minted", host))
        agent = Agent(host=host, uuid="", token_hash=f"token of {host}")
        assert self.agents.enrol(agent, f"hash of {host}", Inventory(host), Event(NOON, "Enrolled", host))

    def check_in(self, host, sequence=1, *, changed=True, drivers=(PCI,)):
        facts = {"epoch": 1, "boot_id": "b", "fingerprint": "f", "agent_version": "0.1.0", "drivers": list(drivers)}
        one = CheckIn(host=host, sequence=sequence, received_at=self.clock.now(), **facts)
        (self.agents.keep if changed else self.agents.touch)([one])

    def page(self, **wanted):
        page = self.presence.page(PageQuery(**wanted))
        documents = b",".join(one.encode() for one in page.documents)
        return ServiceList.model_validate_json(b'{"links": [], "services": [' + documents + b"]}").services

    def shown(self, **wanted):
        return {(one.host, one.type, one.name): one.status for one in self.page(**wanted)}


@pytest.fixture
def place(tmp_path, database):
    with open_journal(tmp_path / "state", database=database, busy_timeout_s=60) as journal:
        yield Place(journal)


def test_who_says_it_again_is_up_and_who_misses_it_three_times_is_down(place):
    signs = place.signs()
    signs.give()
    place.clock.move(30)
    assert set(place.shown().values()) == {"up"}
    place.clock.move(1)
    assert place.shown(equal={"status": "up"}) == {}
    (down,) = place.page(equal={"status": "down"})
    assert (down.last_seen_at, down.started_at) == (NOON, NOON)
    replace(signs, started_at=place.clock.now(), message=lambda: "at work").give()
    (again,) = place.page()
    assert (again.uuid, again.status, again.message) == (down.uuid, "up", "at work")
    assert again.started_at == NOON + timedelta(seconds=31)


def test_who_is_down_for_long_is_forgotten_when_another_starts(place):
    place.signs(host="gone").give()
    place.clock.move(FORGOTTEN_AFTER.total_seconds() + 31)
    with place.signs(host="new").given():
        until(lambda: "gone" not in {host for host, *_ in place.shown()})
    assert set(place.shown()) == {("new", "api", "http://127.0.0.1:6670")}


def test_an_agent_is_up_while_it_is_heard_and_may_speak(place):
    place.enrol("compute-1")
    assert place.shown() == {("compute-1", "agent", "agent"): "down"}
    place.agents.greet("compute-1", "compute-1:1337")
    assert place.shown() == {("compute-1", "agent", "agent"): "down"}, "who says hello has not checked in"
    place.check_in("compute-1", drivers=())
    (agent,) = place.page()
    assert (agent.status, agent.version, agent.last_seen_at) == ("up", "0.1.0", NOON)
    place.clock.move(181)
    assert place.shown() == {("compute-1", "agent", "agent"): "down"}
    place.check_in("compute-1", 2, changed=False)
    assert place.shown()["compute-1", "agent", "agent"] == "up"
    place.agents.revoke("compute-1", Event(NOON, "Revoked", "compute-1"))
    assert {(one.status, one.message) for one in place.page(equal={"type": "agent"})} == {
        ("down", "its token was revoked")
    }


def test_drivers_are_those_that_their_agent_told_last_and_up_where_both_work(place):
    place.enrol("compute-1")
    place.check_in("compute-1", drivers=(PCI, DUMMY))
    kept = {one.name: one for one in place.page(equal={"type": "driver"})}
    assert {name: one.status for name, one in kept.items()} == {"pci": "up", "dummy": "down"}
    assert kept["dummy"].message == UNREACHABLE
    backends = {one["driver"]: one for one in map(json.loads, place.backends.page(PageQuery()).documents)}
    assert {name: str(one.uuid) for name, one in kept.items()} == {name: one["uuid"] for name, one in backends.items()}
    place.check_in("compute-1", 2, drivers=())
    assert len(place.page(equal={"type": "driver"})) == 2, "an agent that does not say has them still"
    place.check_in("compute-1", 3, drivers=(replace(PCI, status="IN-PROGRESS"),))
    (pci,) = place.page(equal={"type": "driver"})
    assert (pci.uuid, pci.status) == (kept["pci"].uuid, "up")
    place.clock.move(181)
    assert set(place.shown().values()) == {"down"}


def test_names_that_a_database_cannot_tell_apart_are_one_driver(place):
    place.enrol("compute-1")
    twins = [AgentDriver(name, "CRYPTO", "READY") for name in ("a\x00", r"a\x00", "a\x00", "", "\u202e" * 255)]
    place.check_in("compute-1", drivers=twins)
    assert len(place.page(equal={"type": "driver"})) == 3


def test_all_of_them_are_one_list_in_one_order(place):
    for host in ("b", "a"):
        place.enrol(host)
        place.check_in(host)
        place.signs("worker", "/state", host).give()
    keys = [(host, *rest) for host in "ab" for rest in (("agent", "agent"), ("driver", "pci"), ("worker", "/state"))]
    for limit, descending in ((4, False), (4, True), (1, False), (2, True)):
        seen, marker = [], ""
        while page := place.page(limit=limit, marker=marker, descending=descending):
            seen += [(one.host, one.type, one.name) for one in page]
            marker = str(page[-1].uuid)
        assert seen == (keys[::-1] if descending else keys)
    with pytest.raises(RequestInvalidError):
        place.page(marker="11111111-2222-3333-4444-555555555555")
    assert set(place.shown(equal={"type": "worker", "host": "a"})) == {("a", "worker", "/state")}
