# SPDX-License-Identifier: Apache-2.0
"""How is a playbook run, watched, cancelled, and cleaned up after? The parent's half; `child` is the other.

Called by observer and executor. Starts a process, reads what it says, and sees to it that nothing is left running.
"""

import os
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, Self

import msgspec

from cyborg_reconciler.adapters.ansible import processes
from cyborg_reconciler.adapters.ansible.environment import run_environment
from cyborg_reconciler.adapters.ansible.events import Ended, HostEvent, Message, decode_message, one_line
from cyborg_reconciler.adapters.ansible.folder import Job, close_folder, find_unfinished, make_folder
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions
from cyborg_reconciler.errors import ExecutionError

CHILD: Final = "cyborg_reconciler.adapters.ansible.child"
#: What the child needs beyond Ansible's grace to end what is left, before it is ended itself.
CHILD_S: Final = processes.TERM_S + processes.KILL_S + 5.0
READ_BYTES: Final = 1 << 16
#: Of the child's last words: what comes last matters most.
STDERR_CHARACTERS: Final = 400


class Run:
    """One run of a playbook on *hosts*. A context manager: once it is left, by whatever means, nothing is running."""

    def __init__(
        self,
        options: AnsibleOptions,
        playbook: str,
        hosts: Sequence[str],
        *,
        timeout_s: float,
        variables: Mapping[str, Any],
    ) -> None:
        name = uuid.uuid4().hex
        self._options, self._folder = options, options.runs / name
        arguments = [*options.inventory_arguments(), "--forks", str(options.forks)]
        arguments += ["--extra-vars", f"@{self._folder / 'variables.json'}"]
        self._job = Job(
            run=name,
            working_folder=str(options.folder),
            playbook=playbook,
            arguments=arguments,
            timeout_s=timeout_s,
            grace_s=options.grace_s,
        )
        self._hosts, self._variables = list(hosts), dict(variables)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = -1
        self.ended: Ended | None = None
        self.all_well = False

    def __enter__(self) -> Self:
        """Start the child.

        Raises:
            ExecutionError: it cannot be started.
        """
        self._lock = make_folder(self._folder, self._job, self._hosts, self._variables)
        options = self._options
        try:
            with (self._folder / "stderr").open("ab") as stderr:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", CHILD, str(self._folder)],
                    cwd=self._folder,
                    env=run_environment(options.environ, options.folder, self._folder),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    bufsize=0,
                    start_new_session=True,  # the terminal's Ctrl-C is the parent's to handle
                )
        except OSError as exc:
            close_folder(self._folder, "error", keep=False)
            os.close(self._lock)
            raise ExecutionError(wanted="a process for ansible-runner", found=str(exc)) from exc
        return self

    def cancel(self) -> None:
        """Ask the child to stop; its last words come as ever. May be called from another thread."""
        if self._process and self._process.stdin:
            with suppress(OSError):
                self._process.stdin.close()

    def messages(self) -> Iterator[HostEvent]:
        """Yield what happens, as it happens; `ended` is set after the last."""
        assert self._process  # noqa: S101  the class is a context manager
        assert self._process.stdout  # noqa: S101  it was started with a pipe
        deadline_s = time.monotonic() + self._job.timeout_s + self._job.grace_s + CHILD_S
        for line in read_lines(self._process.stdout, deadline_s):
            message = self._decode(line)
            if isinstance(message, Ended):
                self.ended = message
            else:
                yield message
        if self.ended is None and time.monotonic() >= deadline_s:
            self.ended = Ended(status="timeout", said="its process would not stop, and was killed")
        elif self.ended is None:
            self.ended = Ended(status="error", said=self._read_stderr() or "its process ended without a word")

    def _decode(self, line: bytes) -> Message:
        try:
            return decode_message(line)
        except msgspec.MsgspecError as exc:
            return Ended(status="error", said=f"its process wrote what nobody can read: {exc}")

    def _read_stderr(self) -> str:
        text = (self._folder / "stderr").read_text(encoding="utf-8", errors="replace")
        return one_line(text[-STDERR_CHARACTERS:])

    def __exit__(self, *_exc: object) -> None:
        """Stop what still runs, and leave no secret behind."""
        self.cancel()
        if self.ended is None and self._process and self._process.stdout:
            self._process.stdout.close()  # nobody reads it any more: the child must not wait for that
        try:
            self._wait()
        finally:
            status = self.ended.status if self.ended else "cancelled"
            if status == "failed":
                processes.kill_stragglers(self._job.run)
            elif status != "successful":
                processes.end(self._job.run)
            close_folder(self._folder, status, keep=not (self.all_well and status == "successful"))
            os.close(self._lock)

    def _wait(self) -> None:
        """Wait for the child, and end it when it takes too long."""
        assert self._process  # noqa: S101  the class is a context manager
        with self._process:
            try:
                self._process.wait(self._options.grace_s + CHILD_S)
            except subprocess.TimeoutExpired:
                processes.end(self._job.run)
                self._process.kill()


def read_lines(pipe: IO[bytes], deadline_s: float) -> Iterator[bytes]:
    """Yield the lines that come through *pipe*, until its end, or *deadline_s* on the monotonic clock."""
    waiting = b""
    while (left_s := deadline_s - time.monotonic()) > 0:
        readable, _, _ = select.select([pipe], [], [], left_s)
        if not readable:
            return
        read = os.read(pipe.fileno(), READ_BYTES)
        if not read:
            return
        *lines, waiting = (waiting + read).split(b"\n")
        yield from lines


def settle(runs: Path, wait_s: float) -> None:
    """End what runs of an earlier process left behind, after giving it *wait_s* to end by itself.

    Raises:
        ExecutionError: something would not end.
    """
    for folder in find_unfinished(runs):
        left = processes.end(folder.name, wait_s=wait_s)
        if left:
            names = "; ".join(f"{pid} ({processes.read_command(pid)})" for pid in sorted(left))
            raise ExecutionError(
                wanted="nothing of an earlier run at work", found=f"process {names}", remedy="wait for it, or end it"
            )
        close_folder(folder, "interrupted", keep=True)
