# SPDX-License-Identifier: Apache-2.0
"""Who holds a lease, and when another may take it: over the fake store, on clocks that are moved by hand."""

import threading
from datetime import timedelta

from cyborg_reconciler.conductor.leasing import LASTS_S, Leaseholder
from cyborg_reconciler.errors import JournalUnavailableError
from cyborg_reconciler.testing import FakeJournal, FixedClock


class Timer:
    """A clock that never goes back."""

    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s


class Machine:
    """A machine with clocks of its own, and a process on it that wants the lease."""

    def __init__(self, journal, name, *, ahead_s=0.0, lasts_s=LASTS_S):
        self.wall, self.timer = FixedClock(), Timer()
        self.wall.move(ahead_s)
        self.process = Leaseholder(journal.work(), "worker", name, self.wall, lasts_s, self.timer)

    def move(self, seconds):
        self.timer.s += seconds
        self.wall.move(seconds)


def machines(**ahead_s):
    journal = FakeJournal()
    return journal, *(Machine(journal, name, ahead_s=seconds) for name, seconds in ahead_s.items())


def test_one_holds_the_lease_as_long_as_it_is_renewed():
    _, one, two = machines(one=0, two=0)
    assert one.process.take()
    for _ in range(10):
        assert not two.process.take()
        for machine in (one, two):
            machine.move(LASTS_S / 3)
        assert one.process.renew()
        assert one.process.holds()
    assert not two.process.holds()


def test_another_takes_it_when_it_was_not_renewed_for_as_long_as_it_lasts_and_the_first_has_let_go_before():
    _, one, two = machines(one=0, two=0)
    assert one.process.take()
    assert not two.process.take()
    for machine in (one, two):
        machine.move(LASTS_S - 1)
    assert one.process.holds()
    assert not two.process.take()
    for machine in (one, two):
        machine.move(1)
    assert not one.process.holds()
    assert two.process.take()
    assert not one.process.renew(), "it finds out when it comes back"


def test_clocks_that_are_hours_apart_change_nothing():
    journal, late, early = machines(late=-7200, early=7200)
    assert late.process.take()
    assert not early.process.take(), "by its clock the lease ran out long ago"
    late.move(5)
    early.move(5)
    assert late.process.renew()
    assert not early.process.take()
    early.wall.move(timedelta(days=1).total_seconds())
    assert not early.process.take()
    early.move(LASTS_S)
    assert early.process.take()
    lease = journal.work().lease("worker")
    assert lease is not None
    assert (lease.holder, lease.token) == ("early", 2)


def test_a_lease_that_was_given_back_is_free_at_once():
    _, one, two = machines(one=0, two=0)
    assert one.process.take()
    with one.process.kept():
        assert not two.process.take()
    assert not one.process.holds()
    assert two.process.take()


def test_of_two_that_saw_it_run_out_one_takes_it():
    _, one, two, three = machines(one=0, two=0, three=0)
    assert one.process.take()
    for machine in (two, three):
        assert not machine.process.take()
        machine.move(LASTS_S)
    assert [two.process.take(), three.process.take()] == [True, False]


def test_it_is_renewed_while_its_holder_is_at_work():
    journal = FakeJournal()
    one = Machine(journal, "one", lasts_s=0.03)
    renewed = threading.Event()
    renew = one.process.leases.renew
    one.process.leases.renew = lambda lease: renew(lease) and (renewed.set() or True)
    assert one.process.take()
    with one.process.kept():
        assert renewed.wait(60)


def test_a_database_that_is_away_for_a_moment_costs_nobody_the_lease():
    journal, one = machines(one=0)
    assert one.process.take()
    journal.broken = JournalUnavailableError(wanted="the journal", found="no answer")
    one.move(LASTS_S - 1)
    assert one.process.holds()
    one.move(1)
    assert not one.process.holds()
    journal.broken = None
    assert one.process.renew(), "nobody else has taken it"
    assert one.process.holds()
