# SPDX-License-Identifier: Apache-2.0
"""The API as its users meet it: `cyborg-reconciler serve` in a process of its own, reached over HTTP."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import urllib3

from cyborg_reconciler.bootstrap import SystemClock, open_stores
from cyborg_reconciler.conductor.admission import Admission
from cyborg_reconciler.conductor.agents import Agents
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.credentials import Credentials
from cyborg_reconciler.conductor.saving import SaveOut, Saver
from cyborg_reconciler.documents.rest.agent import InventoryGiven, LookupGiven
from cyborg_reconciler.documents.rest.base import Problem
from cyborg_reconciler.ports import Clock
from cyborg_reconciler.settings import PREFIX, Settings
from cyborg_reconciler.stores.credentials import RoleName
from cyborg_reconciler_api import openapi
from cyborg_reconciler_api.app import all_operations, full_path

#: What gunicorn says once it can be reached.
LISTENING = re.compile(r"Listening at: (https?://(127\.0\.0\.1|\[::1\]):\d+)")


@dataclass
class Server:
    """A server that runs.

    Attributes:
        headers: sent with every request.
    """

    url: str
    process: subprocess.Popen[str]
    headers: dict[str, str] = field(default_factory=dict)
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(maxsize=64, retries=False))

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> urllib3.BaseHTTPResponse:
        """Send a request, and return the answer; *body* goes as JSON, and bytes as they are."""
        # A connection that is kept may just be closed by the server when it is used again.
        sent = {
            "connection": "close",
            **self.headers,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if body is not None:
            sent.setdefault("content-type", "application/json")
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.pool.request(method, self.url + path, body=data, headers=sent, timeout=60)
        check_is_told(method, path, answer)
        return answer

    def called_by(self, token: str) -> "Server":
        """Return the same server, with *token* in every request."""
        return replace(self, headers={**self.headers, "authorization": f"Bearer {token}"})


def check_is_told(method: str, path: str, answer: urllib3.BaseHTTPResponse) -> None:
    """Check that the operation says of itself that it answers so: whatever a test asks, the reference is right."""
    asked = full_path(urlsplit(path).path.rstrip("/") or "/")
    found = [(route, one) for route, name, one in all_operations() if name == method and matches(route, asked)]
    for route, one in sorted(found, key=lambda match: match[0].count("{"))[:1]:
        told = {**openapi.successes(method, one), **openapi.causes(route, method, one)}
        assert answer.status in told, f"{method} {route} does not say that it answers {answer.status}"
        if answer.status == one.success and one.answer is not None:
            one.answer.model_validate_json(answer.data)


def matches(route: str, path: str) -> bool:
    """Return whether *route* is that of *path*."""
    return bool(re.fullmatch(re.sub(r"{\w+}", "[^/]+", route), path))


def make_token(
    state: Path, name: str, role: RoleName = "admin", lifetime: timedelta | None = None, clock: Clock | None = None
) -> str:
    """Return a new token for the server over *state*, of a project called as it is."""
    with open_stores(Settings(state_dir=state)) as stores:
        kept = Credentials(stores.credentials, clock or SystemClock())
        return kept.create(Caller("tests", Role.ADMIN), name, role, f"project-{name}", lifetime)[1]


def enrol_agent(settings: Settings, host: str) -> str:
    """Return the token of an agent of *host* that has just looked itself up, in the database of *settings*."""
    with open_stores(settings) as stores:
        clock = SystemClock()
        agents = Agents(stores.agents, Saver(stores.agents, SaveOut()), clock)
        minted = Admission(stores.agents, clock).enrol(Caller("tests", Role.ADMIN), host, timedelta(hours=1))
        given = LookupGiven(agent_version="0.1.0", inventory=InventoryGiven(hostname=host))
        token = agents.look_up(agents.enroller(minted), given)[0].token
    assert token
    return token


@contextmanager
def serving(state: Path, *arguments: str, port: int = 0, **settings: object) -> Iterator[Server]:
    """Yield a server over the state folder *state*; it has ended when the block is left, and its log lies beside it.

    It has a worker where there are policies among its *arguments*.
    """
    without = [] if "--policies" in arguments else ["--no-worker"]
    command = ["cyborg-reconciler", "serve", "--bind", f"127.0.0.1:{port}", "--state", str(state), *without, *arguments]
    with running(command, state, **settings) as server:
        yield server


@contextmanager
def running(command: list[str], state: Path, **settings: object) -> Iterator[Server]:
    """Yield the server that the program *command* of our environment starts, with *settings* in its environment."""
    environ = {**os.environ, "HOME": str(state.parent), "XDG_CONFIG_HOME": str(state.parent / "config")}
    environ |= {name if name.isupper() else PREFIX + name.upper(): str(value) for name, value in settings.items()}
    program = str(Path(sys.executable).parent / command[0])
    with Path(f"{state}.log").open("w", encoding="utf-8") as log:
        command = [program, *command[1:]]
        # A group of its own, so that all its processes can be killed at once.
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ, process_group=0)
        told: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_copy, args=(process, log, told))
        reader.start()
        try:
            url = told.get(timeout=120)
            assert url, Path(f"{state}.log").read_text(encoding="utf-8")
            yield Server(url, process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)
            reader.join()


def _copy(process: subprocess.Popen[str], log: TextIO, told: "queue.Queue[str]") -> None:
    """Copy what the server says into *log*, and tell where it listens."""
    assert process.stderr is not None
    for line in process.stderr:
        log.write(line)
        log.flush()
        found = LISTENING.search(line)
        if found:
            told.put(found[1])
    told.put("")
    process.stderr.close()


def problem(answer, status):
    """The problem that was answered, which must have *status*."""
    assert answer.status == status, answer.data
    assert answer.headers["Content-Type"] == "application/problem+json"
    found = Problem.model_validate(answer.json())
    assert (found.status, found.request_id) == (status, answer.headers["X-Openstack-Request-Id"])
    return found


def race(server: Server, path: str) -> list[int]:
    """The statuses that fifty get who update the accelerator at *path* at once, having all read one version of it.

    It has one unit, and each says that it has another number of them.
    """
    tag = server("GET", path).headers["ETag"]
    together = threading.Barrier(50)

    def write(number: int) -> int:
        together.wait()
        return server("PUT", f"{path}/num", {"num": number + 2}, if_match=tag).status

    with ThreadPoolExecutor(50) as pool:
        return sorted(pool.map(write, range(50)))


def until(is_so: Callable[[], Any], timeout_s: float = 120.0) -> None:
    """Wait until *is_so*: asked again and again, since no event tells of it."""
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not come to that"
        time.sleep(0.1)
