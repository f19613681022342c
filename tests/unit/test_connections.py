# SPDX-License-Identifier: Apache-2.0
"""Which of gunicorn's processes takes a new connection? That with the fewest, if it can."""

import logging
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from gunicorn.config import Config

from cyborg_reconciler_api.connections import PLACES, Connections
from cyborg_reconciler_api.gunicorn_worker import ProblemWorker


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
    """One of gunicorn's processes, as far as it takes connections; `taken` has them."""

    left_s = 0.1

    def __init__(self, listener, connections):
        super().__init__(1, os.getppid(), [listener], None, 30, Config(), logging.getLogger("test"))
        self.tpool = ThreadPoolExecutor(1)
        self.method_queue.init()
        self.share(connections)
        self.taken = []

    def handle(self, conn):
        self.taken.append(conn)
        return False


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


def took(process, listener):
    """Have the process see to its listener, and return how many connections it has now."""
    process.accept(listener)
    return process.nr_conns


@pytest.mark.parametrize(("ours", "others"), [(0, None), (7, None), (1, 0), (4, 4), (4, 9)])
def test_who_has_no_more_than_others_takes_a_connection_at_once(process, listener, client, ours, others):
    process.left_s = 3600.0
    process.nr_conns = ours
    if others is not None:
        process.connections.tell(2, others)
    assert took(process, listener) == ours + 1
    assert process.connections.fewest() == (ours + 1 if others is None else min(ours + 1, others))


def test_who_has_more_leaves_it_to_another_that_takes_it(process, listener, client):
    process.left_s, taken = 2.0, []
    process.nr_conns = 2
    process.connections.tell(2, 0)
    other = threading.Thread(target=lambda: taken.append(listener.accept()[0]))
    other.start()
    assert took(process, listener) == 2
    other.join()
    taken[0].close()


def test_who_has_more_takes_it_where_nobody_else_does(process, listener, client):
    process.nr_conns = 2
    process.connections.tell(2, 0)
    assert took(process, listener) == 3


def test_who_has_ended_is_not_waited_for(process, listener, client):
    process.left_s = 3600.0
    process.nr_conns = 2
    process.connections.tell(2, 0)
    process.connections.forget(2)
    assert took(process, listener) == 3
