# SPDX-License-Identifier: Apache-2.0
"""How agents hear at once what is to be ready: all of them, the newest of it, and by a few threads."""

import threading

import pytest

from cyborg_reconciler.conductor.discovery import Discovery
from cyborg_reconciler.conductor.errands import MOST
from cyborg_reconciler.errors import AgentUnreachableError, ConflictError
from cyborg_reconciler.stores.agents import Agent
from cyborg_reconciler.testing import FixedClock

LIMIT_S = 60


class Store:
    """Agents of all hosts, and how often it was asked what is to be ready there."""

    def __init__(self):
        self.asked = {}

    def agent(self, host):
        return Agent(host=host, uuid="", token_hash="of a token")

    def endpoint(self, host):
        return f"https://{host}:6671"

    def ready(self, host):
        self.asked[host] = self.asked.get(host, 0) + 1
        return []


class SlowPort:
    """Agents that answer when they may, with *error* where there is one."""

    def __init__(self, error=None):
        self.error, self.called, self.under_way, self.most = error, [], 0, 0
        self.began, self.may_answer = threading.Semaphore(0), threading.Semaphore(0)
        self.lock = threading.Lock()

    def discover(self, at, _driver, _ready):
        with self.lock:
            self.called.append(at.host)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        self.began.release()
        assert self.may_answer.acquire(timeout=LIMIT_S)
        with self.lock:
            self.under_way -= 1
        if self.error:
            raise self.error

    def wait_for(self, number):
        """Wait until *number* more have been called."""
        for _ in range(number):
            assert self.began.acquire(timeout=LIMIT_S)


@pytest.mark.parametrize("error", [None, ConflictError(), AgentUnreachableError(), OSError("of nobody's")])
def test_all_agents_hear_what_is_to_be_ready_but_a_few_at_a_time(error):
    store, port = Store(), SlowPort(error)
    discovery = Discovery(store, FixedClock(), port)
    first, others = [f"compute-{n}" for n in range(MOST)], [f"compute-{n}" for n in range(MOST, 5 * MOST)]
    for host in first:
        discovery.hasten(host)
    port.wait_for(MOST)
    again = first[0]  # more is wanted of it than it was called with
    for host in [*others, again, *others]:
        discovery.hasten(host)
    port.may_answer.release(len(first) + len(others) + 1)
    port.wait_for(len(others) + 1)
    assert sorted(port.called) == sorted([*first, *others, again])
    assert (port.most, store.asked[again]) == (MOST, 2)
