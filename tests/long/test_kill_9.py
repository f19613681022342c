# SPDX-License-Identifier: Apache-2.0
"""Agents check in and users write, all the time, while their servers are killed again and again with all processes.

Whatever was acknowledged is there in the end. Of what was acknowledged as not durable, when the agent was heard is not.
"""

import json
import os
import random
import signal
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest
import urllib3

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import guest_1, nic_1, write_tree
from tests.integration.agent_support import AgentProcess
from tests.integration.api_support import enrol_agent, running, serving, until
from tests.integration.test_agent_and_conductor import set_vfs, vfs_told
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

    def __init__(self, url, tokens, facts, agents_url=None):
        self.url, self.agents_url, self.tokens, self.facts = url, agents_url or url, tokens, facts
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
        url = self.agents_url if token else self.url
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        try:
            answer = self._pool.request(method, url + path, body=json.dumps(body), headers=headers, timeout=60)
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
            body = said(2 * number, str(number))
            answer = self._send("POST", f"/v1/heartbeat/{host}", {**body, "facts": facts}, 202, self.tokens[host])
            if answer is not None:
                assert answer.json()["durable"] is True
                self._acknowledge(host, number)
                body = said(2 * number + 1, str(number))
                answer = self._send("POST", f"/v1/heartbeat/{host}", body, 202, self.tokens[host])
                assert answer is None or answer.json()["durable"] is False

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


def said(sequence, fingerprint):
    """A check-in of an agent whose host is as it was."""
    place = {"boot_id": "b", "epoch": 1, "sequence": sequence, "fingerprint": fingerprint}
    return {"agent_version": "0.1.0", **place}


def enrolled(settings, hosts):
    """The tokens of the agents of *hosts*."""
    return {host: enrol_agent(settings, host) for host in hosts}


@pytest.fixture
def facts(tmp_path):
    write_tree(guest_1(), tmp_path / "host")
    return json.loads(json.dumps(gather(Tree(str(tmp_path / "host")), connection="local")))


def kill(server):
    """Kill a server with all its processes."""
    with suppress(ProcessLookupError):
        os.killpg(server.process.pid, signal.SIGKILL)


def assert_kept(load, server):
    """What was acknowledged is there; what got no answer may be there all the same."""
    load.end()
    for key, number in load.told.items():
        shown = server("GET", key if key.startswith("/") else f"/v1/hosts/{key}").json()
        kept = int(shown["description"] or 0) if key.startswith("/") else int(shown["fingerprint"])
        assert number <= kept <= load.tried.get(key, 0), key
    assert load.unexpected == []
    assert len(load.told) > AGENTS + USERS


def test_nothing_that_was_acknowledged_is_lost_when_a_server_is_killed_under_load(tmp_path, database, facts):
    state, port = tmp_path / "state", find_port()
    tokens = enrolled(Settings(state, database=database), [f"compute-{number}" for number in range(AGENTS)])
    words = {"port": port, "database": database, "requests_per_min": 0}
    with Load(f"http://127.0.0.1:{port}", tokens, facts) as load:
        for _ in range(KILLS):
            with serving(state, "--auth", "none", **words) as server:
                load.wait_for(random.randint(*BETWEEN))  # noqa: S311 - no secret
                kill(server)
        with serving(state, "--auth", "none", **words) as server:
            load.wait_for(BETWEEN[0])
            assert_kept(load, server)


class Plane:
    """A server of the API, and a conductor that agents reach, over one PostgreSQL."""

    def __init__(self, folder, database):
        self.folder, self.database, self.ports = folder, database, (find_port(), find_port())

    @contextmanager
    def up(self):
        """Both, until one is killed."""
        api, conductor = self.ports
        words = {"database": self.database, "requests_per_min": 0}
        command = ["cyborg-reconciler", "conductor", "--bind", f"127.0.0.1:{conductor}"]
        state = self.folder / "conductor"
        with (
            serving(self.folder / "api", "--auth", "none", "--agents", "elsewhere", port=api, **words) as users,
            running([*command, "--state", str(state)], state, heartbeat_interval_s=1, **words) as agents,
        ):
            yield users, agents


def test_nothing_is_lost_when_api_conductor_and_agent_are_killed_under_load(tmp_path, cluster, facts):
    """Beside the load there is a real agent, on a host that changes while it is away, and its conductor is."""
    write_tree(nic_1(), tmp_path / "nic-1")
    with cluster.journal() as database:
        plane, settings = Plane(tmp_path, database), Settings(tmp_path / "conductor", database=database)
        tokens = enrolled(settings, [f"compute-{number}" for number in range(AGENTS)])
        with open_admission(settings) as operators:
            enrolment = operators.enrol(Caller("operator", Role.ADMIN), "nic-1", timedelta(hours=1))
        urls = [f"http://127.0.0.1:{port}" for port in plane.ports]
        with Load(urls[0], tokens, facts, urls[1]) as load:
            with plane.up() as (users, agents):
                agent = AgentProcess.make(tmp_path / "agent", agents, tmp_path / "nic-1")
                agent.secret("enrolment", enrolment)
                with agent:
                    set_vfs(tmp_path / "nic-1", 1)
                    until(lambda: vfs_told(users, "nic-1") == 1)
                    load.wait_for(random.randint(*BETWEEN))  # noqa: S311 - no secret
                    kill(agents)
                    set_vfs(tmp_path / "nic-1", 2)
                    until(lambda: any((agent.folder / "state/spool").iterdir()))
                load.wait_for(BETWEEN[0])  # users go on
                kill(users)
            set_vfs(tmp_path / "nic-1", 3)
            with plane.up() as (users, _), agent:
                until(lambda: vfs_told(users, "nic-1") == 3)
                load.wait_for(BETWEEN[0])
                assert_kept(load, users)


def test_of_a_check_in_that_is_not_durable_a_kill_takes_when_the_agent_was_heard_and_nothing_else(tmp_path, facts):
    state = tmp_path / "state"
    (token,) = enrolled(Settings(state), ["compute-1"]).values()
    given = {"authorization": f"Bearer {token}"}

    def answered(server, sequence, **more):
        answer = server("POST", "/v1/heartbeat/compute-1", said(sequence, facts["fingerprint"]) | more, **given)
        assert answer.status == 202, answer.data
        return answer.json()["durable"]

    def shown(server):
        (agent,) = server("GET", "/v1/services?type=agent").json()["services"]
        return agent["last_seen_at"], server("GET", "/v1/hosts/compute-1").json()["fingerprint"]

    with serving(state, "--auth", "none", "--workers", "1", save_out_interval_s=3600) as server:
        assert answered(server, 1, facts=facts) is True
        before = shown(server)
        assert answered(server, 2) is False
        kill(server)
    with serving(state, "--auth", "none", "--workers", "1", save_out_interval_s=1) as server:
        assert shown(server) == before
        assert answered(server, 3) is False
        until(lambda: shown(server)[0] > before[0])
        assert shown(server)[1] == before[1]
