# SPDX-License-Identifier: Apache-2.0
"""Do those who write the same rows of PostgreSQL at once wait for one another only, and never each for the other?

In most tests two want three rows of which somebody has the second: both have begun, and wait, when that one lets it go.
Had they begun at different ends, each would have what the other needs next. Events, for which all wait, are the last.
"""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest
from sqlalchemy.event import listen

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.adapters.database.agent_store import DatabaseAgents
from cyborg_reconciler.core.state import Health
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.accelerators import Accelerator
from cyborg_reconciler.stores.agents import Agent, CheckIn, Enrolment, Inventory
from cyborg_reconciler.stores.fleet import Proposal
from cyborg_reconciler.stores.work import HostDriver
from tests.contract.test_journal import make_plan
from tests.integration.api_support import until
from tests.integration.databases import opened_anew
from tests.scenarios.story import facts_of

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
CHANGED = Event(NOON, "Changed")
FORWARD, BACKWARD = ("a", "m", "z"), ("z", "m", "a")


@pytest.fixture
def journal(tmp_path, postgresql):
    with open_journal(tmp_path / "state", database=postgresql, busy_timeout_s=60) as journal:
        yield journal


@pytest.fixture
def keeping(postgresql):
    """Keeps what a *statement* locks; gives what begins something meanwhile, and returns once that waits or is done."""

    @contextmanager
    def keep(statement: str) -> Iterator[Callable[[Callable[[], object]], Future]]:
        begun = []

        def begin(work):
            begun.append(pool.submit(work))
            until(lambda: count_waiting(other) == sum(not one.done() for one in begun))
            return begun[-1]

        with ThreadPoolExecutor(2) as pool, psycopg.connect(postgresql) as other:
            other.execute(statement)
            yield begin
            other.rollback()

    return keep


def count_waiting(session):
    return session.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0]


@pytest.fixture
def at_once(keeping):
    """Runs those who write, one of whom has begun when the next does, while somebody keeps what *statement* locks."""

    def run(statement: str, *writers: Callable[[], object]) -> None:
        with keeping(statement) as begin:
            begun = [begin(write) for write in writers]
        for one in begun:
            one.result(60)

    return run


@pytest.fixture
def propose(journal):
    """Makes a plan for hosts, in their order."""

    def make(*hosts):
        proposal = Proposal(make_plan(str(uuid.uuid4()), *hosts), "{}")
        journal.fleet().plans.keep(proposal, CHANGED)
        return proposal

    return make


def test_hosts_leave_the_queue_in_the_order_in_which_they_come_to_it(journal, at_once, propose):
    work, proposal = journal.work(), propose(*FORWARD)
    for minutes, host in enumerate(BACKWARD):
        journal.retry(host, NOON + timedelta(minutes=minutes))
    items = work.take(9, LATER)
    assert [item.host for item in items] == list(BACKWARD)
    at_once(
        "SELECT host FROM queue WHERE host = 'm' FOR UPDATE",
        lambda: work.done(items),
        lambda: journal.fleet().plans.approve(proposal, LATER, replace(CHANGED, at=LATER)),
    )
    assert {item.host for item in work.take(9, LATER)} == set(FORWARD)


def test_what_agents_say_of_devices_is_written_in_the_order_in_which_passes_write(journal, at_once):
    store, accelerators = journal.agents(), journal.accelerators()
    cards, check_ins = [], []
    for number, host in enumerate(BACKWARD):  # the first uuid is that of the last host
        store.mint(host, Enrolment(host, LATER), CHANGED)
        assert store.enrol(Agent(host=host, uuid="", token_hash=host), host, Inventory(host), CHANGED)
        card = Accelerator(uuid=str(uuid.UUID(int=number)), name=host, host=host, created_at=NOON, updated_at=NOON)
        cards.append(replace(card, address="0000:3b:00.0"))
        accelerators.add(cards[-1], CHANGED)
        terms = {"boot_id": "b", "fingerprint": "", "agent_version": "1", "received_at": NOON}
        check_ins.append(CheckIn(host=host, epoch=1, sequence=1, health={"0000:3b:00.0": "Degraded"}, **terms))
    at_once(
        "SELECT uuid FROM accelerators WHERE host = 'm' FOR UPDATE",
        lambda: store.keep(check_ins),
        lambda: accelerators.record([(replace(card, health=Health.HEALTHY), ()) for card in cards]),
    )
    told = [accelerators.accelerator(card.uuid).told_health for card in cards]
    assert told == [Health.DEGRADED] * len(cards)


def test_hosts_come_to_the_queue_in_one_order_whatever_their_agents_say(journal, at_once, propose):
    store, proposal = journal.agents(), propose(*FORWARD)
    card = Accelerator(uuid=str(uuid.uuid4()), name="a", host="a", created_at=NOON, updated_at=NOON)
    journal.accelerators().add(replace(card, address="0000:3b:00.0"), CHANGED)
    terms = {"epoch": 1, "sequence": 1, "boot_id": "b", "fingerprint": "f", "agent_version": "1", "received_at": NOON}
    facts = facts_of({"hostname": "m"})
    check_ins = [
        CheckIn(host="m", facts=facts, document=msgspec.json.encode(facts), **terms),
        CheckIn(host="a", health={"0000:3b:00.0": "Degraded"}, **terms),
    ]
    for one in check_ins:
        store.mint(one.host, Enrolment(one.host, LATER), CHANGED)
        agent = Agent(host=one.host, uuid="", token_hash=one.host)
        assert store.enrol(agent, one.host, Inventory(one.host), CHANGED)
    journal.retry("m", NOON)
    at_once(
        "SELECT host FROM queue WHERE host = 'm' FOR UPDATE",
        lambda: store.keep(check_ins),
        lambda: journal.fleet().plans.approve(proposal, LATER, replace(CHANGED, at=LATER)),
    )
    assert {item.host for item in journal.work().take(9, LATER)} == set(FORWARD)


def test_approvals_are_written_in_one_order_whatever_that_of_the_plan_is(journal, at_once, propose):
    one, other = propose(*FORWARD), propose(*BACKWARD)
    plans = journal.fleet().plans
    at_once(
        "INSERT INTO approvals (host, generation, digest, approved_at) VALUES ('m', 2, 'd', '2026-01-05T12:00:00Z')",
        lambda: plans.approve(one, NOON, CHANGED),
        lambda: plans.approve(other, NOON, CHANGED),
    )
    assert all(journal.approved(host, 2, "d") for host in FORWARD)


def test_nobody_who_tells_of_something_waits_for_a_run_that_is_to_be_withdrawn(journal, keeping):
    wish = HostDriver(host="a", driver="dummy", state="present", declared_by="ann", declared_at=NOON)
    run = journal.work().declare(wish, CHANGED).run
    with keeping("SELECT host FROM host_drivers FOR UPDATE") as begin:
        cancelled = begin(lambda: journal.fleet().runs.cancel(run, "ann", CHANGED))
        told = begin(lambda: journal.record_event(CHANGED))
        assert (cancelled.done(), told.done()) == (False, True)
    assert cancelled.result(60)


def test_all_who_fall_silent_are_told_of_at_once(journal, tmp_path, postgresql):
    for host in FORWARD:
        journal.agents().mint(host, Enrolment(host, LATER), CHANGED)
        agent = Agent(host=host, uuid="", last_seen_at=NOON)
        assert journal.agents().enrol(agent, host, Inventory(host), CHANGED)
    said = []
    with opened_anew(tmp_path / "state", postgresql) as engine:
        listen(engine, "before_cursor_execute", lambda *told: said.append(told[2]))
        assert DatabaseAgents(engine).fall_silent(LATER, LATER) == list(FORWARD)
    assert sum("pg_advisory_xact_lock" in statement for statement in said) == 1
    assert [event.host for event in journal.events(limit=3)] == list(BACKWARD), "the newest first"
