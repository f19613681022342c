# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the conductor: a real HTTP server that speaks the wire between conductor and agent, and nothing else.

Tests put it up, look at what agents said to it, and have it refuse, ask for things, or go away.
"""

import contextlib
import json
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

#: A busy machine takes its time; nothing is asserted of how much.
PATIENCE_S = 60.0
ENROLMENT, FIRST_TOKEN = "enrol-me", "token-1"
UUID = "6d1c3a52-0df8-4c3d-9f6e-0a4b7f3d8a11"


@dataclass(frozen=True)
class Said:
    """One request: what was said, by which token, and how it was answered."""

    path: str
    token: str
    body: dict[str, Any]
    status: int


@dataclass
class FakeConductor:
    """The conductor of one host.

    Attributes:
        host: how the host is called here; its token is drawn anew with each look-up that gives one.
        interval_s: what agents are told.
        said: every request, in order.
        known: the fingerprint that the host was taken with last, None before.
        latest: the epoch and sequence of the newest check-in.
        refusals: answers to give before anything else, each a status, headers and a problem.
        commands: what the next answer to a check-in asks for.
    """

    host: str = "nic-1"
    interval_s: int = 1
    said: list[Said] = field(default_factory=list)
    known: str | None = None
    latest: tuple[int, int] = (0, 0)
    tokens: set[str] = field(default_factory=set)
    refusals: deque[tuple[int, dict[str, str], str]] = field(default_factory=deque)
    commands: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0
    tls: Any = None

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self.connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None

    # ------------------------------------------------------------------------------------------------------- up, down
    def __enter__(self) -> Self:
        self.come_up()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.go_away()

    def come_up(self) -> None:
        """Listen, on the port of before if there was one."""
        conductor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = PATIENCE_S

            def setup(self) -> None:
                super().setup()
                conductor.connections.add(self.connection)

            def finish(self) -> None:
                conductor.connections.discard(self.connection)
                super().finish()

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
                status, headers, answer = conductor.answer(self.path, token, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                kind = "application/json" if status < 300 else "application/problem+json"
                for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_words: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        if self.tls:
            server.socket = self.tls.wrap_socket(server.socket, server_side=True)
        self.port = server.server_port
        self._server = server
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def go_away(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    # ---------------------------------------------------------------------------------------------------- what it says
    def answer(self, path: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Return the answer to one request, and remember both."""
        with self._changed:
            if self.refusals:
                status, headers, kind = self.refusals.popleft()
                answer = {"type": f"https://problems.invalid/{kind}", "status": status, "detail": "as the test wants"}
            else:
                status, headers, answer = self._answer(path, token, body)
            self.said.append(Said(path, token, body, status))
            self._changed.notify_all()
            return status, headers, answer

    def _answer(self, path: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        welcome: dict[str, Any] = {"host": self.host, "uuid": UUID, "heartbeat_interval": self.interval_s}
        if path == "/v1/lookup":
            if token != ENROLMENT:
                return 401, {}, {"type": "about:blank"}
            if not self.tokens:
                self.tokens.add(FIRST_TOKEN)
                welcome["token"] = FIRST_TOKEN
            return 200, {}, welcome
        if token not in self.tokens:
            return 401, {}, {"type": "about:blank", "detail": "no such token"}
        if path == "/v1/hello":
            return (200, {}, welcome) if set(body) == {"status", "endpoint"} else (400, {}, {"type": "about:blank"})
        if path != f"/v1/heartbeat/{self.host}":
            return 404, {}, {"type": "about:blank"}
        return self._take(body)

    def _take(self, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        place = (body["epoch"], body["sequence"])
        if place <= self.latest:
            return 409, {}, {"type": "https://problems.invalid/stale-check-in"}
        if "facts" not in body and body["fingerprint"] != self.known:
            return 409, {}, {"type": "https://problems.invalid/unknown-fingerprint"}
        self.latest, self.known = place, body["fingerprint"]
        commands, self.commands = self.commands, []
        return 202, {}, {"heartbeat_interval": self.interval_s, "generation": 1, "durable": True, "commands": commands}

    # ---------------------------------------------------------------------------------------------- what tests look at
    def check_ins(self, *, facts: bool | None = None, status: int = 202) -> list[dict[str, Any]]:
        """Return the bodies of the check-ins that were answered so; with *facts* only those with them, or without."""
        found = [each.body for each in self.said if each.path.startswith("/v1/heartbeat/") and each.status == status]
        return [body for body in found if facts is None or ("facts" in body) == facts]

    def wait_for(self, happened: Callable[[], Any]) -> Any:
        """Return what *happened* returns, once that is something."""
        with self._changed:
            assert self._changed.wait_for(happened, PATIENCE_S), self.said[-3:]
            return happened()
