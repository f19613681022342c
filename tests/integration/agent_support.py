# SPDX-License-Identifier: Apache-2.0
"""An agent as a process of its own, with a folder for its settings and its state, on a simulated host.

Used by the stories in `test_agent_*`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import urllib3

from cyborg_reconciler.port_credentials import port_credential, port_digest
from tests.integration.fake_conductor import ENROLMENT, PATIENCE_S, FakeConductor

PROGRAM = (sys.executable, "-c", "from cyborg_reconciler.cli import main; main()")
#: Of what the conductor makes what opens agents' ports, and what that is for `nic-1`.
SECRET = "5ecret" * 6
CREDENTIAL = port_credential(SECRET, "nic-1")
#: What a user of the environment may have set, and a test must not meet.
QUIET = {name: text for name, text in os.environ.items() if not name.startswith("CYBORG_")}


ITEM = {
    "uuid": "8e45a2ea-5364-4b0d-a252-bf8becaa606e",
    "acc_specs": {"remote": 0, "num": 1, "device_type": "CRYPTO", "acc_capability": {"num": 1, "ipsec": {}}},
    "acc_status": {"setup_required": True, "reboot_required": False},
}
#: How a driver answers that does what it is told: by method and path, a status, headers and a body.
OBEDIENT: dict[tuple[str, str], tuple[int, dict[str, str], bytes]] = {
    ("POST", "/discovery"): (202, {}, b'{"status": "IN-PROGRESS"}'),
    ("GET", "/hardware"): (200, {}, json.dumps({"hardware": [ITEM]}).encode()),
}


class FakeDriver:
    """A driver outside the agent: a real HTTP server that answers as a story wants it.

    Attributes:
        asked: what it was asked: method, path, and the credential that was shown.
        told: the bodies that were not empty.
    """

    def __init__(self, answers: dict[tuple[str, str], tuple[int, dict[str, str], bytes]] = OBEDIENT) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.told: list[Any] = []
        self._changed = threading.Condition()
        driver = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                told = self.rfile.read(int(self.headers["Content-Length"] or 0))
                with driver._changed:
                    driver.told += [json.loads(told)] if told else []
                    driver.asked.append((self.command, self.path, self.headers["Authorization"]))
                    driver._changed.notify_all()
                status, headers, body = answers[self.command, self.path]
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer  # noqa: N815 - as http.server has it

            def log_message(self, *_words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def wait_for(self, method: str, path: str, times: int = 1) -> None:
        """Wait until it was asked that so often."""
        with self._changed:
            said = lambda: [each[:2] for each in self.asked].count((method, path)) >= times  # noqa: E731 - one line
            assert self._changed.wait_for(said, PATIENCE_S), self.asked


class AgentProcess:
    """One agent. A context manager: ended with it, whatever it is at.

    Attributes:
        folder: of its settings and its state.
        lines: what it wrote, line by line.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.lines = folder, list[str]()
        self._process: subprocess.Popen[str] | None = None
        self._said = threading.Condition()

    @classmethod
    def make(cls, folder: Path, conductor: FakeConductor, root: Path, **settings: object) -> Self:
        """Make the folder of an agent on the simulated host at *root*."""
        folder.mkdir(exist_ok=True)
        agent = cls(folder)
        values = {
            "conductor": conductor.url,
            "enrolment_file": agent.secret("enrolment", ENROLMENT),
            "conductor_digest_file": agent.secret("digest", port_digest(CREDENTIAL)),
            "state_dir": folder / "state",
            "bind": "127.0.0.1:0",
            "poll_interval_s": 0.1,
            "spread_s": 0.01,
            "root": root,
        } | settings
        text = "".join(f"{name} = {_toml(value)}\n" for name, value in values.items())
        (folder / "agent.toml").write_text(text)
        return agent

    def secret(self, name: str, text: str, mode: int = 0o600) -> Path:
        """Write a secret and return its file."""
        path = self.folder / name
        path.write_text(text + "\n")
        path.chmod(mode)
        return path

    def __enter__(self) -> Self:
        return self if self._process else self.start()

    def __exit__(self, *_exc: object) -> None:
        self.kill()

    def start(self, program: Sequence[str] = PROGRAM, *, wrapped: Sequence[str] = ()) -> Self:
        """Start it."""
        command = [*wrapped, *program, "agent", "--config", str(self.folder / "agent.toml")]
        self._process = subprocess.Popen(command, env=QUIET, stderr=subprocess.PIPE, text=True, cwd=self.folder)
        threading.Thread(target=self._follow, args=(self._process,), daemon=True).start()
        return self

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr
        with process.stderr as stream:
            for line in stream:
                with self._said:
                    self.lines.append(line.rstrip("\n"))
                    self._said.notify_all()

    def wait_for_line(self, pattern: str) -> "re.Match[str]":
        """Return the first line that matches *pattern*, once there is one."""

        def found() -> "re.Match[str] | None":
            return next(filter(None, (re.search(pattern, line) for line in self.lines)), None)

        with self._said:
            assert self._said.wait_for(found, PATIENCE_S), self.lines
        match = found()
        assert match
        return match

    @property
    def process(self) -> "subprocess.Popen[str]":
        assert self._process
        return self._process

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process:
            self._process.kill()
            self._process.wait(PATIENCE_S)
        self._process = None

    def end(self) -> int:
        """Tell it to end, and return its exit code."""
        process, self._process = self.process, None
        process.terminate()
        return process.wait(PATIENCE_S)

    # ------------------------------------------------------------------------------------------------ its internal API
    @property
    def port(self) -> int:
        """Where its internal API listens, once it does."""
        return int(self.wait_for_line(r"answers on \S+ port (\d+)")[1])

    def ask(self, method: str, path: str, *, credential: str | None = CREDENTIAL, **more: Any) -> "Reply":
        """Ask its internal API; *tls* is how, the rest of *more* goes to urllib3."""
        headers = dict(more.pop("headers", {}))
        if credential:
            headers["Authorization"] = f"Bearer {credential}"
        tls = more.pop("tls", None)
        scheme = "https" if tls else "http"
        with urllib3.PoolManager(retries=False, timeout=PATIENCE_S, ssl_context=tls) as pool:
            return Reply(pool.request(method, f"{scheme}://127.0.0.1:{self.port}{path}", headers=headers, **more))


class Reply:
    """What the internal API answered."""

    def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
        self.status, self.headers, self.text = answer.status, answer.headers, answer.data.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def _toml(value: object) -> str:
    return str(value) if isinstance(value, int | float) else json.dumps(str(value))
