# SPDX-License-Identifier: Apache-2.0
"""Which hosts are asked, and which need not be since their agents told: over the fakes."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from cyborg_reconciler.adapters.stored.inventory import KnownHosts
from cyborg_reconciler.adapters.stored.observer import FreshestObserver, StoredObserver
from cyborg_reconciler.core.modules_wanted import modules_of
from cyborg_reconciler.core.state import Health, Host, Phase, Sync
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.driver import Match
from cyborg_reconciler.errors import InventoryUnreadableError
from cyborg_reconciler.ports import HostRecord, Observation, Unobserved
from cyborg_reconciler.reconcile import converge
from cyborg_reconciler.survey import Options
from cyborg_reconciler.testing import FakeJournal, FixedClock, FixedInventory, RecordedObserver, ignore_progress
from tests.scenarios.story import driver_of, facts_of, policy_of
from tests.unit.world import World, pool_of

LIMIT = timedelta(minutes=5)
A = Host("a")


class Fleet:
    """A journal that knows what agents told, and hosts that can be asked."""

    def __init__(self):
        self.clock, self.journal = FixedClock(), FakeJournal()
        self.asked = RecordedObserver({"a": facts_of({"hostname": "a"})}, clock=self.clock)
        self.observer = FreshestObserver(StoredObserver(self.journal, self.clock, LIMIT), self.asked, self.journal)

    def tell(self, name="a", **words):
        """Have an agent report, now."""
        facts = msgspec.structs.replace(facts_of({"hostname": name, **words}), fingerprint=f"{words}")
        seen = RecordedObserver({name: facts}, clock=self.clock).observe([Host(name)], (), ignore_progress)
        self.journal.record_observations(seen)
        self.journal.hear(name, facts.fingerprint, self.clock.now())

    def stands(self, **more):
        record = HostRecord("a", "", 1, Sync.SYNCED, Health.HEALTHY, more.pop("phase", Phase.IDLE), **more)
        self.journal.record_hosts([record])

    def observe(self, *hosts, modules=()):
        wanted = modules if isinstance(modules, dict) else dict.fromkeys(modules, ())
        return self.observer.observe(hosts or [A], wanted, ignore_progress)

    def was_asked(self, **more):
        before = len(self.asked.asked)
        self.observe(**more)
        return len(self.asked.asked) > before


@pytest.fixture
def fleet():
    fleet = Fleet()
    fleet.tell()
    fleet.stands()
    return fleet


def test_what_was_told_before_the_clock_was_set_back_does_not_serve_until_the_agent_is_heard_again(fleet):
    fleet.clock.move(-30)  # as clocks of two servers differ
    assert not fleet.was_asked()
    fleet.clock.move(-3600)
    assert fleet.was_asked()
    fleet.journal.hear("a", "{}", fleet.clock.now())
    assert not fleet.was_asked()
    assert fleet.observe()["a"].received_at == fleet.clock.now()


def test_what_an_agent_told_a_moment_ago_serves_without_asking(fleet):
    fleet.clock.move(60)
    said = fleet.observe()["a"]
    assert isinstance(said, Observation)
    assert said.received_at == fleet.clock.now() - timedelta(seconds=60)
    assert fleet.asked.asked == []


def test_an_agent_that_is_heard_stands_by_what_it_told_before(fleet):
    fleet.clock.move(LIMIT.total_seconds() + 1)
    assert fleet.was_asked()
    fleet.tell()
    fleet.clock.move(LIMIT.total_seconds())
    assert not fleet.was_asked()


def test_a_host_is_asked_after_it_was_changed_until_its_agent_is_heard(fleet):
    fleet.clock.move(10)
    fleet.stands(changed_at=fleet.clock.now())
    assert fleet.was_asked()
    fleet.clock.move(10)
    fleet.tell()
    assert not fleet.was_asked()


@pytest.mark.parametrize(
    "stands",
    [
        {"phase": Phase.VALIDATING},
        {"phase": Phase.APPLYING},
        {"phase": Phase.FAILED, "failed_in": Phase.APPLYING},
    ],
)
def test_a_host_that_is_being_changed_or_whose_change_did_not_end_well_is_asked(fleet, stands):
    fleet.stands(**stands)
    assert fleet.was_asked()


def test_a_host_is_asked_for_modules_that_its_agent_does_not_speak_of(fleet):
    fleet.tell(modules=[{"name": "vfio_pci"}])
    assert not fleet.was_asked(modules=["vfio-pci"])
    assert fleet.was_asked(modules=["vfio-pci", "nouveau"])


CRYPTO = {"virtio_crypto": [Match(vendor_id="1af4", product_id=("1054",))]}


@pytest.mark.parametrize(
    ("device", "asked"),
    [
        ({"vendor_id": "1af4", "product_id": "1000"}, False),
        ({"vendor_id": "1af4", "product_id": "1054"}, True),
        ({"vendor_id": "1af4", "product_id": {"unknown": "I/O error"}}, True),
    ],
)
def test_a_module_of_a_driver_is_asked_for_where_there_are_devices_for_it(fleet, device, asked):
    fleet.tell(devices=[device])
    assert fleet.was_asked(modules=CRYPTO) is asked


def test_modules_are_wanted_everywhere_that_a_policy_speaks_of_by_themselves_or_by_their_driver():
    qat = {"name": "qat", "device_type": "CRYPTO", "kernel_module": "qat_4xxx", "conflicts": ["vfio_pci"]}
    drivers = [
        driver_of({**qat, "match": [{"vendor_id": "8086"}], "roles": {"install": "a.b.c", "uninstall": "a.b.c"}})
    ]
    policies = [policy_of({"kernel_modules": {"blacklist": ["vfio_pci"]}}, 1)]
    rule = (Match(vendor_id="8086"),)
    assert modules_of(Declared(policies=policies, drivers=drivers)) == {"qat_4xxx": rule, "vfio_pci": ()}
    named = policy_of({"name": "qat", "driver": {"name": "qat"}}, 1)
    assert modules_of(Declared(policies=[named], drivers=drivers)) == {"qat_4xxx": (), "vfio_pci": ()}


def test_a_host_without_an_agent_is_asked_however_new_its_facts_are(fleet):
    del fleet.journal.memory.heard["a"]
    assert fleet.was_asked()


def test_a_host_that_cannot_be_asked_has_what_its_agent_told_or_nothing(fleet):
    fleet.tell("b")
    found = fleet.observe(A, Host("b", connection=False), Host("c", connection=False), modules=["nouveau"])
    assert fleet.asked.asked == [("a",)]
    assert isinstance(found["b"], Observation)
    assert found["c"] == Unobserved("Unreachable", "its agent has told nothing for 300 s")


def test_the_hosts_are_those_of_the_inventory_and_those_whose_agents_report(fleet):
    fleet.tell("zeta")
    fleet.tell("beta")
    fleet.journal.record_observations(fleet.asked.observe([A], (), ignore_progress))
    known = KnownHosts(FixedInventory([A]), fleet.journal, fleet.clock, LIMIT, is_optional=False)
    assert known.hosts() == (A, Host("beta", connection=False), Host("zeta", connection=False))
    fleet.clock.move(LIMIT.total_seconds() + 1)
    assert known.hosts() == (A,), "nobody knows whether those are there"


def test_there_need_not_be_an_inventory_where_agents_report_and_none_was_named(fleet):
    none = FixedInventory([])
    assert KnownHosts(none, fleet.journal, fleet.clock, LIMIT, is_optional=True).hosts() == (
        Host("a", connection=False),
    )
    with pytest.raises(InventoryUnreadableError):
        KnownHosts(none, fleet.journal, fleet.clock, LIMIT, is_optional=False).hosts()
    with pytest.raises(InventoryUnreadableError):
        KnownHosts(none, FakeJournal(), fleet.clock, LIMIT, is_optional=True).hosts()


def test_a_change_that_was_made_is_verified_on_the_host_itself() -> None:
    world = World("a", pools=[pool_of(approval="automatic")])
    journal, observer = world.journal, world.observer
    stored = StoredObserver(journal, observer.clock, LIMIT)
    world.ports = replace(world.ports, observer=FreshestObserver(stored, observer, journal))
    world.look()  # it is known from now on
    journal.hear("a", observer.facts["a"].fingerprint, observer.clock.now())
    observer.asked.clear()
    seen = world.look()
    assert observer.asked == [], "its agent told that it has no VFs"
    after = converge(world.ports, seen, Options(), ignore_progress)
    assert observer.asked == [("a",)]
    assert after.hosts["a"].verdict.verified
