# SPDX-License-Identifier: Apache-2.0
"""What does it cost to think about N hosts? One measurement in a process of its own.

Run by `core` as ``python -m tests.perf.core_pass`` with a request as JSON on its standard input; prints its answer. The
clock stands still while hosts are made up: only what the reconciler does itself is counted.
"""

import gc
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from cyborg_reconciler.core.plan import Terms, make_plan
from cyborg_reconciler.core.resolve import Compiled, compile_policies, resolve
from cyborg_reconciler.core.state import History, Host, Plan
from cyborg_reconciler.core.subject import lay_out
from cyborg_reconciler.core.verdict import judge
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.documents.pool import Reboot
from cyborg_reconciler.ports import Observation, OnProgress, Unobserved
from cyborg_reconciler.survey import Options, survey
from cyborg_reconciler.testing import FixedClock, RecordedObserver, ignore_progress
from tests.fake_ports import fake_ports
from tests.perf import fleet, process

NOW: Final = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
TERMS: Final = Terms("bench", Reboot(), History(), NOW, NOW)


class Reported(msgspec.Struct):
    """As much of a facts document as tells whether the rest is worth reading."""

    fingerprint: str


_reported = msgspec.json.Decoder(Reported)


@dataclass
class Stopwatch:
    """CPU seconds of this process, while it runs."""

    cpu_s: float = 0.0
    _since: float = field(default=0.0)

    def __enter__(self) -> None:
        self._since = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.cpu_s += time.process_time() - self._since


@dataclass
class Known:
    """What is kept of each host between two passes."""

    fingerprints: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)


def think(compiled: Compiled, host: Host, document: bytes, known: Known) -> None:
    """Decide what is to be done on *host*, from the JSON that it reported, and keep that."""
    facts = decode_facts(document)
    subject = lay_out(facts, compiled.catalogue)
    desired = resolve(compiled, host, subject)
    plan = make_plan(host.name, desired, subject, TERMS)
    known.fingerprints[host.name] = facts.fingerprint
    known.digests[host.name] = desired.digest()
    if judge(plan).verified:
        known.plans.pop(host.name, None)
    else:
        known.plans[host.name] = plan


def reports_of(templates: Mapping[str, fleet.Template], numbers: range, request: Mapping[str, Any]) -> list[bytes]:
    """Return what hosts *numbers* report; one in ``drift_every`` is not as declared, none without."""
    every, layouts = request["drift_every"], request["layouts"]
    return [
        fleet.document(templates, number, drifted=every is not None and number % every == 0, layouts=layouts)
        for number in numbers
    ]


def stream(
    compiled: Compiled, templates: Mapping[str, fleet.Template], request: Mapping[str, Any], known: Known
) -> Stopwatch:
    """Think about every host of the fleet, one after the other."""
    watch = Stopwatch()
    for numbers in fleet.batches(request["hosts"]):
        hosts = [fleet.host_at(number) for number in numbers]
        reports = reports_of(templates, numbers, request)
        with watch:
            for host, report in zip(hosts, reports, strict=True):
                think(compiled, host, report, known)
    return watch


def cold(templates: Mapping[str, fleet.Template], request: Mapping[str, Any]) -> dict[str, float]:
    """Measure a first pass: everything is decoded and decided."""
    known = Known()
    declared = fleet.declarations()
    watch = Stopwatch()
    with watch:
        compiled = compile_policies(declared)
    compile_s = watch.cpu_s
    watch = stream(compiled, templates, request, known)
    return {"cpu_s": compile_s + watch.cpu_s, "compile_s": compile_s, "changes": len(known.plans)}


def warm(templates: Mapping[str, fleet.Template], request: Mapping[str, Any]) -> dict[str, float]:
    """Measure a second pass in which one host in a hundred is no longer as it was.

    Shape: fingerprints are at hand, as the agents' check-ins and the journal have them, or, with ``whole`` in the
    request, inside of the documents that every host reported in full.
    """
    known = Known()
    compiled = compile_policies(fleet.declarations())
    before = {**request, "drift_every": None}
    stream(compiled, templates, before, known)
    watch, looked_at = Stopwatch(), 0
    process.forget_peak()
    for numbers in fleet.batches(request["hosts"]):
        hosts = [fleet.host_at(number) for number in numbers]
        reports = reports_of(templates, numbers, request)
        marks = [decode_facts(report).fingerprint for report in reports]
        with watch:
            if request["whole"]:
                marks = [_reported.decode(report).fingerprint for report in reports]
            for host, mark, report in zip(hosts, marks, reports, strict=True):
                if known.fingerprints.get(host.name) != mark:
                    think(compiled, host, report, known)
                    looked_at += 1
    return {"cpu_s": watch.cpu_s, "looked_at": looked_at, "changes": len(known.plans)}


class Decoding(RecordedObserver):
    """Hosts that report JSON, which is decoded as the adapter of ansible-runner does."""

    def __init__(self, reports: Mapping[str, bytes]) -> None:
        super().__init__({}, clock=FixedClock(NOW))
        self.reports = reports

    def observe(
        self,
        hosts: Sequence[Host],
        modules: Sequence[str],  # noqa: ARG002 - what was recorded speaks of what it speaks of
        on_progress: OnProgress,  # noqa: ARG002 - nobody watches
    ) -> Mapping[str, Observation | Unobserved]:
        """Return what every host reported."""
        now = self.clock.now()
        return {host.name: Observation(decode_facts(self.reports[host.name]), b"", now) for host in hosts}


def whole(templates: Mapping[str, fleet.Template], request: Mapping[str, Any]) -> dict[str, float]:
    """Measure `reconcile.survey`, which keeps every host's facts and plan, with journal and world in memory."""
    numbers = range(request["hosts"])
    hosts = [fleet.host_at(number) for number in numbers]
    reports = reports_of(templates, numbers, request)
    observer = Decoding({host.name: report for host, report in zip(hosts, reports, strict=True)})
    ports = fake_ports(fleet.declarations(), hosts, observer)
    process.forget_peak()
    held_mb, _ = process.read_memory_mb()
    watch = Stopwatch()
    with watch:
        seen = survey(ports, Options(), ignore_progress)
    _, peak_mb = process.read_memory_mb()
    changes = sum(not view.verdict.verified for view in seen.hosts.values())
    return {"cpu_s": watch.cpu_s, "changes": changes, "memory_mb": peak_mb - held_mb}


PASSES: Final = {"cold": cold, "warm": warm, "survey": whole}


def main() -> None:
    """Do what the request on standard input asks, and print what it cost."""
    request = json.load(sys.stdin)
    templates = fleet.read_templates(Path(request["templates"]))
    gc.collect()
    process.forget_peak()
    held_mb, _ = process.read_memory_mb()
    answer = PASSES[request["pass"]](templates, request)
    _, peak_mb = process.read_memory_mb()
    answer.setdefault("memory_mb", peak_mb - held_mb)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
