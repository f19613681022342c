# SPDX-License-Identifier: Apache-2.0
"""Do those who write the same rows of PostgreSQL at once wait for one another only, and never each for the other?

In each test two want three rows of which somebody has the second: both have begun, and wait, when that one lets it go.
Had they begun at different ends, each would have what the other needs next.
"""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.core.state import Health
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.accelerators import Accelerator
from cyborg_reconciler.stores.agents import Agent, CheckIn, Enrolment, Inventory
from cyborg_reconciler.stores.fleet import Proposal
from tests.contract.test_journal import make_plan
from tests.integration.api_support import until

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
CHANGED = Event(NOON, "Changed")
FORWARD, BACKWARD = ("a", "m", "z"), ("z", "m", "a")


@pytest.fixture
def journal(tmp_path, postgresql):
    with open_journal(tmp_path / "state", database=postgresql, busy_timeout_s=60) as journal:
        yield journal


@pytest.fixture
def at_once(postgresql):
    """Runs those who write, one of which has begun when the next does, while somebody keeps what *statement* says."""

    def run(statement: str, *writers: Callable[[], object]) -> None:
        with ThreadPoolExecutor(len(writers)) as pool, psycopg.connect(postgresql) as other:
            other.execute(statement)
            running = []
            for writer in writers:
                running.append(pool.submit(writer))
                until(lambda: count_waiting(other) == len(running) or running[-1].done())
            other.rollback()
            for one in running:
                one.result(60)

    return run


def count_waiting(session):
    return session.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0]


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


def test_approvals_are_written_in_one_order_whatever_that_of_the_plan_is(journal, at_once, propose):
    one, other = propose(*FORWARD), propose(*BACKWARD)
    plans = journal.fleet().plans
    at_once(
        "INSERT INTO approvals (host, generation, digest, approved_at) VALUES ('m', 2, 'd', '2026-01-05T12:00:00Z')",
        lambda: plans.approve(one, NOON, CHANGED),
        lambda: plans.approve(other, NOON, CHANGED),
    )
    assert all(journal.approved(host, 2, "d") for host in FORWARD)
