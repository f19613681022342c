# SPDX-License-Identifier: Apache-2.0
"""What does the API cost, beside a server of the same stack that says hello and nothing else?

Called by `__main__`. Does I/O: fills a database, starts gunicorn, sends requests. CPU is that of the server's workers:
the client's own is not counted, though it takes its share of the machine.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.adapters.database.accelerator_rows import row_of
from cyborg_reconciler.adapters.database.engine import writing
from cyborg_reconciler.adapters.database.folder import DATABASE_NAME
from cyborg_reconciler.adapters.database.schema import accelerators, agents, hosts
from cyborg_reconciler.adapters.database.sqlite import open_engine
from cyborg_reconciler.conductor.secrets import hash_of
from cyborg_reconciler.simulation import large, write_tree
from cyborg_reconciler.stores.accelerators import Accelerator
from tests.perf.client import CONNECTIONS, HEAD_END, Sent, as_request, dealt, send
from tests.perf.options import Options
from tests.perf.process import ROOT, CommandFailedError, environment
from tests.perf.report import Row

GROUP: Final = "api"
HELLO: Final = "hello world"

#: Accelerators and agents in the database, and gunicorn's processes and threads.
ACCELERATORS: Final = 10_000
AGENTS: Final = 10_000
WORKERS: Final = 2
THREADS: Final = 8

#: Which part of hello's rate a kind of request is to reach: one of so many.
AIMS: Final = {"one accelerator": 2.0, "page of 100": 5.0, "check-in, unchanged": 2.0, "check-in, 8 devices": 4.0}

#: Turns in which requests of a kind are sent, each after as many hellos.
TURNS: Final = 8
SAY_HELLO: Final = as_request("GET", "/hello")

#: How often a wait may be longer than this, at half of the load that can be carried.
P99: Final = 0.99
AIM_P99_MS: Final = 50.0

#: Devices of the smallest host that can be simulated.
SMALLEST: Final = 5

#: Agents that have something new to tell; each speaks through one connection, in order. What costs most is a host's
#: first time, and that is not asked about.
TELLING: Final = 7 * CONNECTIONS

#: Check-ins over which memory is to stay.
MANY: Final = 100_000

AT: Final = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Server:
    """A gunicorn that runs."""

    port: int
    process: subprocess.Popen[str]

    def workers(self) -> list[int]:
        """Return the ids of the processes that serve."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="utf-8")
        return [int(child) for child in children.split()]

    def cpu_s(self) -> float:
        """Return the CPU seconds that its workers have used."""
        stats = (Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2] for pid in self.workers())
        return sum(sum(map(int, stat.split()[11:13])) for stat in stats) / TICKS

    def memory_mb(self) -> float:
        """Return what its workers hold."""
        held = (Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1] for pid in self.workers())
        return sum(map(int, held)) * PAGE_BYTES / 2**20


@contextmanager
def serving(application: str, work: Path, **settings: str) -> Iterator[Server]:
    """Yield gunicorn that serves *application*; it has ended when the block is left."""
    command = [sys.executable, "-m", "gunicorn", "-c", "python:cyborg_reconciler_api.gunicorn_conf", application]
    command += ["--bind", "127.0.0.1:0", "--workers", str(WORKERS), "--threads", str(THREADS)]
    environ = environment() | {f"CYBORG_RECONCILER_{name.upper()}": value for name, value in settings.items()}
    environ["PYTHONPATH"] += f"{os.pathsep}{ROOT / 'api'}"
    log = work / f"{application.partition('.')[0]}.log"
    with log.open("w", encoding="utf-8") as to:  # and not through us, who would have to stir for each line
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=to, stdout=to, text=True)
        try:
            yield Server(_port_told(process, log), process)
        finally:
            process.terminate()
            process.wait()


def _port_told(process: subprocess.Popen[str], log: Path) -> int:
    """Return where the server listens, once all its workers have begun. Raises: CommandFailedError."""
    while process.poll() is None:
        text = log.read_text(encoding="utf-8")
        found = re.search(r"Listening at: \S+:(\d+) ", text)
        if found and text.count("Booting worker") >= WORKERS:
            return int(found[1])
        time.sleep(0.05)
    raise CommandFailedError(log.read_text(encoding="utf-8"))


def rows(options: Options, work: Path) -> Iterator[Row]:
    """Yield a row for hello, and one for each kind of request."""
    state = work / "state"
    uuids = fill(state)
    count = 800 if options.quick else 4000
    facts = {devices: read_facts(devices, work) for devices in (1, 8, 64)}
    kinds: dict[str, Callable[[int], list[bytes]]] = {
        "one accelerator": lambda n: [
            as_request("GET", f"/v1/accelerators/{uuids[i * 7919 % len(uuids)]}") for i in range(n)
        ],
        "page of 100": lambda n: [
            as_request("GET", f"/v1/accelerators?limit=100&marker={uuids[i * 7919 % len(uuids)]}") for i in range(n)
        ],
    }
    speakers = Speakers(facts)
    for devices in facts:
        kinds[f"check-in, {devices} device{'s' * (devices > 1)}"] = lambda n, d=devices: speakers.changed(d, n)
    kinds["check-in, unchanged"] = speakers.unchanged
    with ExitStack() as stack:
        hello = stack.enter_context(serving("tests.perf.hello:create()", work))
        ours = stack.enter_context(
            serving("cyborg_reconciler_api.wsgi:create()", work, state_dir=str(state), auth="none")
        )
        yield as_row(HELLO, measured(hello, [SAY_HELLO] * count))
        for name, make in kinds.items():
            if "device" in name:
                send(ours.port, dealt(make(TELLING)))
            yield beside(hello, ours, name, make(count // 8 if "64" in name else count))
        yield half_load(ours, kinds["one accelerator"], options)
        yield memory(ours, speakers, count if options.quick else MANY)


@dataclass(frozen=True, slots=True)
class Measured:
    """What requests that were sent as fast as they were answered cost: the workers' CPU and memory, and what came."""

    cpu_s: float
    memory_mb: float
    sent: Sent

    @property
    def per_s(self) -> float:
        """Requests that were answered in a second."""
        return len(self.sent.waits_s) / self.sent.seconds


def measured(server: Server, requests: Sequence[bytes]) -> Measured:
    """Send *requests* as fast as they are answered. Raises: ValueError, when one was refused."""
    before = server.cpu_s()
    sent = send(server.port, dealt(requests))
    if any(status >= 300 for status in sent.statuses):
        raise ValueError(f"{requests[0].partition(HEAD_END)[0]!r}: {sent.statuses}")
    return Measured(server.cpu_s() - before, server.memory_mb(), sent)


def as_row(name: str, *parts: Measured) -> Row:
    """Return *parts* of one kind of request as a row."""
    requests = sum(len(part.sent.waits_s) for part in parts)
    together = Sent(sum(part.sent.seconds for part in parts), [wait for part in parts for wait in part.sent.waits_s])
    return Row(
        group=GROUP,
        name=name,
        cpu_s=sum(part.cpu_s for part in parts),
        hosts=requests,
        memory_mb=parts[-1].memory_mb,
        detail={"requests_per_s": requests / together.seconds, "p99_ms": together.percentile_ms(P99)},
    )


def beside(hello: Server, ours: Server, name: str, requests: Sequence[bytes]) -> Row:
    """Send *requests* in several turns, each with as many hellos, and return what they cost beside these.

    The pace of a shared machine changes within seconds, and meets both of a turn alike. The aims are about the rate:
    what counts is the median of the turns. The client takes its share of the machine in both, so that the rate says
    less than the CPU of the server's workers, which is of all turns together.
    """
    send(ours.port, dealt(requests[: len(requests) // 8]))  # what is done once is not what is asked about
    rest = requests[len(requests) // 8 :]
    turns = [
        (measured(hello, [SAY_HELLO] * len(part)), measured(ours, part))
        for part in (rest[turn * len(rest) // TURNS : (turn + 1) * len(rest) // TURNS] for turn in range(TURNS))
    ]
    slower = statistics.median(base.per_s / part.per_s for base, part in turns)
    row, aim = as_row(name, *(part for _, part in turns)), AIMS.get(name)
    return replace(
        row,
        ratio=row.cpu_s / sum(base.cpu_s for base, _ in turns),
        ratio_to=HELLO,
        aim=f"rate 1/{aim:g}, is 1/{slower:.1f}" if aim else "",
        within=slower <= aim if aim else None,
        detail={**row.detail, "times_slower": slower},
    )


def half_load(server: Server, make: Callable[[int], list[bytes]], options: Options) -> Row:
    """Send requests at half of the rate that can be carried, and return how long the slowest are waited for."""
    count = 500 if options.quick else 4000
    most = count / send(server.port, dealt(make(count))).seconds
    before = server.cpu_s()
    sent = send(server.port, dealt(make(count)), rate=most / 2)
    p99_ms = sent.percentile_ms(P99)
    return Row(
        group=GROUP,
        name="one accelerator, half load",
        cpu_s=server.cpu_s() - before,
        hosts=count,
        memory_mb=server.memory_mb(),
        aim=f"p99 < {AIM_P99_MS:.0f} ms",
        within=p99_ms < AIM_P99_MS,
        detail={"requests_per_s": most / 2, "p99_ms": p99_ms},
    )


def memory(server: Server, speakers: "Speakers", count: int) -> Row:
    """Send *count* check-ins, and return by how much the memory of the workers rose."""
    send(server.port, dealt(speakers.unchanged(2000)))
    before_mb, before_s = server.memory_mb(), server.cpu_s()
    for _ in range(0, count, 5000):
        send(server.port, dealt(speakers.unchanged(min(count, 5000))))
    rose = server.memory_mb() - before_mb
    return Row(
        group=GROUP,
        name=f"{count} check-ins, memory",
        cpu_s=server.cpu_s() - before_s,
        hosts=count,
        memory_mb=rose,
        aim="rises < 10 MB",
        within=rose < 10,
    )


# ------------------------------------------------------------------------------------------------------------ the fleet
def fill(state: Path) -> list[str]:
    """Fill the database at *state* with accelerators and agents, and return the accelerators' uuids, in order."""
    uuids = sorted(str(uuid.UUID(int=number * 7919 << 64)) for number in range(ACCELERATORS))
    tree = {"num": 2, "ipsec": {"aes": {"3des": 50, "num": 1}}}
    rows_ = [
        row_of(
            Accelerator(
                uuid=one,
                name=f"card {number}",
                created_at=AT,
                updated_at=AT,
                host=host_of(number),
                address="0000:3b:00.0",
                device_type="CRYPTO",
                acc_capability=tree,
                attach_info={"type": "PCI", "address": "0000:3b:00.0"},
            )
        )
        for number, one in enumerate(uuids)
    ]
    known = [{"name": host_of(n), "uuid": str(uuid.uuid4()), "generation": 1} for n in range(AGENTS)]
    heard = {"next_token_hash": "", "approved": True, "epoch": 0, "sequence": 0, "fingerprint": "", "boot_id": ""}
    talking = [
        {
            "host": host_of(n),
            "token_hash": hash_of(token_of(n)),
            **heard,
            "endpoint": "",
            "agent_version": "",
            "silent": False,
        }
        for n in range(AGENTS)
    ]
    open_journal(state).close()
    engine = open_engine(state / DATABASE_NAME, writes=True, busy_timeout_s=10)
    with writing(engine) as connection:
        connection.execute(accelerators.insert(), rows_)
        connection.execute(hosts.insert(), known)
        connection.execute(agents.insert(), talking)
    engine.dispose()
    return uuids


def host_of(number: int) -> str:
    """Return the name of a host."""
    return f"compute-{number:05}"


def token_of(number: int) -> str:
    """Return the token of its agent."""
    return f"cya_bench_{number}"


def read_facts(devices: int, work: Path) -> dict[str, Any]:
    """Return the facts of a host with so many devices; the smallest that can be simulated has four."""
    root = work / f"host-{devices}"
    write_tree(large(max(devices, SMALLEST), f"large-{devices}"), root)
    found: dict[str, Any] = json.loads(json.dumps(gather(Tree(str(root)), connection="local")))
    return {**found, "devices": found["devices"][-devices:]}


class Speakers:
    """The agents, and how far each has told."""

    def __init__(self, facts: dict[int, dict[str, Any]]) -> None:
        self._facts = {devices: json.dumps(one) for devices, one in facts.items()}
        self._prints = {devices: one["fingerprint"] for devices, one in facts.items()}
        self._told = [0] * AGENTS
        self._last = [""] * AGENTS
        self._next = 0

    def changed(self, devices: int, count: int) -> list[bytes]:
        """Return check-ins with facts that are others than before: a device has another driver."""
        found = []
        for _ in range(count):
            number = self._next = (self._next + 1) % TELLING
            turn = self._told[number] = self._told[number] + 1
            print_ = f"{self._prints[devices][:48]}{devices:04}{turn:012}"
            facts = self._facts[devices].replace(self._prints[devices], print_)
            facts = facts.replace('"driver": "', f'"driver": "{"a" if turn % 2 else "b"}_', 1)
            self._last[number] = print_
            found.append(self._request(number, f', "facts": {facts}'))
        return found

    def unchanged(self, count: int) -> list[bytes]:
        """Return check-ins of agents that have told before, with nothing new."""
        return [self._again(number % AGENTS) for number in range(count)]

    def _again(self, number: int) -> bytes:
        self._told[number] += 1
        return self._request(number, "")

    def _request(self, number: int, more: str) -> bytes:
        body = (
            f'{{"agent_version": "0.1.0", "boot_id": "b", "epoch": 1, "sequence": {self._told[number]}, '
            f'"fingerprint": "{self._last[number]}"{more}}}'
        )
        return as_request("POST", f"/v1/heartbeat/{host_of(number)}", body.encode(), token_of(number))
