# SPDX-License-Identifier: Apache-2.0
"""When the loop looks at which host, over the fakes: time passes where it waits, and nowhere else."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from cyborg_reconciler import worker
from cyborg_reconciler.bootstrap import Site
from cyborg_reconciler.core.state import Host, Sync
from cyborg_reconciler.documents.plan import Outcome
from cyborg_reconciler.errors import (
    AlreadyRunningError,
    DeclarationsInvalidError,
    ExecutionError,
    JournalError,
    JournalLockedError,
    Problem,
)
from cyborg_reconciler.ports import Unobserved
from cyborg_reconciler.testing import FixedInventory
from cyborg_reconciler.worker import Loop
from tests.scenarios.story import facts_of
from tests.unit.world import World, pool_of

HOURLY_S = 3600.0
AUTOMATIC = pool_of(approval="automatic", max_unavailable=2)
BROKEN = DeclarationsInvalidError([Problem("qat.yml", 3, "spec", "is not right", "mend it")])


class Listener:
    """Who is told: it remembers."""

    def __init__(self):
        self.lines: list[str] = []
        self.seen = []

    @contextmanager
    def watching(self, *, quiet):  # noqa: ARG002 - the audience is asked so
        yield lambda _progress: None

    def tell(self, seen):
        self.seen.append({name: view.verdict.sync for name, view in seen.hosts.items()})

    def say(self, line):
        self.lines.append(line)


class Bench:
    """A loop over fakes. `until` runs it, with what is to happen at each wait, until it has waited so often.

    Attributes:
        looks: the hosts of each look, oldest first.
        waited_s: how long it has waited.
    """

    def __init__(self, *names, interval_s=HOURLY_S, pools=(AUTOMATIC,), hosts=None):
        self.world = World(*names, pools=pools)
        self.world.ports = replace(self.world.ports, inventory=FixedInventory(hosts or [Host(name) for name in names]))
        self.queue = self.world.journal.work()
        self.stopped, self.waited_s = False, 0.0
        self.settled = []
        self.listened_s, self.deaf = [], False
        self.forgot_s = []
        told = self.settled.append, self.mark_silent, lambda: self.forgot_s.append(self.waited_s)
        site = Site(self.world.ports, self.queue, self.queue, *told)
        self.listener = Listener()
        options = worker.Options(stop=lambda: self.stopped)
        self.loop = Loop(site, options, interval_s, self.listener, now_s=lambda: self.waited_s)

    def mark_silent(self):
        self.listened_s.append(self.waited_s)
        if self.deaf:
            raise JournalError(wanted="the journal", found="it is away")

    @property
    def looks(self):
        return self.world.observer.asked

    def enqueue(self, *names, reason="CheckedIn"):
        self.queue.enqueue(names, reason, self.world.ports.clock.now())

    def until(self, waits, *happens):
        """Run until it has waited so often; before the first ones *happens*."""
        left = [*happens, *[lambda: None] * (waits - len(happens))]

        def wait(seconds):
            self.waited_s += seconds
            self.world.observer.clock.move(seconds)
            if not left:
                self.stopped = True
                return
            left.pop(0)()

        self.stopped = False
        self.loop.run(wait)

    def pass_time(self, seconds):
        self.waited_s += seconds
        self.world.observer.clock.move(seconds)

    def count(self, name):
        return len(self.world.observer.facts[name].devices) - 1


# --------------------------------------------------------------------------------------------------- all of the hosts
def test_all_hosts_are_looked_at_at_once_and_then_every_interval():
    bench = Bench("a", "b")
    bench.until(1)
    assert bench.looks[0] == ("a", "b")
    assert bench.forgot_s == [0], "what is old is forgotten with it"
    assert set(bench.world.journal.memory.inventory) == {"a", "b"}, "for those who plan and see no inventory"
    first = len(bench.looks)
    bench.until(1, lambda: bench.pass_time(HOURLY_S))
    assert bench.looks[first:] == [("a", "b")]
    assert bench.count("a") == bench.count("b") == 4, "the pool needs nobody's consent"
    assert len(bench.settled) == 2


def test_policies_that_change_make_all_hosts_due():
    bench = Bench("a", "b")
    bench.until(0)
    looked = len(bench.looks)

    def change():
        bench.world.declarations.stamped = "two"

    bench.until(3, change)
    assert bench.looks[looked:] == [("a", "b")], "once, and not at every wait"


def test_a_broken_tree_is_said_and_looked_at_again_when_it_changes_or_the_interval_is_over():
    bench = Bench("a", interval_s=60)
    bench.world.declarations.error = BROKEN
    bench.until(3)
    assert bench.looks == []
    assert bench.listener.lines == ["qat.yml:3: spec: is not right; mend it (looked at again at the next turn)"]

    def mend():
        bench.world.declarations.error, bench.world.declarations.stamped = None, "two"

    bench.until(1, mend)
    assert bench.looks[0] == ("a",)


def test_what_may_pass_by_itself_is_tried_again_after_longer_and_longer():
    bench = Bench("a", interval_s=60)
    bench.world.observer.broken = ExecutionError(wanted="a run", found="no process")
    at = []
    bench.listener.say = lambda _line: at.append(bench.waited_s)
    bench.until(400)
    assert at == [0, 10, 30, 70, 130, 190], "and never after longer than the interval"
    bench.world.observer.broken = None
    bench.until(121)
    assert bench.looks[-1] == ("a",)


def test_the_loop_ends_between_two_waves_when_it_is_told_to():
    bench = Bench("a", "b", "c", "d")
    executor = bench.world.executor
    apply = executor.apply

    def apply_and_stop(plan, on_progress):
        bench.stopped = True
        return apply(plan, on_progress)

    executor.apply = apply_and_stop
    bench.loop.run(pytest.fail)
    assert [sorted(plan.hosts) for plan in executor.applied] == [["a", "b"]]


def test_a_loop_whose_hosts_another_process_has_taken_over_ends():
    bench = Bench("a")
    bench.world.journal.broken = AlreadyRunningError(wanted="the journal", found="process 2 works with it")
    for turn in (bench.loop.look_at_all, bench.loop.serve):
        with pytest.raises(AlreadyRunningError):
            turn()


# ------------------------------------------------------------------------------------------------------------ the queue
def test_a_host_that_is_enqueued_is_looked_at_alone_and_corrected():
    bench = Bench("a", "b")
    bench.until(0)
    looked = len(bench.looks)

    def drift():
        bench.world.observer.facts["b"] = facts_of({"hostname": "b"})
        bench.enqueue("b")

    bench.until(2, drift)
    assert bench.looks[looked:] == [("b",), ("b",)], "looked at, corrected, verified"
    assert bench.count("b") == 4
    assert bench.queue.take(9, bench.world.ports.clock.now()) == []
    assert bench.waited_s <= 2


def test_a_host_that_is_enqueued_while_it_is_looked_at_is_looked_at_again():
    bench = Bench("a")
    bench.until(0)
    looked, settle = len(bench.looks), bench.settled.append
    bench.enqueue("a")

    def enqueue_once(seen):
        if len(bench.settled) == 1:
            bench.enqueue("a")
        settle(seen)

    bench.loop.site = replace(bench.loop.site, settle=enqueue_once)
    bench.until(1)
    assert bench.looks[looked:] == [("a",), ("a",)]


def test_a_pass_that_is_killed_leaves_its_hosts_in_the_queue_for_the_next_process():
    bench = Bench("a", "b")
    bench.until(0)
    bench.enqueue("b")

    def die(_seen):
        raise KeyboardInterrupt

    bench.loop.site = replace(bench.loop.site, settle=die)
    with pytest.raises(KeyboardInterrupt):
        bench.until(1)
    left = bench.world.journal.reopened().work().take(9, bench.world.ports.clock.now())
    assert [item.host for item in left] == ["b"]


def test_a_host_that_cannot_be_observed_is_put_off_for_longer_and_longer_until_all_are_due_anyway():
    bench = Bench("a", "b", interval_s=60)
    bench.until(0)
    bench.world.observer.unobserved["b"] = Unobserved("Unreachable", "no route to host")
    looked = len(bench.looks)
    bench.enqueue("b")
    at = []
    tell = bench.listener.tell
    bench.listener.tell = lambda seen: (at.append(bench.waited_s), tell(seen))
    bench.until(110)
    assert bench.looks[looked:] == [("b",)] * 3
    assert [round(one) for one in at] == [0, 10, 30]
    assert bench.listener.seen[-1] == {"b": Sync.UNKNOWN}


def test_a_host_whose_change_failed_is_served_and_waits_for_the_next_pass():
    bench = Bench("a")
    bench.world.executor.outcomes["a"] = Outcome(status="failed", message="no")
    bench.until(0)
    bench.enqueue("a")
    bench.until(1)
    assert bench.queue.take(9, bench.world.ports.clock.now()) == []


def test_a_host_that_nobody_knows_is_forgotten_and_one_that_is_new_in_the_inventory_is_not():
    bench = Bench("a", "b")
    bench.loop.site = replace(bench.loop.site, ports=replace(bench.world.ports, inventory=FixedInventory([Host("a")])))
    bench.until(0)
    bench.loop.site = replace(
        bench.loop.site, ports=replace(bench.world.ports, inventory=FixedInventory([Host("a"), Host("b")]))
    )
    bench.enqueue("b", "x")
    bench.until(1)
    assert ("b",) in bench.looks
    assert bench.listener.lines == ["x: CheckedIn: there is no such host; it is forgotten"]
    assert bench.queue.take(9, bench.world.ports.clock.now()) == []


def test_a_limited_loop_leaves_hosts_of_others_in_the_queue():
    bench = Bench("a")
    bench.loop.options = replace(bench.loop.options, limited=True)
    bench.until(0)
    bench.enqueue("elsewhere")
    bench.until(1)
    bench.pass_time(HOURLY_S)
    assert [item.host for item in bench.queue.take(9, bench.world.ports.clock.now())] == ["elsewhere"]


def test_the_queue_rests_while_the_journal_cannot_be_used_and_loses_nothing():
    bench = Bench("a")
    bench.until(0)
    bench.enqueue("a")
    looked = len(bench.looks)
    bench.world.journal.broken = JournalLockedError(wanted="the journal", found="database is locked")
    bench.until(3)
    assert bench.listener.lines == [
        "the journal: database is locked; wait for the other process, or end it (what is enqueued waits)"
    ]
    bench.world.journal.broken = None
    bench.until(20)
    assert bench.looks[looked:] == [("a",)]


def test_the_queue_is_served_between_the_portions_of_a_pass_over_many_hosts():
    names = [f"h{number:03}" for number in range(worker.MOST_AT_ONCE + 1)]
    bench = Bench(*names)
    bench.enqueue(names[0], names[-1])
    seen = bench.loop.look_at_all()
    enqueued = (names[0], names[-1])
    portions = [tuple(names[: worker.MOST_AT_ONCE]), enqueued, enqueued, (names[-1],)]
    assert bench.looks[:4] == portions, "the enqueued ones twice: verified, too"
    assert seen is not None
    assert set(seen.hosts) == set(names)
    assert seen.pool_sizes == {"p": len(names)}
    assert all(bench.count(name) == 4 for name in names)


def test_the_width_of_a_wave_is_that_of_the_whole_pool_whoever_is_looked_at():
    pool = pool_of(approval="automatic", max_unavailable="50%")
    bench = Bench("a", "b", "c", "d", pools=(pool,))
    bench.enqueue("a", "b")
    assert bench.loop.serve()
    assert [sorted(plan.hosts) for plan in bench.world.executor.applied] == [["a", "b"]]


def test_agents_are_listened_for_all_the_time_and_a_journal_that_is_away_ends_nothing():
    bench = Bench("a")
    bench.deaf = True
    bench.until(45)
    assert bench.listened_s == [0.0, 10.0, 20.0]
    assert any("fall silent" in line for line in bench.listener.lines)


def test_passes_are_counted_with_what_became_of_them():
    bench = Bench("a")
    bench.loop.look_at_all()
    assert not bench.loop.serve()
    bench.queue.enqueue(["a"], "CheckedIn", bench.world.ports.clock.now())
    assert bench.loop.serve()
    bench.world.declarations.error = BROKEN
    bench.loop.look_at_all()
    assert [(one.kind, one.result) for one in bench.world.journal.memory.passes] == [
        ("all", "ok"),
        ("queue", "ok"),
        ("all", "failed"),
    ]
