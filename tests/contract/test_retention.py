# SPDX-License-Identifier: Apache-2.0
"""What is forgotten once it is old, and what never is, over both databases."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.adapters.database.engine import writing
from cyborg_reconciler.adapters.database.event_rows import put_events
from cyborg_reconciler.adapters.database.retention import AT_ONCE
from cyborg_reconciler.conductor.retention import Forgetting
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.agents import Enrolment
from cyborg_reconciler.stores.fleet import Proposal
from cyborg_reconciler.stores.pages import PageQuery
from cyborg_reconciler.testing import FixedClock
from tests.begun import uuid_of
from tests.contract.test_journal import make_plan
from tests.integration.databases import opened_anew

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture
def journal(tmp_path, database):
    with open_journal(tmp_path / "state", database=database) as journal:
        yield journal


@pytest.fixture
def forget(journal):
    """Forgets what is old so long after noon, by these numbers of days."""

    def forget(after, events=30, plans=30):
        Forgetting(journal.fleet().retention, FixedClock(NOON + after), events, plans).forget()

    return forget


def told(journal):
    """The audit trail: numbers and kinds, oldest first."""
    found = map(json.loads, journal.fleet().events.page(PageQuery(limit=1000)).documents)
    return [(one["number"], one["kind"]) for one in found]


def test_old_events_go_once_a_day_but_for_those_of_runs_that_go_on(journal, forget):
    runs = [uuid_of(journal.open_run(make_plan(str(uuid.uuid4()), "a"), NOON)) for _ in range(2)]
    for kind, run in (("Lone", ""), ("OfClosed", runs[0]), ("OfOpen", runs[1])):
        journal.record_event(Event(NOON, kind, run=run))
    journal.close_run(runs[0], "ok", NOON)
    before = told(journal)
    forget(timedelta(days=30, hours=11))
    assert told(journal) == before, "that day is not over yet"
    forget(timedelta(days=400), events=0)
    forget(timedelta(days=400), events=10**12)
    assert told(journal) == before
    forget(timedelta(days=31))
    left = told(journal)
    assert [kind for _, kind in left] == ["RunStarted", "OfOpen", "EventsForgotten"]
    assert left[-1][0] == before[-1][0] + 1, "no number is given twice"
    gone = {number for number, _ in before} - {number for number, _ in left}
    assert journal.fleet().events.forgotten() == max(gone)
    forget(timedelta(days=31, hours=1))
    assert told(journal) == left


def test_so_many_events_go_at_once_and_the_rest_later(tmp_path, database, journal, forget):
    with opened_anew(tmp_path / "state", database) as engine, writing(engine) as connection:
        put_events(connection, [Event(NOON, "Old") for _ in range(AT_ONCE + 2)])
    newest = journal.fleet().events.newest()
    for left in (2, 0):
        forget(timedelta(days=31))
        assert [kind for _, kind in told(journal)].count("Old") == left
        assert journal.fleet().events.forgotten() == newest - left


def test_enrolments_that_have_expired_go_used_or_not(journal, forget):
    agents = journal.agents()
    for name, valid_for in (("short", timedelta(hours=1)), ("long", timedelta(days=2))):
        agents.mint(name, Enrolment(name, NOON + valid_for), Event(NOON, "EnrolmentMinted", name))
    forget(timedelta(hours=2))
    assert (agents.enrolment("short"), agents.enrolment("long").host) == (None, "long")
    assert agents.is_known("short")


def test_plans_that_were_asked_for_go_and_what_runs_made_or_did_stays(journal, forget):
    store = journal.fleet().plans
    asked, done, own = (make_plan(str(uuid.uuid4()), "a") for _ in range(3))
    for plan in (asked, done):
        store.keep(Proposal(plan, "{}"), Event(NOON, "PlanCreated"))
    store.approve(Proposal(asked, "{}"), NOON, Event(NOON, "PlanApproved"))
    for plan in (done, own):
        journal.open_run(plan, NOON)
    forget(timedelta(days=31), plans=0)
    assert store.document(asked.uuid)
    forget(timedelta(days=31))
    assert [bool(store.document(one.uuid)) for one in (asked, done, own)] == [False, True, True]
    assert store.proposal(asked.uuid) is None
