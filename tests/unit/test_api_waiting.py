# SPDX-License-Identifier: Apache-2.0
"""What does a process answer that cannot begin yet, and who waits for its attempts to?"""

import threading
from concurrent.futures import ThreadPoolExecutor

from falcon.testing import TestClient

from cyborg_reconciler.errors import JournalUnavailableError
from cyborg_reconciler_api.waiting import TRY_EVERY_S, Waiting

#: As long as nobody waits for it: one who would is told apart by never ending.
LIMIT_S = 60


class Database:
    """One that is away, and says so only when it is told to."""

    def __init__(self):
        self.tries, self.asked, self.answers = 0, threading.Event(), threading.Event()

    def begin(self):
        self.tries += 1
        self.asked.set()
        assert self.answers.wait(LIMIT_S)
        raise JournalUnavailableError


class Ticking:
    """A clock by which it is always time to try again."""

    now_s = 0.0

    def __call__(self):
        self.now_s += 2 * TRY_EVERY_S
        return self.now_s


def test_nobody_waits_for_an_attempt_to_begin_but_the_one_who_makes_it():
    database = Database()
    client = TestClient(Waiting(database.begin, JournalUnavailableError(), Ticking()))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(client.simulate_get, "/v1/hosts")
        assert database.asked.wait(LIMIT_S)
        others = [pool.submit(client.simulate_get, path) for path in ("/healthz", "/v1/hosts")]
        try:
            assert [one.result(LIMIT_S).status_code for one in others] == [200, 503]
        finally:
            database.answers.set()
        assert first.result(LIMIT_S).status_code == 503
    assert database.tries == 1


def test_who_asks_whether_it_lives_makes_no_attempt():
    database = Database()
    database.answers.set()
    client = TestClient(Waiting(database.begin, JournalUnavailableError(), Ticking()))
    with ThreadPoolExecutor(1) as pool:  # a request leaves its id with the thread
        assert pool.submit(client.simulate_get, "/healthz").result(LIMIT_S).json == {"status": "alive"}
        assert database.tries == 0
        assert pool.submit(client.simulate_get, "/readyz").result(LIMIT_S).status_code == 503
    assert database.tries == 1
