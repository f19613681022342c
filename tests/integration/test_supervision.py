# SPDX-License-Identifier: Apache-2.0
"""A server and a worker that are started, started again, told and ended together: with real processes and signals."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cyborg_reconciler.adapters.ansible import processes
from tests.integration.ansible_support import wait_until

#: Supervises two shell scripts; what they do is noted in files of the folder that it is given.
SUPERVISOR = """
import os, sys
from cyborg_reconciler.cli.supervision import start, supervise
server, worker = (["sh", "-c", script] for script in sys.argv[1:])
say = lambda text: print(text, flush=True)
sys.exit(supervise(lambda: start(server, os.environ), lambda: start(worker, os.environ, alone=True), say))
"""
#: Notes what comes, and ends when told to. What sleeps is a process of its own, so that signals are heard at once.
PATIENT = """
trap 'echo hup >> {name}' HUP
trap 'echo term >> {name}; exit {code}' TERM
echo up >> {name}
while :; do sleep 1 > /dev/null & wait $!; done
"""
HASTY = "echo up >> worker; exit 3"


class Pair:
    def __init__(self, folder: Path, worker: str, *wrapped: str) -> None:
        self.folder = folder
        server = PATIENT.format(name="server", code=7)
        command = [*wrapped, sys.executable, "-c", SUPERVISOR, server, worker]
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )

    def said_by(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def wait_for(self, name: str, *words: str) -> None:
        wait_until(lambda: self.said_by(name) == list(words))

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture
def pair(tmp_path: Path, request: pytest.FixtureRequest):
    started = Pair(tmp_path, getattr(request, "param", PATIENT.format(name="worker", code=0)))
    yield started
    started.process.kill()
    started.process.communicate()


def test_both_end_when_they_are_told_to_and_the_servers_code_is_passed_on(pair: Pair) -> None:
    for name in ("server", "worker"):
        pair.wait_for(name, "up")
    assert pair.end() == 7
    assert pair.said_by("server") == pair.said_by("worker") == ["up", "term"]


def test_a_worker_that_is_to_read_its_settings_anew_is_started_at_once_and_the_server_is_told(pair: Pair) -> None:
    for name in ("server", "worker"):
        pair.wait_for(name, "up")
    pair.process.send_signal(signal.SIGHUP)
    pair.wait_for("server", "up", "hup")
    pair.wait_for("worker", "up", "term", "up")
    pair.end()
    assert pair.process.stdout is not None
    assert pair.process.stdout.read() == ""


def test_what_whoever_started_them_had_ignored_is_heard_all_the_same(tmp_path: Path) -> None:
    pair = Pair(tmp_path, PATIENT.format(name="worker", code=0), "nohup")
    try:
        for name in ("server", "worker"):
            pair.wait_for(name, "up")
        pair.process.send_signal(signal.SIGHUP)
        pair.wait_for("server", "up", "hup")
        assert pair.end() == 7
    finally:
        pair.process.kill()
        pair.process.communicate()


@pytest.mark.parametrize("pair", [HASTY], indirect=True)
def test_a_worker_that_ends_by_itself_is_started_again_after_longer_and_longer(pair: Pair) -> None:
    pair.wait_for("worker", "up", "up")
    pair.end()
    assert pair.process.stdout is not None
    told = pair.process.stdout.read().splitlines()
    assert told == [f"the worker ended with 3; it is started again in {seconds} s" for seconds in (1, 2)]


def test_the_worker_ends_with_a_server_that_ends_by_itself(pair: Pair) -> None:
    for name in ("server", "worker"):
        pair.wait_for(name, "up")
    children = [pid for pid, parent in processes.read_parents().items() if parent == pair.process.pid]
    server = next(pid for pid in children if "server" in processes.read_command(pid))
    processes.send([server], signal.SIGKILL)
    assert pair.process.wait(60) == -signal.SIGKILL % 256
    assert pair.said_by("worker") == ["up", "term"]
