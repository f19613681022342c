# SPDX-License-Identifier: Apache-2.0
"""The audit trail of what was refused: the first attempt at once, those that follow together, and never too many."""

import threading

from cyborg_reconciler.conductor.later import Later
from cyborg_reconciler.conductor.refusals import TOLD_APART, Refusal, Refusals
from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.ports import Event
from cyborg_reconciler.testing import FakeJournal, FixedClock


def attempt(peer="192.0.2.7", by="", number=0):
    return Refusal(by, peer, f"req-{number}", "GET", "/v1/accelerators", 401, "Unauthenticated")


def oldest_first(journal):
    return list(journal.events(limit=100_000))[::-1]


def test_the_first_is_told_at_once_and_the_others_together():
    journal, clock = FakeJournal(), FixedClock()
    refusals = Refusals(journal, clock, together_s=3600)
    for number in range(5):
        refusals.note(attempt(number=number))
    (first,) = oldest_first(journal)
    assert first.data == {
        "by": None,
        "peer": "192.0.2.7",
        "request_id": "req-0",
        "method": "GET",
        "path": "/v1/accelerators",
        "status": 401,
        "reason": "Unauthenticated",
        "count": 1,
    }
    refusals.close()
    _, others = oldest_first(journal)
    assert (others.data["count"], others.data["request_id"]) == (4, "req-4")
    assert others.message == "somebody unknown from 192.0.2.7: GET /v1/accelerators, and 4 more"


def test_callers_and_addresses_are_told_apart_and_one_that_tries_once_is_told_once():
    journal = FakeJournal()
    refusals = Refusals(journal, FixedClock(), together_s=3600)
    for by, peer in (("", "192.0.2.7"), ("ci", "192.0.2.7"), ("ci", "192.0.2.8")):
        refusals.note(attempt(peer, by))
    refusals.close()
    assert [(event.data["by"], event.data["peer"]) for event in oldest_first(journal)] == [
        (None, "192.0.2.7"),
        ("ci", "192.0.2.7"),
        ("ci", "192.0.2.8"),
    ]


def test_after_a_flush_the_next_is_a_first_one_again():
    journal = FakeJournal()
    refusals = Refusals(journal, FixedClock(), together_s=3600)
    for _ in range(2):
        refusals.note(attempt())
        refusals.flush()
    refusals.close()
    assert [event.data["count"] for event in journal.events()] == [1, 1]


def test_a_flood_from_everywhere_is_a_bounded_number_of_entries_that_lose_no_attempt():
    journal = FakeJournal()
    refusals = Refusals(journal, FixedClock(), together_s=3600)
    together = threading.Barrier(8)

    def flood(which):
        together.wait()
        for number in range(1000):
            refusals.note(attempt(f"2001:db8::{which:x}:{number % 500:x}"))

    threads = [threading.Thread(target=flood, args=(which,)) for which in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refusals.close()
    events = oldest_first(journal)
    assert len(events) <= 2 * (TOLD_APART + 1)
    assert sum(event.data["count"] for event in events) == 8000
    assert " of others, the last: somebody unknown from " in events[-1].message


def test_other_entries_that_can_be_caused_at_will_are_told_the_same_way():
    journal, clock = FakeJournal(), FixedClock()
    refusals = Refusals(journal, clock, together_s=3600)
    for message in ("its agent spoke for b", "its agent spoke for b", "its agent spoke for c"):
        refusals.tell(Event(clock.now(), "AgentRefused", "a", message))
    refusals.close()
    assert [(event.kind, event.host, event.message) for event in oldest_first(journal)] == [
        ("AgentRefused", "a", "its agent spoke for b"),
        ("AgentRefused", "a", "its agent spoke for c"),
        ("AgentRefused", "a", "its agent spoke for b, and 1 more"),
    ]


class Broken:
    def record_event(self, _event):
        raise JournalError(wanted="the journal", found="it is gone")


def test_a_database_that_is_gone_refuses_nobody_less(caplog):
    refusals = Refusals(Broken(), FixedClock(), together_s=3600)
    refusals.note(attempt())
    assert "192.0.2.7" in caplog.text
    assert "it is gone" in caplog.text


def test_what_is_to_be_done_later_is_done_once_by_itself():
    done, times = threading.Event(), []

    def write():
        times.append(1)
        done.set()

    later = Later(write, 0.01)
    later.ask()
    assert done.wait(60)
    later.close()
    assert times == [1]


def test_what_is_to_be_done_later_is_done_at_once_when_all_ends():
    times = []
    later = Later(lambda: times.append(1), 3600)
    later.close()
    assert times == []
    later.ask()
    later.ask()
    later.close()
    later.close()
    assert times == [1]
