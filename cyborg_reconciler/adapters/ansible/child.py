# SPDX-License-Identifier: Apache-2.0
"""The child of a run: ansible-runner, in a process of its own. Started by `run` as ``python -m …child FOLDER``.

Runs the playbook, writes a line of JSON to stdout for each thing that happens, and stops when its stdin ends: the
parent closes it to cancel, and the kernel does when the parent is killed. ansible-runner forks, installs handlers and
may call `sys.exit`; none of that reaches the parent.
"""

import os
import select
import shlex
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import ansible_runner
import msgspec

from cyborg_reconciler.adapters.ansible import processes
from cyborg_reconciler.adapters.ansible.events import Ended, Ending, Message, encode_message, find_reason, parse_event
from cyborg_reconciler.adapters.ansible.folder import ARTIFACTS, HOSTS, Job

PLAYBOOK: Final = "cyborg_reconciler.adapters.ansible.playbook"
#: How often ansible-runner asks whether it should stop.
ASK_EVERY_S: Final = 0.5
#: Lines of Ansible's output to remember for the case that it fails before any host does.
REMEMBERED_LINES: Final = 200


class Stop:
    """Whether the run is to stop, and since when. Ansible gets SIGTERM: its workers survive ansible-runner's SIGKILL.

    Source: ansible-core 2.19: workers call setsid; ansible-playbook ends them when it gets SIGTERM.
    """

    def __init__(self, job: Job) -> None:
        self._deadline_s = time.monotonic() + job.timeout_s
        self._grace_s = job.grace_s
        self._killed_at_s = 0.0
        self.reason: Ending | None = None

    def asked(self) -> bool:
        """Return whether ansible-runner shall kill; before that, ask Ansible to end by itself."""
        if self.reason is None:
            self._look()
            return False
        return time.monotonic() > self._killed_at_s

    def _look(self) -> None:
        if is_closed(sys.stdin.fileno()):
            self.begin("cancelled")
        elif time.monotonic() > self._deadline_s:
            self.begin("timeout")

    def begin(self, reason: Ending) -> None:
        """Ask Ansible to end."""
        self.reason = reason
        self._killed_at_s = time.monotonic() + self._grace_s
        parents = processes.read_parents()
        processes.send([pid for pid, parent in parents.items() if parent == os.getpid()], signal.SIGTERM)


def is_closed(file: int) -> bool:
    """Return whether nobody can write to the pipe *file* any more."""
    readable, _, _ = select.select([file], [], [], 0)
    return bool(readable) and not os.read(file, 1)


class Child:
    """One run of ansible-runner, told line by line."""

    def __init__(self, folder: Path, job: Job, channel: int) -> None:
        self._folder, self._job, self._channel = folder, job, channel
        self._stop = Stop(job)
        self._output: list[str] = []

    def run(self) -> Ended:
        """Run the playbook to its end, and leave nothing of it running."""
        ended = Ended(status="error", said="it was stopped before it began")
        try:
            ended = self._run()
        except SystemExit as exc:
            ended = Ended(status="error", said=f"ansible-runner left with {exc.code}")
        except Exception as exc:  # noqa: BLE001  whatever it is, the parent must hear of it
            ended = Ended(status="error", said=f"{type(exc).__name__}: {exc}")
        finally:
            if self._stop.reason or ended.status == "error":
                processes.end(self._job.run)
        if self._stop.reason:
            return Ended(status=self._stop.reason, rc=ended.rc, said=ended.said)
        return ended

    def _run(self) -> Ended:
        job = self._job
        command = ["-P", "-m", PLAYBOOK, str(os.getpid()), *job.arguments, "--limit", hosts_pattern(), job.playbook]
        runner = ansible_runner.run(
            private_data_dir=str(self._folder),
            project_dir=job.working_folder,
            ident=ARTIFACTS.name,
            binary=sys.executable,
            cmdline=shlex.join(command),
            quiet=True,
            fact_cache_type="memory",
            settings={"pexpect_timeout": ASK_EVERY_S},
            # Else any line that Ansible prints before its first task is a fatal "missing event". One that is really
            # lost leaves its host without a result, and such a host is never taken for converged.
            check_job_event_data=False,
            event_handler=self._on_event,
            status_handler=self._on_status,
            cancel_callback=self._stop.asked,
        )
        status: Ending = "successful" if runner.status == "successful" else "failed"
        return Ended(status=status, rc=runner.rc, said=find_reason(self._output))

    def _on_event(self, event: dict[str, Any]) -> bool:
        """Tell the parent; return False, since nothing of it needs to be on disk."""
        message = parse_event(event)
        if message:
            self._tell(message)
        elif not (event.get("event_data") or {}).get("host"):
            self._output = (self._output + event.get("stdout", "").splitlines())[-REMEMBERED_LINES:]
        return False

    def _on_status(self, status: dict[str, Any], **_more: object) -> None:
        """Remove the file that holds the environment, as soon as it has been written."""
        if status["status"] != "starting":
            with suppress(FileNotFoundError):
                (self._folder / ARTIFACTS / "command").unlink()

    def _tell(self, message: Message) -> None:
        try:
            write_all(self._channel, encode_message(message))
        except BrokenPipeError:
            if not self._stop.reason:
                self._stop.begin("cancelled")


def hosts_pattern() -> str:
    """Return the pattern for the hosts of this run, whose folder is where this process is.

    The path goes through /proc, since the folder's own may hold signs at which Ansible splits patterns, as spaces.
    """
    return f"@/proc/{os.getpid()}/cwd/{HOSTS}"


def write_all(file: int, content: bytes) -> None:
    """Write *content* to a pipe, however long it is."""
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def main(folder: Path) -> None:
    """Do the job that lies in *folder*."""
    os.umask(0o077)
    channel = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not end up between our lines
    job = msgspec.json.decode((folder / "job.json").read_bytes(), type=Job)
    ended = Child(folder, job, channel).run()
    with suppress(BrokenPipeError):
        write_all(channel, encode_message(ended))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
