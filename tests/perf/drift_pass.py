# SPDX-License-Identifier: Apache-2.0
"""How long does it take from a uevent until ``GET /v1/hosts/{host}`` says OutOfSync? Measured in a process of its own.

Run by `drift` in a network namespace, as ``python -m tests.perf.drift_pass`` with a request as JSON on its standard
input; prints its answer. Does I/O: starts a server with its worker, an agent, and the host that it is on: a simulated
one, whose /sys and /proc the agent has in place of the machine's.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from cyborg_reconciler.adapters.ansible.processes import read_command, read_parents
from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import SimulatedHost, qat_1
from cyborg_reconciler.worker import POLL_S
from tests.integration.agent_support import AgentProcess
from tests.integration.api_support import Server, serving, until
from tests.integration.console import open_console
from tests.uevents import send_uevent

#: Begins a command that has another host's /sys and /proc, those below the folder that comes next.
#: /proc is last, since mount(8) reads it.
MOUNT: Final = (
    *("unshare", "--mount", "sh", "-c"),
    *('mount --bind "$0/sys" /sys && mount --bind "$0/proc" /proc && exec "$@"',),
)

HOST: Final = "qat-1"
PF: Final = "0000:6b:00.0"
VFS: Final = 16
PCI: Final = "/sys/bus/pci/devices"

#: What is found by looking is not what is measured: nothing is looked at but for an event.
NEVER_S: Final = 86_400
#: How often the API is asked; what is measured is that much too long at most.
ASKED_EVERY_S: Final = 0.01
#: Beyond this something does not work.
PATIENCE_S: Final = 120.0

TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


# ------------------------------------------------------------------------------------------------------------- the host
def paths_of_vfs(host: SimulatedHost) -> list[str]:
    """Return where the VFs are, as events say it."""
    folder = Path(f"{host.root}{PCI}/{PF}").resolve()
    links = (link.resolve() for link in sorted(folder.glob("virtfn*")))
    return [f"/{link.relative_to(host.root.resolve() / 'sys')}" for link in links]


def set_vfs(host: SimulatedHost, count: int) -> float:
    """Make or take away the VFs by hand, and return when the kernel began to tell of it."""
    before = paths_of_vfs(host)
    host.write(f"{PCI}/{PF}/sriov_numvfs", count)
    began = time.perf_counter()
    for path in before or paths_of_vfs(host):
        send_uevent("remove" if before else "add", path)
    return began


# ------------------------------------------------------------------------------------------------------------ the place
@dataclass(frozen=True)
class Place:
    """The host, the server that keeps it, and the host's agent."""

    host: SimulatedHost
    server: Server
    agent: AgentProcess

    def shown(self) -> dict[str, Any]:
        """Return what the API tells of the host."""
        answer = self.server.pool.request("GET", f"{self.server.url}/v1/hosts/{HOST}", timeout=PATIENCE_S)
        found: dict[str, Any] = answer.json()
        return found if answer.status == 200 else {}

    def wait_for(self, is_so: Callable[[dict[str, Any]], bool]) -> float:
        """Return when the API first told what is to be so of the host."""
        deadline = time.perf_counter() + PATIENCE_S
        while not is_so(self.shown()):
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{self.shown()}\n{chr(10).join(self.agent.lines)}")
            time.sleep(ASKED_EVERY_S)
        return time.perf_counter()

    def drift(self) -> tuple[float, float]:
        """Take the VFs away, wait until the API tells of it, and put them back.

        Return the seconds from the event until the check-in was accepted, and until the host was OutOfSync.
        """
        known = self.shown()["fingerprint"]
        began = set_vfs(self.host, 0)
        told = self.wait_for(lambda shown: shown["fingerprint"] != known)
        shown = self.wait_for(lambda shown: shown["sync"] == "OutOfSync")
        set_vfs(self.host, VFS)
        self.wait_for(lambda shown: shown["sync"] == "Synced")
        rest(self.server)
        return told - began, shown - began

    def processes(self) -> dict[str, int]:
        """Return what is to be paid for, by what it is called."""
        children = [pid for pid, parent in read_parents().items() if parent == self.server.process.pid]
        return {"agent": self.agent.process.pid, "worker": next(p for p in children if " worker " in read_command(p))}


def rest(server: Server) -> None:
    """Wait until the worker has looked at all hosts, and nothing waits to be looked at.

    A look over Ansible, such as the first one, would overlap with what is measured, and be followed by another.
    """

    def is_at_rest() -> bool:
        lines = server("GET", "/metrics").data.decode().splitlines()
        told = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        passes = told.get('cyborg_reconciler_passes_total{kind="all",result="ok"}', "0")
        return float(passes) > 0 and float(told["cyborg_reconciler_queue_length"]) == 0

    until(is_at_rest, PATIENCE_S)


def read_cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of those that it waited for. Source: proc(5)."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / TICKS


def read_memory_mb(pid: int) -> float:
    """Return what a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * PAGE_BYTES / 2**20


def measure(place: Place, times: int) -> dict[str, Any]:
    """Have the host drift so often, after a first time that is not counted, and return what it took."""
    place.wait_for(lambda shown: bool(shown.get("agent_seen_at")))
    rest(place.server)
    place.drift()
    pids = place.processes()
    before = {name: read_cpu_s(pid) for name, pid in pids.items()}
    took = []
    for number in range(times):
        time.sleep(POLL_S * number / times)  # or each would begin when the worker has just looked
        took.append(place.drift())
    costs = {
        name: {"cpu_s": read_cpu_s(pid) - before[name], "memory_mb": read_memory_mb(pid)} for name, pid in pids.items()
    }
    return {"told_s": [told for told, _ in took], "shown_s": [shown for _, shown in took], **costs}


def main() -> None:
    """Do what the request on standard input asks, and print what was measured."""
    request = json.load(sys.stdin)
    folder = Path(request["folder"])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)  # noqa: S607 - on PATH
    with open_console(folder, qat_1()) as console:
        host = console[HOST]
        set_vfs(host, VFS)
        console.declare("vfs", device_selector={"product_id": "4940"}, sriov={"num_vfs": VFS})
        words = ["--inventory", str(console.inventory), "--policies", str(console.policies)]
        with serving(console.state, "--auth", "none", *words) as server:
            rest(server)
            with open_admission(Settings(console.state)) as operators:
                enrolment = operators.enrol(Caller("bench", Role.ADMIN), HOST, timedelta(hours=1))
            often = {"poll_interval_s": NEVER_S, "facts_interval_s": NEVER_S}
            agent = AgentProcess.make(folder / "agent", server, Path("/"), **often)
            agent.secret("enrolment", enrolment)
            with agent.start(wrapped=[*MOUNT, str(host.root)]):
                place = Place(host, server, agent)
                agent.wait_for_line("answers on")
                deaf = [line for line in agent.lines if "events cannot be had" in line]
                answer = {"note": f"not measured: {deaf[0]}"} if deaf else measure(place, request["times"])
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
