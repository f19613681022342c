# SPDX-License-Identifier: Apache-2.0
"""What does a command cost, in CPU seconds and in memory, and what does this process hold?

Called by the rows. Does I/O: starts processes, reads /proc. CPU seconds are those of the whole tree of processes: what
the command used and what it waited for. Never wall time, which says more of the machine's other work than of ours.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
LAUNCHER: Final = Path(__file__).with_name("launcher.py")
ANSIBLE_FOLDER: Final = Path(__file__).with_name("ansible")
KIB_PER_MB: Final = 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of a command and its processes; memory of the largest of them at its peak."""

    cpu_s: float
    peak_mb: float


class CommandFailedError(Exception):
    """A command that was to be measured failed: there is nothing to measure. Its text holds what it printed."""


def environment() -> dict[str, str]:
    """Return the environment of what is measured: ours, without what the user has set for Ansible and for bytecode."""
    unwanted = ("ANSIBLE_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return kept | {
        "PATH": path,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "collections")]),
        "ANSIBLE_CONFIG": str(ANSIBLE_FOLDER / "ansible.cfg"),
    }


def measure(command: Sequence[str], folder: Path, extra: Mapping[str, str] | None = None) -> Cost:
    """Run *command* in *folder* and return what it cost. Raises: CommandFailedError."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        answer = Path(place, "answer.json")
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(LAUNCHER), str(answer), *command],
            cwd=folder,
            env=environment() | dict(extra or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CommandFailedError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return Cost(**json.loads(answer.read_text(encoding="utf-8")))


def least(costs: Sequence[Cost]) -> Cost:
    """Return the least of several measurements of one thing: what else the machine does can only add to them."""
    return Cost(min(cost.cpu_s for cost in costs), min(cost.peak_mb for cost in costs))


def in_turns(things: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, Cost]:
    """Measure each of *things* once a round, so that what else the machine does meets all of them alike."""
    costs: dict[str, list[Cost]] = {name: [] for name in things}
    for _ in range(rounds):
        for name, thing in things.items():
            costs[name].append(thing())
    return {name: least(several) for name, several in costs.items()}


def call(module: str, request: Mapping[str, Any], folder: Path, within: Sequence[str] = ()) -> dict[str, Any]:
    """Run the Python *module* in a process of its own, give it *request* as JSON, and return what it answers.

    *within*: the words of a program that runs it. Raises: CommandFailedError.
    """
    done = subprocess.run(
        [*within, sys.executable, "-m", module],
        cwd=folder,
        env=environment(),
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandFailedError(f"python -m {module}: exit {done.returncode}\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# --------------------------------------------------------------------------------------------------- this very process
def forget_peak() -> None:
    """Let the peak of this process's memory begin anew, at what it holds now. Source: proc(5), clear_refs."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def read_memory_mb() -> tuple[float, float]:
    """Return what this process holds now, and its peak since `forget_peak`."""
    words = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    now, peak = (int(words[name].split()[0]) / KIB_PER_MB for name in ("VmRSS", "VmHWM"))
    return now, peak
