# SPDX-License-Identifier: Apache-2.0
"""An operator at the command line, with simulated hosts: policies, an inventory, a state folder, and the commands.

Used by the stories in `test_cli_*`. Commands run in this process, through the same `main` as the installed program;
those that are to be killed or told to stop run in one of their own.
"""

import contextlib
import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cyborg_reconciler.cli import main
from cyborg_reconciler.simulation import Machine, SimulatedHost, SimulatedHosts

PROGRAM = Path(sys.executable).with_name("cyborg-reconciler")

#: A command with Ansible in it takes seconds, and on a busy machine a minute.
TERMINAL_TIMEOUT_S = 300.0

#: What a user of the environment may have set, and a test must not meet.
QUIET = {
    **{
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("CYBORG_", "ANSIBLE_", "XDG_")) and name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}
    },
    "XDG_CONFIG_HOME": "/nonexistent",
}

#: Selects nothing: with it alone everything goes back, where no policy at all would prune nothing.
NOTHING = {"device_selector": {"vendor_id": "ffff"}, "sriov": {"num_vfs": 1}}


@dataclass
class Answer:
    """What a command said."""

    code: int
    output: str
    errors: str

    @property
    def data(self) -> Any:
        """The JSON that it wrote."""
        return json.loads(self.output)

    @property
    def last_error(self) -> str:
        """The one line in which it says what is wrong."""
        lines = [line for line in self.errors.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.errors
        assert "Traceback" not in self.errors
        return lines[0].removeprefix("error: ")

    def host(self, name: str) -> dict[str, Any]:
        """One host of a plan or an apply."""
        return next(host for host in self.data["hosts"] if host["host"] == name)

    def waits(self, name: str) -> dict[str, str]:
        """The reasons for which a host waits, with their messages."""
        return {wait["reason"]: wait["message"] for wait in self.host(name)["waits"]}

    def steps(self, name: str) -> dict[str, str]:
        """What was tried on a host: how each step ended."""
        return {step["id"]: step["status"] for step in self.host(name).get("steps", [])}


@contextlib.contextmanager
def quiet_environment() -> Iterator[None]:
    """Have an environment in which nobody has set anything that concerns us."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(QUIET)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def call(*words: object) -> Answer:
    """Type a command with just these words."""
    output, errors = io.StringIO(), io.StringIO()
    with quiet_environment(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main([str(word) for word in words])
            code: object = 0
        except SystemExit as exc:
            code = exc.code
    assert isinstance(code, int)
    return Answer(code, output.getvalue(), errors.getvalue())


class Terminal:
    """A command on a terminal of its own, and the person before it.

    Attributes:
        code: what it exited with, once it has been read to the end.
    """

    def __init__(self, process: subprocess.Popen[bytes], controller: int) -> None:
        self._process, self._controller = process, controller
        self.code: int | None = None

    def type(self, text: str) -> None:
        """Type *text*."""
        os.write(self._controller, text.encode())

    def _read(self) -> Iterator[str]:
        """Yield what it writes, as long as it does."""
        deadline_s = time.monotonic() + TERMINAL_TIMEOUT_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            readable, _, _ = select.select([self._controller], [], [], left_s)
            try:
                yield os.read(self._controller, 4096).decode("utf-8", "replace") if readable else ""
            except OSError:  # how Linux ends a terminal to which nobody writes any more
                return
        message = f"it goes on after {TERMINAL_TIMEOUT_S} s"
        raise TimeoutError(message)

    def read_until(self, words: str) -> str:
        """Return what it writes up to *words*."""
        text = ""
        for more in self._read():
            text += more
            if words in text:
                return text
        message = f"it ended without a word of {words}: {text}"
        raise EOFError(message)

    def read_to_the_end(self) -> str:
        """Return the rest of what it writes."""
        text = "".join(self._read())
        self.code = self._process.wait(TERMINAL_TIMEOUT_S)
        return text


@contextlib.contextmanager
def on_a_terminal(words: Sequence[object], **environ: str) -> Iterator[Terminal]:
    """Start a command on a terminal; what still runs at the end of the block is killed."""
    controller, terminal = pty.openpty()
    try:
        process = subprocess.Popen(
            [PROGRAM, *map(str, words)],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**QUIET, "TERM": "xterm", **environ},
        )
    finally:
        os.close(terminal)
    try:
        yield Terminal(process, controller)
    finally:
        process.kill()
        process.wait()
        os.close(controller)


class Console:
    """The operator's folder, and what he types."""

    def __init__(self, folder: Path, hosts: SimulatedHosts) -> None:
        self.folder, self.hosts = folder, hosts
        self.policies, self.state = folder / "policies", folder / "state"
        self.policies.mkdir()
        self.inventory = hosts.inventory_path

    def __getitem__(self, name: str) -> SimulatedHost:
        return self.hosts[name]

    # ----------------------------------------------------------------------------------------------------- declarations
    def declare(self, name: str, **spec: object) -> None:
        """Declare a policy for all hosts; one of that name is replaced."""
        self._write(name, "AcceleratorPolicy", {"host_selector": {"groups": ["all"]}, **spec})

    def declare_pool(self, **spec: object) -> None:
        """Declare the pool of all hosts."""
        self._write("pool", "RolloutPool", {"host_selector": {"groups": ["all"]}, **spec})

    def undeclare(self, *names: str) -> None:
        """Take policies away."""
        for name in names:
            (self.policies / f"{name}.yml").unlink()

    def _write(self, name: str, kind: str, spec: dict[str, object]) -> None:
        document = {"api_version": "cyborg/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        text = io.StringIO()
        YAML().dump(document, text)
        # In one step: a loop that watches the folder never reads half of it.
        (self.policies / f".{name}").write_text(text.getvalue())
        (self.policies / f".{name}").rename(self.policies / f"{name}.yml")

    def add_host(self, name: str, **variables: object) -> None:
        """Add a host to the inventory, with what Ansible is to know of it."""
        document = json.loads(self.inventory.read_text())
        document["all"]["hosts"][name] = variables
        self.inventory.write_text(json.dumps(document))

    # --------------------------------------------------------------------------------------------------------- commands
    def words(self, verb: str, *more: object) -> list[str]:
        """Return the words of a command on all hosts."""
        hosts = ["-i", self.inventory, *([] if verb in {"observe", "export"} else ["-p", self.policies])]
        return [str(word) for word in (verb, *hosts, "--state", self.state, *more)]

    def type(self, verb: str, *more: object) -> Answer:
        """Type a command for people."""
        return call(*self.words(verb, *more))

    def plan(self, *more: object) -> Answer:
        """Type `plan` for a program."""
        return self.type("plan", "--output", "json", *more)

    def apply(self, *more: object) -> Answer:
        """Type `apply --yes` for a program."""
        return self.type("apply", "--yes", "--output", "json", *more)

    def must_apply(self, *more: object) -> Answer:
        """Type `apply --yes`, which is to end with every host verified."""
        answer = self.apply(*more)
        assert answer.code == 0, f"exit code {answer.code}\n{answer.output}\n{answer.errors}"
        return answer

    def memory(self, verb: str, *more: object) -> Any:
        """Type `status` or `history`, which ask the journal alone, and return what they say to programs."""
        answer = call(verb, "--state", self.state, "--output", "json", *more)
        assert answer.code == 0, answer.errors
        return answer.data

    def status(self, host: str) -> dict[str, Any]:
        """Return what the journal says of a host."""
        return self.memory("status", host)[0]

    @contextlib.contextmanager
    def process(self, verb: str, *more: object, **environ: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command in a process of its own; what still runs at the end of the block is killed."""
        with (self.folder / f"{verb}.log").open("w") as log:
            started = subprocess.Popen(
                [str(PROGRAM), *self.words(verb, *more)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self.folder,
                env={**QUIET, "NO_COLOR": "1", **environ},
            )
        try:
            yield started
        finally:
            started.kill()
            started.wait()

    def log(self, verb: str) -> str:
        """Return what a command that was started as a process has said so far."""
        return (self.folder / f"{verb}.log").read_text()


@contextlib.contextmanager
def open_console(folder: Path, *machines: Machine) -> Iterator[Console]:
    """Give a console with *machines* up."""
    with SimulatedHosts(folder / "hosts", machines) as hosts:
        yield Console(folder, hosts)


def snapshot(host: SimulatedHost, *places: str) -> dict[str, str]:
    """Return the files and links of a host below *places*, with what is in them."""
    found = {}
    for place in places:
        for path in sorted((host.root / place.lstrip("/")).rglob("*")):
            name = str(path.relative_to(host.root))
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file():
                found[name] = path.read_bytes().decode("utf-8", "replace")
    return found
