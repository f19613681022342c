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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import urllib3

from cyborg_reconciler.documents.rest.base import Problem
from cyborg_reconciler_api import openapi
from cyborg_reconciler_api.app import all_operations, full_path

#: What gunicorn says once it can be reached.
LISTENING = re.compile(r"Listening at: (http://127\.0\.0\.1:\d+)")


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


def check_is_told(method: str, path: str, answer: urllib3.BaseHTTPResponse) -> None:
    """Check that the operation says of itself that it answers so: whatever a test asks, the reference is right."""
    asked = full_path(urlsplit(path).path.rstrip("/") or "/")
    found = [(route, one) for route, name, one in all_operations() if name == method and matches(route, asked)]
    for route, one in sorted(found, key=lambda match: match[0].count("{"))[:1]:
        told = {**openapi.successes(method, one), **openapi.causes(route, one)}
        assert answer.status in told, f"{method} {route} does not say that it answers {answer.status}"
        if answer.status == one.success and one.answer is not None:
            one.answer.model_validate_json(answer.data)


def matches(route: str, path: str) -> bool:
    """Return whether *route* is that of *path*."""
    return bool(re.fullmatch(re.sub(r"{\w+}", "[^/]+", route), path))


@contextmanager
def serving(state: Path, *arguments: str, **variables: str) -> Iterator[Server]:
    """Yield a server over the state folder *state*; it has ended when the block is left, and its log lies beside it.

    *variables*: of its environment.
    """
    command = [str(Path(sys.executable).parent / "cyborg-reconciler"), "serve", "--bind", "127.0.0.1:0"]
    environ = {**os.environ, "HOME": str(state.parent), "XDG_CONFIG_HOME": str(state.parent / "config"), **variables}
    with Path(f"{state}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*command, "--state", str(state), *arguments], stderr=subprocess.PIPE, text=True, env=environ
        )
        told: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_copy, args=(process, log, told))
        reader.start()
        try:
            yield Server(told.get(timeout=120), process)
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
    process.stderr.close()


def problem(answer, status):
    """The problem that was answered, which must have *status*."""
    assert answer.status == status, answer.data
    assert answer.headers["Content-Type"] == "application/problem+json"
    found = Problem.model_validate(answer.json())
    assert (found.status, found.request_id) == (status, answer.headers["X-Openstack-Request-Id"])
    return found
