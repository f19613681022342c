# SPDX-License-Identifier: Apache-2.0
"""What the stores of the API's other resources promise, over both databases."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy.event import listens_for

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.adapters.database.engine import writing
from cyborg_reconciler.adapters.database.event_rows import in_order
from cyborg_reconciler.adapters.database.run_store import DatabasePlans
from cyborg_reconciler.adapters.database.schema import allocations
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.errors import ConflictError, OvertakenError
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.accelerators import Accelerator
from cyborg_reconciler.stores.agents import Agent, AgentDriver, CheckIn, Enrolment, Inventory, digest_of
from cyborg_reconciler.stores.fleet import Proposal
from cyborg_reconciler.stores.pages import PageQuery
from tests.begun import uuid_of
from tests.contract.test_check_ins import waiting
from tests.contract.test_journal import make_facts, make_plan, observe, raised
from tests.integration.api_support import until
from tests.integration.databases import opened_anew
from tests.scenarios.story import driver_of, policy_of

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
CHANGED = Event(NOON, "Changed")


@pytest.fixture
def journal(tmp_path, database):
    with open_journal(tmp_path / "state", database=database, busy_timeout_s=60) as journal:
        yield journal


@pytest.fixture
def fleet(journal):
    return journal.fleet()


def at_once(count, work):
    """What *work* comes to in many threads that begin together: its result, or the class of its error."""
    together = threading.Barrier(count)

    def one(number):
        together.wait()
        try:
            return work(number)
        except ConflictError as exc:
            return type(exc)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


class TestPolicies:
    def test_no_version_ever_comes_again(self, fleet):
        first = fleet.policies.add("mine", "{}", CHANGED)
        second = fleet.policies.replace(first, '{"a": 1}', replace(CHANGED, at=LATER))
        assert (second.text, second.created_at, second.updated_at) == ('{"a": 1}', NOON, LATER)
        fleet.policies.remove(second, CHANGED)
        third = fleet.policies.add("mine", "{}", CHANGED)
        assert first.version < second.version < third.version
        assert fleet.policies.policy("mine") == third
        for gone in (first, second):
            with pytest.raises(OvertakenError):
                fleet.policies.replace(gone, "{}", CHANGED)
            with pytest.raises(OvertakenError):
                fleet.policies.remove(gone, CHANGED)

    def test_of_many_who_write_at_once_one_wins(self, fleet):
        added = at_once(8, lambda _: fleet.policies.add("mine", "{}", CHANGED).name)
        assert sorted(added, key=str) == [ConflictError] * 7 + ["mine"]
        seen = fleet.policies.policy("mine")
        replaced = at_once(8, lambda number: fleet.policies.replace(seen, str(number), CHANGED).text)
        assert replaced.count(OvertakenError) == 7
        assert fleet.policies.policy("mine").text in replaced

    def test_those_of_both_are_one_list_in_one_order(self, journal, fleet):
        names = ["b-b", "b.a", "ba", "b1"]
        tree = tuple(policy_of({"name": name, "kernel_args": {"iommu": "pt"}}, 1) for name in (*names, "twin"))
        journal.record_declarations(Declared(tree, digest="d1"), NOON)
        for name in ("a", "b.b", "twin", "z"):
            fleet.policies.add(name, "{}", CHANGED)
        seen, page = [], fleet.policies.page(PageQuery(limit=2))
        while page.documents:
            seen.append(page.last)
            page = fleet.policies.page(PageQuery(limit=1, marker=page.last))
        whole = fleet.policies.page(PageQuery())
        assert len(whole.documents) == 8
        assert not whole.more
        assert '"also_in":"twin.yml"' in fleet.policies.document("twin")[0]
        assert set(seen) <= {"a", "b.b", "twin", "z", *names}
        assert len(seen) == len(set(seen)) == 7, "the first page had two"

    def test_what_the_tree_declares_now_is_known_also_when_it_was_declared_before(self, journal, fleet):
        edu = driver_of({"name": "edu", "device_type": "CRYPTO", "match": [{"vendor_id": "1234"}]})
        declared = [Declared((policy_of({"name": name}, 1),), (edu,), digest=name) for name in ("a", "b", "a")]
        for one in declared:
            journal.record_declarations(one, NOON)
            (policy,) = (found for found in fleet.declared.documents() if found.document.kind == "AcceleratorPolicy")
            assert policy == one.policies[0]
            assert fleet.declared.drivers() == [edu]
        stamp = fleet.declared.stamp()
        journal.record_declarations(declared[0], LATER)
        assert fleet.declared.stamp() == stamp
        journal.record_declarations(replace(declared[0], prunes=False), LATER)
        assert (fleet.declared.stamp() != stamp, fleet.declared.prunes()) == (True, False)

    def test_many_may_record_what_is_declared(self, journal, fleet):
        declared = [Declared((policy_of({"name": f"p{number}"}, 1),), digest=str(number)) for number in range(4)]
        at_once(4, lambda number: [journal.record_declarations(declared[number], NOON) for _ in range(5)])
        assert len(fleet.declared.documents()) == 1


class TestEvents:
    def test_who_has_read_up_to_a_number_has_missed_none(self, journal, fleet):
        stop = threading.Event()
        seen: list[str] = []

        def follow():
            last = "0"
            while not (stop.is_set() and last == str(fleet.events.newest())):
                page = fleet.events.page(PageQuery(limit=1000, marker=last))
                last = page.last or last
                seen.extend(page.documents)

        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(follow)
            at_once(6, lambda number: [journal.record_event(Event(NOON, f"by{number}")) for _ in range(20)])
            stop.set()
            following.result(timeout=120)
        assert len(seen) == 120

    def test_pages_are_found_by_number_and_by_what_the_events_are_of(self, journal, fleet):
        for number in range(5):
            event = Event(NOON + timedelta(minutes=number), "Odd" if number % 2 else "Even", "h", run=str(uuid.uuid4()))
            journal.record_event(event)
        newest = fleet.events.page(PageQuery(descending=True, limit=2))
        rest = fleet.events.page(PageQuery(descending=True, marker=newest.last))
        assert (len(newest.documents), newest.more, len(rest.documents), rest.more) == (2, True, 3, False)
        assert len(fleet.events.page(PageQuery({"kind": "Odd"})).documents) == 2
        assert len(fleet.events.page(PageQuery({"kind": "Even"}, since=NOON + timedelta(minutes=1))).documents) == 2


class TestPlans:
    def test_what_is_foreseen_is_what_is_remembered_once_it_is_so(self, journal, fleet):
        raised(journal, "a", "d1")
        journal.record_reboot("a", "b1", NOON)
        journal.record_verdicts({"a": False})
        raised(journal, "b", "d1")
        for digests in ({"a": "d1", "b": "d1"}, {"a": "d2", "b": "d1"}, {"a": "d1", "b": "d2", "new": "d1"}):
            foreseen = fleet.plans.foreseen(digests)
            assert foreseen == fleet.plans.foreseen(digests), "nothing is written"
            assert foreseen == journal.histories(digests)

    def test_hosts_are_those_that_the_inventory_ever_had_with_their_last_groups(self, journal, fleet):
        journal.record_inventory([Host(name, frozenset({"g"}), {"rack": "1"}) for name in ("c", "a", "b")])
        journal.record_inventory([Host("b", frozenset({"h"}))])
        assert [host.name for host in fleet.plans.inventory("a", 5)] == ["b", "c"]
        assert [host.name for host in fleet.plans.inventory("", 1)] == ["a"]
        assert fleet.plans.hosts(["b", "none"]) == {"b": Host("b", frozenset({"h"}))}

    def test_an_approval_is_for_every_host_of_the_plan_or_for_none(self, journal, fleet):
        plan = make_plan(str(uuid.uuid4()), "a", "b")
        fleet.plans.keep(Proposal(plan, '{"n":1}', allow_reboot=True), CHANGED)
        assert fleet.plans.proposal(plan.uuid) == Proposal(plan, '{"n":1}', allow_reboot=True)
        assert not fleet.plans.approved("a", 2, "d")
        fleet.plans.approve(Proposal(plan, '{"n":2}'), NOON, CHANGED)
        assert fleet.plans.document(plan.uuid) == '{"n":2}'
        assert all(journal.approved(host, 2, "d") for host in ("a", "b"))
        assert [(item.host, item.reason) for item in journal.work().take(9, NOON)] == [
            ("a", "Approved"),
            ("b", "Approved"),
        ]
        run = uuid_of(journal.open_run(make_plan(str(uuid.uuid4()), "a"), NOON))
        assert fleet.plans.proposal(journal.runs()[0].plan_uuid) is None
        assert fleet.runs.document(run)

    @pytest.mark.parametrize("database", ["postgresql"], indirect=True)
    def test_of_two_who_approve_the_same_in_another_order_none_waits_in_vain(self, tmp_path, database, fleet):
        plans = [Proposal(make_plan(str(uuid.uuid4()), *hosts), "{}") for hosts in (("a", "b"), ("b", "a"))]
        for proposal in plans:
            fleet.plans.keep(proposal, CHANGED)
        with opened_anew(tmp_path, database) as engine:
            entered = set()

            @listens_for(engine, "after_cursor_execute")
            def _meet(_connection, _cursor, statement, *_more):
                if statement.startswith("INSERT INTO approvals"):
                    entered.add(threading.get_ident())
                    until(lambda: len(entered) == 2 or waiting(engine))

            store = DatabasePlans(engine)
            assert at_once(2, lambda number: store.approve(plans[number], NOON, CHANGED)) == [None, None]
        assert all(fleet.plans.approved(host, 2, "d") for host in ("a", "b"))


class TestRuns:
    def test_a_run_can_be_asked_to_end_until_it_has(self, journal, fleet):
        run = uuid_of(journal.open_run(make_plan(str(uuid.uuid4()), "a"), NOON))
        assert at_once(4, lambda _: fleet.runs.cancel(run, "me", Event(NOON, "Asked"))) == [True] * 4
        assert journal.cancel_requested(run)
        journal.close_run(run, "applied", LATER)
        assert not fleet.runs.cancel(run, "me", CHANGED)
        assert not fleet.runs.cancel(str(uuid.uuid4()), "me", CHANGED)
        assert [event.kind for event in journal.events()].count("Asked") == 1


@pytest.fixture
def cards(journal):
    """The uuids of three accelerators, each of two units."""
    cards = [str(uuid.uuid4()) for _ in range(3)]
    for card in cards:
        journal.accelerators().add(Accelerator(uuid=card, name=card, created_at=NOON, updated_at=NOON, num=2), CHANGED)
    return cards


class TestAllocations:
    def test_what_has_gone_since_it_was_looked_up_is_allocated_to_nobody(self, journal, fleet, cards):
        gone = str(uuid.uuid4())
        with pytest.raises(OvertakenError, match=f"{gone}.*not there any more"):
            fleet.allocations.put("c", {cards[0]: 1, gone: 1}, None, CHANGED)
        assert fleet.allocations.of("c") is None
        assert journal.accelerators().accelerator(cards[0]).version == 1

    def test_every_write_gives_its_accelerators_another_version(self, journal, fleet, cards):
        store = journal.accelerators()

        def versions():
            return [store.accelerator(card).version for card in cards]

        told = [versions()]
        first = fleet.allocations.put("c", {cards[0]: 1, cards[1]: 2}, None, CHANGED)
        told.append(versions())
        fleet.allocations.put("c", {cards[2]: 1}, first, CHANGED)
        told.append(versions())
        rose = [[new > old for old, new in zip(before, after, strict=True)] for before, after in pairwise(told)]
        assert rose == [[True, True, False], [True, True, True]]

    def test_who_was_overtaken_leaves_no_trace(self, journal, fleet, cards):
        first = fleet.allocations.put("c", {cards[0]: 1}, None, CHANGED)
        fleet.allocations.put("c", {cards[0]: 2}, first, CHANGED)
        before = journal.accelerators().accelerator(cards[1]).version, journal.events()
        for seen in (first, None):
            with pytest.raises(OvertakenError):
                fleet.allocations.put("c", {cards[1]: 1}, seen, CHANGED)
        with pytest.raises(ConflictError):
            fleet.allocations.put("other", {cards[0]: 1}, None, CHANGED)
        assert (journal.accelerators().accelerator(cards[1]).version, journal.events()) == before
        assert fleet.allocations.of("c").amounts == {cards[0]: 2}

    def test_no_more_is_given_than_there_is_whoever_asks_at_once(self, fleet, cards):
        given = at_once(6, lambda number: fleet.allocations.put(str(number), {cards[0]: 1}, None, CHANGED).consumer)
        assert given.count(ConflictError) == 4

    def test_of_many_who_set_what_one_consumer_has_one_wins(self, fleet, cards):
        given = at_once(6, lambda number: fleet.allocations.put("c", {cards[number % 3]: 1}, None, CHANGED).amounts)
        won = [one for one in given if one is not OvertakenError]
        assert len(won) == 1
        assert fleet.allocations.of("c").amounts == won[0]

    @pytest.mark.parametrize("database", ["postgresql"], indirect=True)
    def test_who_was_overtaken_waits_for_no_third_who_sets_it_anew(self, tmp_path, database, fleet, cards):
        """The third would wait for his turn in the audit trail, which whoever was overtaken has by then."""
        with opened_anew(tmp_path, database) as engine, ThreadPoolExecutor(1) as pool:
            with writing(engine) as turn:
                in_order(turn)
                overtaken = pool.submit(fleet.allocations.put, "c", {cards[1]: 1}, None, CHANGED)
                until(lambda: waiting(engine) == 1)
                with writing(engine) as first:
                    row = {"consumer": "c", "accelerator": cards[0], "amount": 1, "created_at": NOON, "version": 1}
                    first.execute(allocations.insert(), [row])
                third = engine.connect()
                third.execute(allocations.delete().where(allocations.c.accelerator == cards[0]))
            with third, pytest.raises(OvertakenError):
                overtaken.result(30)

    def test_of_an_allocation_and_a_detaching_at_once_one_comes_first(self, journal, fleet, cards):
        store = journal.accelerators()
        seen = store.accelerator(cards[0])
        assert not store.allocated(cards[0])
        fleet.allocations.put("c", {cards[0]: 1}, None, CHANGED)
        with pytest.raises(OvertakenError):
            store.update(seen, seen.version, CHANGED)


def test_hosts_are_pages_by_name(journal, fleet):
    names = ["b-1", "b.1", "B", "a", "ä"]
    journal.record_observations(observe(*(make_facts(name) for name in names)))
    seen, marker = [], ""
    while True:
        page = fleet.hosts.page(PageQuery(limit=2, marker=marker))
        seen += page.documents
        marker = page.last
        if not page.more:
            break
    assert len(seen) == len(set(seen)) == len(names)
    assert '"sync":"Unknown"' in fleet.hosts.document("ä")
    assert fleet.hosts.document("none") is None


class TestBackends:
    def test_they_say_what_the_agents_drivers_told_last(self, journal, fleet):
        store, host = journal.agents(), "told-1"
        asked = Event(NOON, "AgentEnrolled", host)
        store.mint(host, Enrolment(host, LATER), asked)
        store.enrol(Agent(host=host, uuid="", token_hash=host), host, Inventory(), asked)

        def tell(sequence, *drivers):
            said = {"boot_id": "b", "fingerprint": "f", "agent_version": "1", "received_at": LATER}
            store.keep([CheckIn(host=host, epoch=1, sequence=sequence, drivers=drivers, **said)])
            page = fleet.backends.page(PageQuery({"host": host}))
            assert [fleet.backends.document(json.loads(one)["uuid"]) for one in page.documents] == page.documents
            return {one["driver"]: one for one in map(json.loads, page.documents)}

        busy = AgentDriver("pci", "GENERIC", "IN-PROGRESS", "compute-7:1337")
        other = AgentDriver("vendor-x", "NVME", "READY")
        found = tell(1, busy, other)
        told = ("type", "status", "endpoint_known", "health", "accelerators")
        assert [found["pci"][name] for name in told] == ["GENERIC", "IN-PROGRESS", True, "Progressing", 0]
        assert [found["vendor-x"][name] for name in told] == ["NVME", "READY", False, "Healthy", 0]
        assert found["pci"]["told_at"] is not None
        assert store.agent(host).drivers == digest_of([other, busy])
        assert tell(2) == found, "who says nothing of them has them still"
        (kept,) = tell(3, replace(busy, status="READY")).values()
        assert (kept["driver"], kept["status"], kept["health"]) == ("pci", "READY", "Healthy")
        silent = store.agent(host)
        for token, health in (("", "Unknown"), (silent.token_hash, "Healthy")):
            assert store.set_token(store.agent(host), token, "", CHANGED)
            (spoken_for,) = map(json.loads, fleet.backends.page(PageQuery({"host": host})).documents)
            assert (spoken_for["health"], store.agent(host).may_speak) == (health, bool(token))
        store.fall_silent(LATER + timedelta(hours=1), LATER)
        (silent,) = map(json.loads, fleet.backends.page(PageQuery({"host": host})).documents)
        assert (silent["status"], silent["health"]) == ("READY", "Unknown")
