# SPDX-License-Identifier: Apache-2.0
"""Which of gunicorn's processes takes a new connection? That with the fewest, if it can."""

import logging
import os
import selectors
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from gunicorn.config import Config

from cyborg_reconciler_api.connections import PLACES, SERVED, Connections, Served
from cyborg_reconciler_api.gunicorn_worker import LEFT_S, LOOK_EVERY_S, ProblemWorker


def test_the_fewest_connections_are_those_of_a_process_that_is_there():
    connections = Connections()
    assert connections.fewest() == 0
    connections.tell(1, 5)
    connections.tell(2, 3)
    assert connections.fewest() == 3
    connections.forget(2)
    assert connections.fewest() == 5


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child calls nothing that another thread may hold
def test_other_processes_see_what_one_tells():
    connections = Connections()
    connections.tell(1, 9)
    if not (child := os.fork()):
        connections.tell(PLACES + 2, 4)  # gunicorn numbers all that it ever began
        os._exit(0)
    os.waitpid(child, 0)
    assert connections.fewest() == 4


class Process(ProblemWorker):
    """One of gunicorn's processes, as far as it takes connections; `waits` says how often it left one."""

    def __init__(self, listener, connections):
        super().__init__(1, os.getppid(), [listener], None, 30, Config(), logging.getLogger("test"))
        self.method_queue.init()
        self.tpool = ThreadPoolExecutor(1)
        self.connections, self.served = connections, Served()
        self.taken, self.waits, self.meanwhile = [], 0, lambda: None

    def handle(self, conn):
        self.taken.append(conn)
        return False

    def sleep(self, seconds):
        assert 0 < seconds <= LEFT_S
        self.waits += 1
        self.meanwhile()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


@pytest.fixture
def process(listener):
    made = Process(listener, Connections())
    yield made
    made.tpool.shutdown()
    made.method_queue.close()
    made.tmp.close()
    for connection in made.taken:
        connection.sock.close()


@pytest.fixture
def client(listener):
    with socket.create_connection(listener.getsockname()) as connection:
        yield connection


def keeps(process, count):
    """Have the process have so many connections that are kept."""
    process.keepalived_conns.extend(range(count))
    process.notify()


@pytest.mark.parametrize(("ours", "others"), [(0, None), (7, None), (4, 4), (4, 9)])
def test_who_has_no_more_than_others_takes_a_connection_at_once(process, listener, client, ours, others):
    keeps(process, ours)
    if others is not None:
        process.connections.tell(2, others)
    process.accept(listener)
    assert (process.held(), process.waits) == (ours + 1, 0)


def test_who_has_more_leaves_it_to_another_that_takes_it(process, listener, client):
    keeps(process, 1)
    process.connections.tell(2, 0)

    def another_takes_it():
        listener.accept()[0].close()

    process.meanwhile = another_takes_it
    process.accept(listener)
    assert (process.held(), process.waits) == (1, 1)


def test_who_has_more_takes_it_in_the_end_where_nobody_else_does(process, listener, client):
    keeps(process, 1)
    process.connections.tell(2, 0)
    process.accept(listener)
    assert process.held() == 2
    assert process.waits * LOOK_EVERY_S == pytest.approx(LEFT_S)


def test_what_threads_serve_is_counted_where_those_who_gather_check_ins_look(process, listener, client):
    assert ProblemWorker.served is SERVED
    process.accept(listener)
    assert process.served.count == 1
    process.tpool.shutdown()
    process.method_queue.run_callbacks(None)
    assert process.served.count == 0


def test_who_takes_no_more_connections_as_it_ends_is_not_waited_for(process):
    process.poller = selectors.DefaultSelector()
    process.set_accept_enabled(True)
    process.notify()
    process.connections.tell(2, 5)
    process.alive = False
    process.set_accept_enabled(False)
    process.poller.close()
    assert process.connections.fewest() == 5


def test_a_connection_that_was_taken_counts_at_once(process, listener, client):
    process.notify()
    process.accept(listener)
    assert process.connections.fewest() == 1


def test_who_has_ended_is_not_waited_for(process, listener, client):
    keeps(process, 2)
    process.connections.tell(2, 0)
    process.connections.forget(2)
    process.accept(listener)
    assert process.waits == 0


def test_who_is_about_to_end_is_not_waited_for_by_others(process):
    keeps(process, 1)
    assert process.connections.fewest() == 1
    process.connections.tell(2, 5)
    process.alive = False
    process.notify()
    assert process.connections.fewest() == 5


def test_a_connection_that_ends_before_it_says_anything_leaves_no_trace(process, listener, client):
    """As a probe does where TLS is spoken; gunicorn takes it from its own count twice."""
    process.accept(listener)
    process.tpool.shutdown()
    process.taken[0].sock.close()
    process.method_queue.run_callbacks(None)
    process.notify()
    assert process.held() == process.connections.fewest() == 0
