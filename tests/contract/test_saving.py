# SPDX-License-Identifier: Apache-2.0
"""Does one check-in that cannot be written spoil others, or the thread that writes them? On both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.agent_stores import Agent, CheckIn, Enrolment, Inventory
from cyborg_reconciler.conductor.saving import SaveOut, Saver
from cyborg_reconciler.ports import Event
from tests.integration.api_support import until

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
HOSTS = ("compute-1", "compute-2", "compute-3", "compute-4")
FIRST, CULPRIT, *OTHERS = HOSTS
#: More than either database has room for.
TOO_MUCH = 2**63


@pytest.fixture
def store(tmp_path, database):
    with open_journal(tmp_path / "state", database=database) as journal:
        store = journal.agents()
        for host in HOSTS:
            event = Event(NOW, "AgentEnrolled", host)
            store.mint(host, Enrolment(host, NOW + timedelta(hours=1)), event)
            assert store.enrol(Agent(host=host, uuid=""), host, Inventory(host), event)
        yield store


class Gate:
    """A store whose door is shut: what comes meanwhile is written together."""

    def __init__(self, store):
        self.store, self.reached, self.opened = store, threading.Event(), threading.Event()

    def keep(self, check_ins):
        self.reached.set()
        assert self.opened.wait(60)
        return self.store.keep(check_ins)

    def touch(self, check_ins):
        return self.store.touch(check_ins)


def check_in(host, sequence=1):
    terms = {"boot_id": "b", "fingerprint": "f", "agent_version": "1", "received_at": NOW}
    return CheckIn(host=host, epoch=1, sequence=sequence, **terms)


def test_of_those_that_are_written_together_the_one_that_cannot_be_is_refused_alone(store):
    gate = Gate(store)
    with closing(Saver(gate, SaveOut(interval_s=3600))) as saver, ThreadPoolExecutor(len(HOSTS)) as pool:
        first = pool.submit(saver.keep, check_in(FIRST))
        assert gate.reached.wait(60)
        written = {}
        for host in (CULPRIT, *OTHERS):
            saver.touch(check_in(host))
            written[host] = pool.submit(saver.keep, check_in(host, TOO_MUCH if host == CULPRIT else 2))
            until(lambda host=host: saver.pending(host) is None)  # it waits to be written
        gate.opened.set()
        assert first.result(60)
        assert all(written[host].result(60) for host in OTHERS)
        assert written[CULPRIT].exception(60)
    assert [store.agent(host).sequence for host in HOSTS] == [1, 0, 2, 2]
