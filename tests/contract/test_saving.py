# SPDX-License-Identifier: Apache-2.0
"""Are check-ins written together, and does one that cannot be written spoil others, or the thread that writes them?"""

from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.conductor.saving import SaveOut, Saver
from cyborg_reconciler.errors import JournalError, JournalOutageError
from cyborg_reconciler.meters import CHECK_INS, NoMeter
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.agents import Agent, CheckIn, Enrolment, Inventory
from cyborg_reconciler.testing import CountingMeter

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
HOSTS = ("compute-1", "compute-2", "compute-3", "compute-4")
FIRST, CULPRIT, *OTHERS = HOSTS
#: More than either database has room for.
TOO_MUCH = 2**63
#: Waits until all hosts have told something.
ALL_AT_ONCE = SaveOut(interval_s=3600, waiting=len(HOSTS), quiet_s=3600, gather_s=3600)


@pytest.fixture
def store(tmp_path, database):
    with open_journal(tmp_path / "state", database=database) as journal:
        store = journal.agents()
        for host in HOSTS:
            event = Event(NOW, "AgentEnrolled", host)
            store.mint(host, Enrolment(host, NOW + timedelta(hours=1)), event)
            assert store.enrol(Agent(host=host, uuid=""), host, Inventory(host), event)
        yield store


def check_in(host, sequence=1):
    terms = {"boot_id": "b", "fingerprint": "f", "agent_version": "1", "received_at": NOW}
    return CheckIn(host=host, epoch=1, sequence=sequence, **terms)


def test_of_those_that_are_written_together_the_one_that_cannot_be_is_refused_alone(store, caplog):
    with closing(Saver(store, ALL_AT_ONCE)) as saver, ThreadPoolExecutor(len(HOSTS)) as pool:
        written = {}
        for host in HOSTS:
            saver.touch(check_in(host))  # which what is told next supersedes
            written[host] = pool.submit(saver.keep, check_in(host, TOO_MUCH if host == CULPRIT else 2))
        assert all(written[host].result(60) for host in (FIRST, *OTHERS))
        assert written[CULPRIT].exception(60)
    assert f"{len(HOSTS)} check-ins are written one by one" in caplog.text
    assert [store.agent(host).sequence for host in HOSTS] == [2, 0, 2, 2]


def test_of_agents_that_were_merely_heard_the_one_that_cannot_be_written_is_left_out_alone(store, caplog):
    with closing(Saver(store, SaveOut(interval_s=3600))) as saver:
        for host in HOSTS:
            saver.touch(check_in(host, TOO_MUCH if host == CULPRIT else 3))
    assert [store.agent(host).sequence for host in HOSTS] == [3, 0, 3, 3]
    assert f"1 agents were heard, {CULPRIT} first" in caplog.text


class Out:
    """A store that meets one of the journal's outages."""

    def __init__(self, outage):
        self.outage, self.kept, self.touched = outage, [], []

    def keep(self, check_ins):
        self.kept.append(len(check_ins))
        raise self.outage

    def touch(self, check_ins):
        self.touched.append(len(check_ins))
        raise self.outage


@pytest.mark.parametrize("outage", JournalOutageError.__subclasses__())
def test_what_each_would_meet_again_is_met_once(outage):
    out = Out(outage())
    with closing(Saver(out, ALL_AT_ONCE)) as saver, ThreadPoolExecutor(len(HOSTS)) as pool:
        for host in ("elsewhere-1", "elsewhere-2"):
            saver.touch(check_in(host))
        failed = [pool.submit(saver.keep, check_in(host)).exception for host in HOSTS]
        assert [wait(60) for wait in failed] == [out.outage] * len(HOSTS)
    assert (out.kept, out.touched) == ([len(HOSTS)], [2])


class BrokenMeter(NoMeter):
    """Cannot count until it was repaired."""

    broken = True

    def observe(self, *_args, **_labels):
        if self.broken:
            raise ZeroDivisionError


def test_whatever_goes_wrong_those_who_wait_are_told_and_the_next_are_written(store, caplog):
    meter = BrokenMeter()
    with closing(Saver(store, SaveOut(interval_s=3600), meter)) as saver, ThreadPoolExecutor(1) as pool:
        assert isinstance(pool.submit(saver.keep, check_in(FIRST)).exception(60), JournalError)
        assert "could not be written out" in caplog.text
        meter.broken = False
        assert pool.submit(saver.keep, check_in(FIRST, 2)).result(60)


class Noting(NoMeter):
    """Notes how many were written together."""

    def __init__(self):
        self.together = []

    def observe(self, _name, value, **_labels):
        self.together.append(value)


def test_who_comes_again_and_again_keeps_the_first_waiting_for_so_long_and_no_longer(store):
    terms = SaveOut(interval_s=3600, waiting=1000, quiet_s=10, gather_s=0.2)
    with closing(Saver(store, terms)) as saver, ThreadPoolExecutor(64) as pool:
        first, sequence = pool.submit(saver.keep, check_in(FIRST)), 1
        while not first.done():
            sequence += 1
            wait([pool.submit(saver.keep, check_in(CULPRIT, sequence)), first], timeout=0.01)
        assert first.result()


def test_no_more_are_written_together_than_may_be(store):
    meter = Noting()
    terms = SaveOut(interval_s=3600, batch=2, waiting=4, quiet_s=3600, gather_s=3600)
    with closing(Saver(store, terms, meter)) as saver, ThreadPoolExecutor(len(HOSTS)) as pool:
        assert all(pool.map(saver.keep, map(check_in, HOSTS), timeout=60))
    assert meter.together == [2, 2]


def test_the_first_waits_until_all_threads_do_or_nobody_comes_any_more(store):
    meter = Noting()
    with closing(Saver(store, ALL_AT_ONCE, meter)) as saver, ThreadPoolExecutor(len(HOSTS)) as pool:
        assert all(pool.map(saver.keep, map(check_in, HOSTS), timeout=60))
    for terms in (
        SaveOut(interval_s=3600),
        SaveOut(interval_s=3600, gather_s=3600),  # nothing comes any more
        SaveOut(interval_s=3600, gather_s=3600, quiet_s=3600, batch=1),
    ):
        with closing(Saver(store, terms, meter)) as saver:
            assert saver.keep(check_in(FIRST, len(meter.together) + 1))
    assert meter.together == [len(HOSTS), 1, 1, 1]


def test_who_is_the_only_one_under_way_waits_for_nobody(store):
    with ThreadPoolExecutor(1) as pool, closing(Saver(store, ALL_AT_ONCE, under_way=lambda: 1)) as saver:
        for sequence in (1, 2):
            assert pool.submit(saver.keep, check_in(FIRST, sequence)).result(60)


def test_as_many_are_written_together_as_are_under_way(store):
    meter = Noting()
    with ThreadPoolExecutor(len(HOSTS)) as pool, closing(Saver(store, ALL_AT_ONCE, meter, lambda: 2)) as saver:
        assert all(pool.map(saver.keep, map(check_in, HOSTS[:2]), timeout=60))
    assert meter.together == [2]


def test_all_check_ins_are_counted_by_what_came_of_them(store):
    meter = CountingMeter()
    with closing(Saver(store, SaveOut(interval_s=3600), meter)) as saver:
        assert [saver.keep(check_in(FIRST, sequence)) for sequence in (2, 3, 3)] == [True, True, False]
        for sequence in (4, 5, 6):
            saver.touch(check_in(FIRST, sequence))
    assert meter.counted == {(CHECK_INS, ("changed",)): 2, (CHECK_INS, ("stale",)): 1, (CHECK_INS, ("unchanged",)): 3}
