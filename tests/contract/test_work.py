# SPDX-License-Identifier: Apache-2.0
"""What queue, leases and drivers on hosts promise: one suite over both databases and over the fakes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.documents.base import Metadata
from cyborg_reconciler.documents.declared import Declared, Located
from cyborg_reconciler.documents.driver import Driver, DriverDocSpec
from cyborg_reconciler.documents.plan import HostPlan, Outcome, PlanDocument, RoleSegment
from cyborg_reconciler.meters import LAST_PASS, LEASE_HELD, PASS_SECONDS, PASSES, QUEUE_AGE
from cyborg_reconciler.ports import BegunRun, Event, Journal
from cyborg_reconciler.stores.work import (
    HostDriver,
    HostDriverStore,
    Lease,
    Leases,
    Pass,
    Queue,
    QueueItem,
    RunNews,
    with_before,
)
from cyborg_reconciler.tracing import of_request
from tests.begun import uuid_of
from tests.contract.test_journal import LATER, NOON, make_plan
from tests.queueing import enqueue


class Work(Queue, Leases, HostDriverStore):
    """All that one object is."""


@pytest.fixture
def open_both(opener) -> Callable[[], tuple[Journal, Work]]:
    """Opens the same journal anew, as the next process does, with its work."""

    def open_it() -> tuple[Journal, Work]:
        journal = opener()
        return journal, journal.work()

    return open_it


@pytest.fixture
def journal_and_work(open_both) -> tuple[Journal, Work]:
    return open_both()


@pytest.fixture
def work(journal_and_work: tuple[Journal, Work]) -> Work:
    return journal_and_work[1]


def hosts_of(items: list[QueueItem]) -> list[str]:
    return [item.host for item in items]


# ---------------------------------------------------------------------------------------------------------------- queue
def test_hosts_are_taken_in_the_order_in_which_they_began_to_wait_and_stay_until_they_are_done(open_both) -> None:
    _, work = open_both()
    enqueue(work, ["b", "a"], "CheckedIn", NOON)
    enqueue(work, ["c", "b"], "CheckedIn", LATER)
    assert hosts_of(work.take(2, LATER)) == ["a", "b"]
    _, work = open_both()
    items = work.take(10, LATER)
    assert hosts_of(items) == ["a", "b", "c"]
    work.done(items[:2])
    assert hosts_of(work.take(10, LATER)) == ["c"]


def test_a_host_that_was_enqueued_again_since_it_was_taken_stays(work: Work) -> None:
    enqueue(work, ["a", "b"], "CheckedIn", NOON)
    items = work.take(10, NOON)
    enqueue(work, ["a"], "AcceleratorAttached", NOON)
    work.done(items)
    (again,) = work.take(10, NOON)
    assert (again.host, again.reason) == ("a", "AcceleratorAttached")
    assert again.ticket > items[0].ticket
    work.later(items[0], LATER, "Unreachable")
    assert work.take(10, NOON) == [again], "what was put off is due at once when something happened since"


def test_a_host_that_is_put_off_is_due_when_its_time_has_come_or_it_is_enqueued(work: Work) -> None:
    enqueue(work, ["a"], "CheckedIn", NOON)
    (item,) = work.take(10, NOON)
    work.later(item, LATER, "Unreachable")
    assert work.take(10, NOON) == []
    (item,) = work.take(10, LATER)
    assert (item.attempts, item.reason) == (1, "Unreachable")
    work.later(item, LATER + timedelta(hours=1), "Unreachable")
    enqueue(work, ["a"], "CheckedIn", LATER)
    (item,) = work.take(10, LATER)
    assert item.attempts == 2, "whoever comes next still knows how often it was in vain"


def test_a_ticket_of_a_host_that_was_removed_does_not_come_again(work: Work) -> None:
    enqueue(work, ["a"], "CheckedIn", NOON)
    old = work.take(10, NOON)
    work.done(old)
    enqueue(work, ["a"], "CheckedIn", LATER)
    work.done(old)
    assert hosts_of(work.take(10, LATER)) == ["a"]


def test_who_approves_or_asks_for_a_retry_has_the_host_looked_at(journal_and_work: tuple[Journal, Work]) -> None:
    journal, work = journal_and_work
    journal.histories({"a": "d", "b": "d"})
    journal.approve("a", 1, "d", NOON)
    journal.retry("b", LATER)
    assert [(item.host, item.reason) for item in work.take(9, LATER)] == [("a", "Approved"), ("b", "Retried")]


# --------------------------------------------------------------------------------------------------------------- leases
def wanted(holder: str, until: datetime = LATER) -> Lease:
    return Lease("worker", holder, 0, until)


def test_a_lease_is_taken_by_one_and_its_token_rises_each_time(open_both) -> None:
    _, work = open_both()
    assert work.lease("worker") is None
    first = work.take_lease(wanted("one"), None)
    assert first == work.lease("worker")
    assert work.take_lease(wanted("two"), None) is None
    _, work = open_both()
    second = work.take_lease(wanted("two"), first)
    assert second is not None
    assert first is not None
    assert second.token > first.token
    assert work.take_lease(wanted("three"), first) is None, "it is not as it was seen any more"


def test_a_lease_that_was_renewed_since_is_not_taken_and_one_that_was_taken_is_not_renewed(work: Work) -> None:
    ours = work.take_lease(wanted("one"), None)
    assert ours is not None
    renewed = replace(ours, expires_at=LATER + timedelta(seconds=5))
    assert work.renew(renewed)
    assert work.take_lease(wanted("two"), ours) is None
    theirs = work.take_lease(wanted("two"), renewed)
    assert theirs is not None
    assert not work.renew(renewed)
    work.give_back(renewed)
    assert work.lease("worker") == theirs, "nobody gives back what another has"
    work.give_back(theirs)
    left = work.lease("worker")
    assert left is not None
    assert (left.holder, left.token) == ("", theirs.token)


# ----------------------------------------------------------------------------------------------------- drivers on hosts
QAT = HostDriver(host="compute-1", driver="qat", state="present", declared_by="ann", declared_at=NOON)
ASKED = Event(NOON, "DriverInstallAsked", "compute-1", "ann: qat", {"by": "ann"})
NOTHING = {"state": None, "version": None}


def test_what_is_declared_has_a_pending_run_an_event_and_a_place_in_the_queue(open_both) -> None:
    open_both()[1].declare(QAT, ASKED)
    journal, work = open_both()
    (one,) = work.declared()
    assert one == replace(QAT, run=one.run)
    assert work.awaited(["compute-1", "compute-2"]) == [one]
    assert work.awaited(["compute-2"]) == []
    (run,) = journal.runs("compute-1")
    assert (run.uuid, run.status, run.hosts, run.ended_at) == (one.run, "pending", {"compute-1": "pending"}, None)
    assert journal.open_runs() == [], "nobody has begun it"
    assert journal.events("compute-1") == [with_before(ASKED, None)]
    assert journal.events("compute-1")[0].data == {"by": "ann", "before": NOTHING}
    assert hosts_of(work.take(10, NOON)) == ["compute-1"]
    plan = journal.plan(run.plan_uuid)
    assert plan is not None
    assert plan.hosts == {}


def test_what_is_asked_for_twice_waits_for_one_run_and_what_is_asked_for_otherwise_cancels_it(
    journal_and_work: tuple[Journal, Work],
) -> None:
    journal, work = journal_and_work
    first = work.declare(QAT, ASKED)
    assert work.declare(replace(QAT, declared_at=LATER), ASKED) == first
    second = work.declare(replace(QAT, state="absent", declared_at=LATER), ASKED)
    told = [event.data["before"] for event in journal.events("compute-1")]
    assert told == [*2 * [{"state": "present", "version": QAT.version}], NOTHING], "newest first"
    assert [(run.uuid, run.status) for run in journal.runs()] == [(second.run, "pending"), (first.run, "cancelled")]
    assert work.declared() == [second]
    work.tell(first, RunNews("applied"), LATER)
    assert journal.runs()[1].status == "cancelled"
    assert work.awaited(["compute-1"]) == [second]


def test_a_run_waits_with_its_reason_until_it_comes_out(journal_and_work: tuple[Journal, Work]) -> None:
    journal, work = journal_and_work
    one = work.declare(QAT, ASKED)
    work.tell(one, RunNews("pending", "PendingApproval: ask somebody"), LATER)
    (run,) = journal.runs()
    assert (run.status, run.message, run.ended_at) == ("pending", "PendingApproval: ask somebody", None)
    work.tell(one, RunNews("applied"), LATER)
    (run,) = journal.runs()
    assert (run.status, run.message, run.ended_at, run.hosts) == ("applied", "", LATER, {"compute-1": "applied"})
    assert work.awaited(["compute-1"]) == []
    assert [kept.is_open for kept in work.declared()] == [False], "it stays declared"
    again = work.declare(replace(QAT, declared_at=LATER), ASKED)
    assert again.run != one.run


def test_passes_are_counted(database: str, tmp_path: Path) -> None:
    with open_journal(tmp_path / "state", database=database) as journal:
        for seconds, at in ((1.5, NOON), (0.5, LATER)):
            journal.work().passed(Pass("all", "ok", seconds, at))
        journal.work().passed(Pass("queue", "failed", 3.0, NOON))
        enqueue(journal.work(), ["a"], "CheckedIn", NOON)
        journal.work().take_lease(Lease("worker", "us", 0, datetime.now(UTC) + timedelta(hours=1)), None)
        journal.work().take_lease(Lease("other", "us", 0, NOON), None)
        found = journal.tallies().tallies()
    assert found[PASSES] == {("all", "ok"): 2, ("queue", "failed"): 1}
    assert found[PASS_SECONDS] == {("all", "ok"): 2.0, ("queue", "failed"): 3.0}
    assert found[LAST_PASS] == {("all", "ok"): LATER.timestamp(), ("queue", "failed"): NOON.timestamp()}
    assert found[LEASE_HELD] == {("worker",): 1, ("other",): 0}
    assert found[QUEUE_AGE][()] > 0


def plan_for(*drivers: str, beside: str = "compute-2") -> PlanDocument:
    """A plan that sets up drivers on one host, and something else on another."""
    plan = make_plan("33333333-3333-4333-8333-333333333333", beside)
    segments = [RoleSegment(id=f"driver {name}", role="a.b.c", args={}) for name in drivers]
    mine = HostPlan(generation=1, digest="d", fingerprint="f", segments=segments)
    return structs.replace(plan, hosts={"compute-1": mine, **plan.hosts})


def test_a_run_that_was_asked_for_is_the_run_in_which_it_is_carried_out(
    journal_and_work: tuple[Journal, Work],
) -> None:
    journal, work = journal_and_work
    with of_request("req-1"):
        one = work.declare(QAT, ASKED)
    plan = plan_for("qat")
    begun = journal.open_run(plan, LATER)
    assert begun["compute-1"] == BegunRun(one.run, "req-1")
    beside = begun["compute-2"]
    assert (beside.uuid != one.run, beside.request_id) == (True, "")
    runs = {run.uuid: run for run in journal.runs()}
    assert {uuid: (run.status, run.hosts) for uuid, run in runs.items()} == {
        one.run: ("running", {"compute-1": "running"}),
        beside.uuid: ("running", {"compute-2": "running"}),
    }
    journal.record_outcome(one.run, "compute-1", Outcome(status="applied"), LATER)
    journal.close_run(one.run, "applied", LATER)
    journal.close_run(beside.uuid, "failed", LATER)
    mine = next(run for run in journal.runs() if run.uuid == one.run)
    assert (mine.status, mine.ended_at, mine.hosts) == ("pending", None, {"compute-1": "applied"})
    work.tell(one, RunNews("pending", "RebootRequired"), LATER)
    mine = next(run for run in journal.runs() if run.uuid == one.run)
    assert (mine.status, mine.message, mine.hosts) == ("pending", "RebootRequired", {"compute-1": "applied"})
    work.tell(one, RunNews("applied", by=one.run), LATER)
    mine = next(run for run in journal.runs() if run.uuid == one.run)
    assert (mine.status, mine.ended_at, mine.request_id) == ("applied", LATER, "req-1")
    assert (mine.plan_uuid, mine.started_at, mine.hosts) == (plan.uuid, LATER, {"compute-1": "applied"})
    assert len(journal.runs()) == 2


def test_a_run_that_the_plan_does_not_carry_out_waits_on(journal_and_work: tuple[Journal, Work]) -> None:
    journal, work = journal_and_work
    one = work.declare(QAT, ASKED)
    begun = journal.open_run(plan_for("another"), LATER)
    assert one.run not in {run.uuid for run in begun.values()}
    assert next(run for run in journal.runs() if run.uuid == one.run).status == "pending"


def test_a_run_that_was_asked_for_and_interrupted_waits_again(open_both) -> None:
    journal, work = open_both()
    one = work.declare(QAT, ASKED)
    journal.open_run(plan_for("qat"), NOON)
    journal, work = open_both()
    assert one.run in {run.uuid for run in journal.open_runs()}
    journal.close_run(one.run, "interrupted", LATER)
    (mine,) = [run for run in journal.runs() if run.uuid == one.run]
    assert (mine.status, work.awaited(["compute-1"])) == ("pending", [one])
    assert journal.open_run(plan_for("qat"), LATER)["compute-1"].uuid == one.run


def test_events_of_a_run_have_the_request_that_it_was_asked_for_in(database: str, tmp_path: Path) -> None:
    with open_journal(tmp_path / "state", database=database) as journal:
        with of_request("req-1"):
            one = journal.work().declare(QAT, ASKED)
        journal.open_run(plan_for("qat"), LATER)
        journal.close_run(one.run, "applied", LATER)
        told = {(event.kind, event.run == one.run): event.data for event in journal.events()}
        assert told["RunEnded", True] == {"request_id": "req-1"}
        assert told["RunStarted", True] == {"request_id": "req-1", "hosts": 1}
        assert told["RunStarted", False] == {"hosts": 1}


def test_what_has_begun_is_not_withdrawn_when_somebody_wants_it_to_end(database: str, tmp_path: Path) -> None:
    with open_journal(tmp_path / "state", database=database) as journal:
        work = journal.work()
        one = work.declare(QAT, ASKED)
        journal.open_run(plan_for("qat"), LATER)
        assert journal.fleet().runs.cancel(one.run, "ann", Event(LATER, "RunCancelRequested", "", "ann"))
        assert journal.cancel_requested(one.run)
        assert work.declared() == [one]
        journal.close_run(one.run, "failed", LATER)
        work.tell(one, RunNews("pending", "DeviceInUse: by a VM"), LATER)
        assert [run.status for run in journal.runs() if run.uuid == one.run] == ["cancelled"]
        assert work.declared() == [], "what was not done by then is not tried again"


def test_a_run_that_another_carried_out_gets_its_plan_and_its_outcome(
    journal_and_work: tuple[Journal, Work],
) -> None:
    journal, work = journal_and_work
    one = work.declare(QAT, ASKED)
    plan = make_plan("22222222-2222-4222-8222-222222222222", "compute-1", "compute-2")
    by = uuid_of(journal.open_run(plan, LATER))
    journal.record_outcome(by, "compute-1", Outcome(status="refused", message="in use"), LATER)
    journal.close_run(by, "failed", LATER)
    work.tell(one, RunNews("failed", "in use", by), LATER)
    mine = next(run for run in journal.runs() if run.uuid == one.run)
    assert (mine.status, mine.plan_uuid, mine.started_at, mine.ended_at) == ("failed", plan.uuid, LATER, LATER)
    assert mine.hosts == {"compute-1": "refused"}


def test_a_run_that_nobody_has_begun_is_cancelled_and_what_was_declared_before_is_so_again(
    database: str, tmp_path: Path
) -> None:
    with open_journal(tmp_path / "state", database=database) as journal:
        work, runs = journal.work(), journal.fleet().runs
        asked = Event(LATER, "RunCancelRequested", "", "ann")
        first = work.declare(QAT, ASKED)
        assert runs.cancel(first.run, "ann", asked)
        assert [run.status for run in journal.runs()] == ["cancelled"]
        assert work.declared() == [], "nothing was declared before"
        assert not runs.cancel(first.run, "ann", asked), "it has ended"
        kept = work.declare(replace(QAT, version="1.0"), ASKED)
        work.tell(kept, RunNews("applied"), LATER)
        work.declare(replace(QAT, state="absent"), ASKED)
        last = work.declare(replace(QAT, version="2.0"), ASKED)
        work.done(work.take(9, LATER))
        assert runs.cancel(last.run, "ann", asked)
        assert [(one.state, one.version, one.is_open) for one in work.declared()] == [("present", "1.0", False)]
        assert hosts_of(work.take(9, LATER)) == ["compute-1"]


def test_a_run_of_a_wave_is_cancelled_by_noting_that(database: str, tmp_path: Path) -> None:
    with open_journal(tmp_path / "state", database=database) as journal:
        run = uuid_of(journal.open_run(make_plan("22222222-2222-4222-8222-222222222222", "compute-1"), NOON))
        assert not journal.cancel_requested(run)
        assert journal.fleet().runs.cancel(run, "ann", Event(LATER, "RunCancelRequested"))
        assert journal.cancel_requested(run)
        assert journal.work().take(9, LATER) == []


def test_the_catalogue_is_that_of_the_last_look(journal_and_work: tuple[Journal, Work]) -> None:
    journal, work = journal_and_work
    assert work.catalogue() == {}

    def declaring(*names: str) -> Declared:
        spec = DriverDocSpec(device_type="CRYPTO", version="1.0", roles=None)
        drivers = [
            Driver(api_version="cyborg/v1", kind="Driver", metadata=Metadata(name=name), spec=spec) for name in names
        ]
        return Declared(drivers=tuple(Located(one, "drivers.yml") for one in drivers), digest=" ".join(names))

    for names in (["qat"], ["edu", "qat"], ["qat"]):
        journal.record_declarations(declaring(*names), datetime.now(UTC))
        assert {name: spec.version for name, spec in work.catalogue().items()} == dict.fromkeys(names, "1.0")
