# SPDX-License-Identifier: Apache-2.0
"""Agents check in and users write, all the time, while their server is killed again and again with all its processes.

Whatever was acknowledged is there in the end.
"""

import json
import os
import random
import signal
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
import urllib3

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.bootstrap import open_agents
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.documents.rest.agent import InventoryGiven, LookupGiven
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import guest_1, write_tree
from tests.integration.api_support import serving
from tests.postgresql import find_port

pytestmark = pytest.mark.slow

AGENTS, USERS, KILLS = 4, 2, 2
#: Acknowledgements between two kills, at least and at most.
BETWEEN = (20, 80)
PATIENCE_S = 120.0


class Load:
    """Agents and users, each in a thread of its own; and what each was told to be kept.

    Attributes:
        tried, told: the number of the last change that was sent, and of the last one that was acknowledged, of each
            host and each accelerator.
        unexpected: answers that are none that should come.
    """

    def __init__(self, url, tokens, facts):
        self.url, self.tokens, self.facts = url, tokens, facts
        self.tried, self.told, self.unexpected = {}, {}, []
        self._told = threading.Condition()
        self._count = 0
        self._ended = threading.Event()
        self._pool = urllib3.PoolManager(maxsize=AGENTS + USERS, retries=False)

    def __enter__(self):
        self._threads = ThreadPoolExecutor(AGENTS + USERS)
        self._work = [self._threads.submit(self._check_in, host) for host in self.tokens]
        self._work += [self._threads.submit(self._write) for _ in range(USERS)]
        return self

    def __exit__(self, *_exc):
        self.end()

    def end(self):
        """Have everybody finish what he is at."""
        self._ended.set()
        self._threads.shutdown()
        for one in self._work:
            one.result()

    def wait_for(self, more):
        """Wait until so many more changes were acknowledged."""
        with self._told:
            goal = self._count + more
            assert self._told.wait_for(lambda: self._count >= goal, PATIENCE_S), self.unexpected

    def _send(self, method, path, body, expected, token=""):
        """Send it, and return whether it was acknowledged: nothing is known of what got no answer."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        try:
            answer = self._pool.request(method, self.url + path, body=json.dumps(body), headers=headers, timeout=60)
        except urllib3.exceptions.HTTPError:
            self._ended.wait(0.05)  # there is nobody just now
            return None
        if answer.status != expected:
            self.unexpected.append((method, path, answer.status, answer.data))
            return None
        return answer

    def _acknowledge(self, key, number):
        with self._told:
            self.told[key] = number
            self._count += 1
            self._told.notify()

    def _check_in(self, host):
        number = 0
        while not self._ended.is_set():
            number += 1
            self.tried[host] = number
            facts = {**self.facts, "fingerprint": str(number)}
            place = {"boot_id": "b", "epoch": 1, "sequence": number, "fingerprint": str(number)}
            body = {"agent_version": "0.1.0", **place, "facts": facts}
            answer = self._send("POST", f"/v1/heartbeat/{host}", body, 202, self.tokens[host])
            if answer is not None:
                assert answer.json()["durable"] is True
                self._acknowledge(host, number)

    def _write(self):
        while not self._ended.is_set():
            path = f"/v1/accelerators/{uuid.uuid4()}"
            if self._send("POST", path, {"name": path}, 201) is None:
                continue
            self._acknowledge(path, 0)
            for number in range(1, 10):
                self.tried[path] = number
                step = {"op": "replace", "path": "/description", "value": str(number)}
                if self._send("PATCH", path, [step], 200) is not None:
                    self._acknowledge(path, number)


def enrolled(settings, hosts):
    """The tokens of the agents of *hosts*."""
    with open_agents(settings) as operators:
        tokens = {}
        for host in hosts:
            minted = operators.enrol(Caller("operator", Role.ADMIN), host, timedelta(hours=1))
            given = LookupGiven(agent_version="0.1.0", inventory=InventoryGiven(hostname=host))
            tokens[host] = operators.look_up(operators.enroller(minted), given)[0].token
    return tokens


def test_nothing_that_was_acknowledged_is_lost_when_a_server_is_killed_under_load(tmp_path, database):
    write_tree(guest_1(), tmp_path / "host")
    facts = json.loads(json.dumps(gather(Tree(str(tmp_path / "host")), connection="local")))
    state, port = tmp_path / "state", find_port()
    tokens = enrolled(Settings(state, database=database), [f"compute-{number}" for number in range(AGENTS)])
    words = {"port": port, "database": database, "requests_per_min": 0}
    with Load(f"http://127.0.0.1:{port}", tokens, facts) as load:
        for _ in range(KILLS):
            with serving(state, "--auth", "none", **words) as server:
                load.wait_for(random.randint(*BETWEEN))  # noqa: S311 - no secret
                with suppress(ProcessLookupError):
                    os.killpg(server.process.pid, signal.SIGKILL)
        with serving(state, "--auth", "none", **words) as server:
            load.wait_for(BETWEEN[0])
            load.end()
            for key, number in load.told.items():
                path = key if key.startswith("/") else f"/v1/hosts/{key}"
                shown = server("GET", path).json()
                kept = int(shown["description"] or 0) if key.startswith("/") else int(shown["fingerprint"])
                # What got no answer may be there all the same.
                assert number <= kept <= load.tried.get(key, 0), key
    assert load.unexpected == []
    assert len(load.told) > AGENTS + USERS
