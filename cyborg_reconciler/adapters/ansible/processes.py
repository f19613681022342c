# SPDX-License-Identifier: Apache-2.0
"""Which processes belong to a run, and how are they ended? They carry the run's uuid in their environment.

Called by the child of a run, by the parent after it, and by `settle`. Reads /proc and sends signals.

Ansible's workers make sessions of their own, so neither a process group nor a session holds them all; a process that
became another user cannot be read, and is found as the descendant of one that can.
"""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from cyborg_reconciler.adapters.ansible.environment import MARKER

PROC: Final = Path("/proc")
#: How often the processes of a run are looked for while they are ending.
LOOK_EVERY_S: Final = 0.1
#: How long a process has to end after SIGTERM, and to be gone after SIGKILL.
TERM_S: Final = 2.0
KILL_S: Final = 5.0


def read_parents() -> dict[int, int]:
    """Return the parent of every process that is not a zombie."""
    parents = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                # The name, in parentheses, may hold anything; state and parent follow it. Source: proc(5).
                state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]
                if state not in {b"Z", b"X"}:
                    parents[int(entry.name)] = int(parent)
    return parents


def is_marked(pid: int, run: str) -> bool:
    """Return whether the environment that *pid* was started with names *run*."""
    try:
        return f"{MARKER}={run}".encode() in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def descendants(roots: Collection[int], parents: dict[int, int]) -> Iterator[int]:
    """Yield the processes below *roots*."""
    children = defaultdict(list)
    for pid, parent in parents.items():
        children[parent].append(pid)
    ahead = list(roots)
    while ahead:
        for pid in children[ahead.pop()]:
            yield pid
            ahead.append(pid)


def find(run: str) -> set[int]:
    """Return the processes of *run* that are alive, but for this one."""
    parents = read_parents()
    marked = {pid for pid in parents if pid != os.getpid() and is_marked(pid, run)}
    return (marked | set(descendants(marked, parents))) - {os.getpid()}


def read_command(pid: int) -> str:
    """Return the command line of *pid*, for people."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode("utf-8", "replace").strip()[:120]


def send(pids: Collection[int], number: signal.Signals) -> None:
    """Send a signal to those that are there and are ours."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def wait_gone(run: str, timeout_s: float) -> set[int]:
    """Return the processes of *run* that are left when all are gone or *timeout_s* has passed."""
    deadline_s = time.monotonic() + timeout_s
    while (left := find(run)) and time.monotonic() < deadline_s:
        time.sleep(LOOK_EVERY_S)
    return left


def kill(run: str, timeout_s: float) -> set[int]:
    """Kill the processes of *run*, those too that appear meanwhile, and return what is left after *timeout_s*."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        send(find(run), signal.SIGKILL)
        time.sleep(LOOK_EVERY_S)
        # Twice, since one that is just about to become another program shows no environment.
        if not find(run) and not find(run):
            return set()
    return find(run)


def end(run: str, *, wait_s: float = 0.0) -> set[int]:
    """End the processes of *run*, after giving them *wait_s* to end by themselves, and return those that would not."""
    if left := wait_gone(run, wait_s):
        send(left, signal.SIGTERM)
        wait_gone(run, TERM_S)
    return kill(run, KILL_S)


def is_connection(pid: int) -> bool:
    """Return whether *pid* is ssh keeping a connection for the next run. Source: OpenSSH, mux.c, setproctitle."""
    command = read_command(pid)
    return command.startswith("ssh: ") and command.endswith("[mux]")


def kill_stragglers(run: str) -> None:
    """Kill what a task that took too long has left of a *run* that ended by itself; connections are kept."""
    deadline_s = time.monotonic() + KILL_S
    while (left := [pid for pid in find(run) if not is_connection(pid)]) and time.monotonic() < deadline_s:
        send(left, signal.SIGKILL)
        time.sleep(LOOK_EVERY_S)
