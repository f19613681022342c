# SPDX-License-Identifier: Apache-2.0
"""Does a guest that boots still get anywhere? One that hangs is told of, and reset as a server's own watchdog does it.

Called by `guest`, for which it watches in a thread; speaks QMP of its own. It was made when a boot now and then ended
with the emulated CPUs halted, one of them without its timer (see `image.KERNEL_ARGS`); should there be another cause,
it tells what is known of it.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.lab.machine import CPUS
from tests.lab.place import say
from tests.lab.qmp import Qmp, QmpError

#: What a guest's console shows when it has booted.
BOOTED: Final = b" login: "
LOOK_EVERY_S: Final = 2.0
#: For so long a guest that boots must have done next to nothing: a share of what one CPU can do.
HANGS_AFTER_S: Final = 45.0
IDLE_SHARE: Final = 0.2
CONSOLE_LINES: Final = 5


class Watchdog:
    """Watches one QEMU until it is stopped.

    Attributes:
        resets: when it reset the guest, in seconds of Unix time.
    """

    def __init__(self, name: str, process_id: int, qmp: Qmp, console: Path, *, boots: bool) -> None:
        """*boots*: the guest was just switched on, and does not go on from a saved state."""
        self.resets: list[float] = []
        self._name, self._process_id, self._qmp, self._console = name, process_id, qmp, console
        self._booting_since: int | None = 0 if boots else None  # the console's size at that time
        self._told = 0  # events that were looked at
        self._up_at = 0.0  # Unix time
        self._used: deque[tuple[float, Mapping[str, int]]] = deque()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watchdog of {name}", daemon=True)
        self._thread.start()

    def is_up(self) -> None:
        """Hear that the guest has booted, from who was answered."""
        self._up_at, self._booting_since = time.time(), None

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        self._thread.join()
        self._qmp.close()

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK_EVERY_S):
            try:
                self._qmp.command("query-status")  # brings in the events that came before its answer
                self._look()
            except (QmpError, OSError):
                return  # it has ended

    def _look(self) -> None:
        events, self._told = self._qmp.events[self._told :], len(self._qmp.events)
        if any(event["event"] == "RESET" and _at(event) > self._up_at for event in events):
            self._booting_since = self._console.stat().st_size
            self._used.clear()
        since = self._booting_since
        if since is None:
            return
        if BOOTED in self._console.read_bytes()[since:]:
            self._booting_since = None
            return
        now_s, wanted_ns = time.monotonic(), _wanted_ns(self._process_id)
        self._used.append((now_s, wanted_ns))
        while now_s - self._used[0][0] > HANGS_AFTER_S:
            since_s, before_ns = self._used.popleft()
            done_ns = sum(wanted_ns[thread] - before for thread, before in before_ns.items() if thread in wanted_ns)
            if done_ns < IDLE_SHARE * (now_s - since_s) * 1e9:
                self._reset()
                return

    def _reset(self) -> None:
        registers = self._qmp.monitor("info registers -a").splitlines()
        halted = [line.strip() for line in registers if line.startswith(("CPU#", "RIP="))]
        timers = [self._qmp.monitor(f"info lapic {cpu}").strip() for cpu in range(CPUS)]
        shown = self._console.read_text(errors="replace").splitlines()[-CONSOLE_LINES:]
        say("\n".join([f"{self._name} hangs while it boots, and is reset", *halted, *timers, "its console:", *shown]))
        self._used.clear()
        known = len(self._qmp.events)
        self._qmp.command("system_reset")
        self._qmp.command("cont")
        while not (new := [_at(event) for event in self._qmp.events[known:] if event["event"] == "RESET"]):
            self._qmp.command("query-status")
        self.resets += new


def _at(event: Mapping[str, Any]) -> float:
    """Return when QEMU reported *event*, in seconds of Unix time."""
    stamp = event["timestamp"]
    return float(stamp["seconds"] + stamp["microseconds"] / 1e6)


def _wanted_ns(process_id: int) -> dict[str, int]:
    """Return for how long each thread of a process has run, or waited for a CPU to run on.

    Source: Linux, Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat.
    """
    wanted: dict[str, int] = {}
    for thread in Path(f"/proc/{process_id}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            run, waited, _ = (thread / "schedstat").read_text().split()
            wanted[thread.name] = int(run) + int(waited)
    return wanted
