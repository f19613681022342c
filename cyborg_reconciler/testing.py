# SPDX-License-Identifier: Apache-2.0
# long: one fake of every port, which users of the package import from one place
"""What stands in for the world in a test? An in-memory fake of every port; public, also for those who build on us.

The fakes keep the ports' promises (`tests/contract` runs one suite over the real journal and this one) and do no I/O:

    hosts      = (Host("compute-1", groups=frozenset({"crypto"})),)
    inventory  = FixedInventory(hosts)
    observer   = RecordedObserver({"compute-1": facts})
    executor   = FakeExecutor(observer)              # what it "applies" shows in the facts that the observer gives next
    journal    = FakeJournal()
    clock      = FixedClock(datetime(2026, 1, 5, 22, 0, tzinfo=UTC))
"""

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from cyborg_reconciler.core.modules_wanted import ModulesWanted
from cyborg_reconciler.core.state import Health, History, Host, Phase, Sync
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.plan import (
    NO_PLAN,
    ActionsSegment,
    HostPlan,
    Outcome,
    PlanDocument,
    RebootSegment,
    Segment,
    StepOutcome,
)
from cyborg_reconciler.errors import (
    ConflictError,
    ExecutionError,
    InventoryUnreadableError,
    JournalError,
    ReconcilerError,
)
from cyborg_reconciler.meters import Metric, Tally
from cyborg_reconciler.ports import (
    BegunRun,
    Clock,
    Controller,
    Event,
    HostRecord,
    Observation,
    OnProgress,
    Progress,
    RunRecord,
    Unobserved,
    apply_ended,
    run_ended,
    run_started,
)
from cyborg_reconciler.stores.accelerators import Accelerator
from cyborg_reconciler.stores.credentials import Credential
from cyborg_reconciler.stores.work import HostDriver, Lease, Pass, QueueItem, RunNews, carried_out, with_before
from cyborg_reconciler.tracing import REQUEST_ID

#: The id of a FakeJournal that was given none.
FAKE_CONTROLLER_ID = "00000000-0000-4000-8000-000000000001"


def ignore_progress(_progress: Progress) -> None:
    """Take what happens, and do nothing with it."""


class FixedClock:
    """A clock that shows what it was set to, until it is moved on."""

    def __init__(self, now: datetime = datetime(2026, 1, 5, 22, 0, tzinfo=UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        """Return the time."""
        return self._now

    def move(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self._now += timedelta(seconds=seconds)


class FixedDeclarations:
    """What is declared, as given. Assign to `declared` and `stamped`, or to `error` to make the source unreadable."""

    def __init__(self, declared: Declared | None = None, error: ReconcilerError | None = None) -> None:
        self.declared, self.error = declared or Declared(), error
        self.stamped = ""

    def read(self) -> Declared:
        """Return what is declared, or raise the error."""
        if self.error:
            raise self.error
        return self.declared

    def stamp(self) -> str:
        """Return what was assigned, or else the digest of what is declared."""
        return self.stamped or self.declared.digest


class FixedInventory:
    """The hosts, as given. Without any, it is as unreadable as an empty inventory is."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = tuple(hosts)

    def hosts(self) -> Sequence[Host]:
        """Return the hosts."""
        if not self._hosts:
            raise InventoryUnreadableError(wanted="an inventory", found="it has no hosts")
        return self._hosts


class RecordedObserver:
    """Hosts that report recorded facts. Assign to `facts[name]`, or to `unobserved[name]` for one that does not answer.

    Attributes:
        asked: the names of the hosts of each call, oldest first.
        broken: when set, no host can be asked at all.
    """

    def __init__(
        self,
        facts: Mapping[str, Facts],
        unobserved: Mapping[str, Unobserved] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.facts, self.unobserved, self.clock = dict(facts), dict(unobserved or {}), clock or FixedClock()
        self.asked: list[tuple[str, ...]] = []
        self.broken: ExecutionError | None = None

    def observe(
        self,
        hosts: Sequence[Host],
        modules: ModulesWanted,  # noqa: ARG002 - what was recorded speaks of what it speaks of
        on_progress: OnProgress,
    ) -> Mapping[str, Observation | Unobserved]:
        """Return the facts of each host, or why there are none."""
        self.asked.append(tuple(host.name for host in hosts))
        if self.broken:
            raise self.broken
        return {host.name: self._observe_one(host.name, on_progress) for host in hosts}

    def _observe_one(self, host: str, on_progress: OnProgress) -> Observation | Unobserved:
        on_progress(Progress(host, "observe", "started"))
        if host in self.unobserved:
            found = self.unobserved[host]
            on_progress(Progress(host, "observe", "failed", found.message))
            return found
        if host not in self.facts:
            return Unobserved("Missing", "the run ended without a word of this host")
        on_progress(Progress(host, "observe", "ok"))
        facts = self.facts[host]
        return Observation(facts, msgspec.json.encode(facts, order="sorted"), self.clock.now())


#: What a segment does to a host: the outcome of its steps, and the facts that the host then reports.
React = Callable[[Facts, Segment], tuple[list[StepOutcome], Facts]]


def change_nothing(facts: Facts, segment: Segment) -> tuple[list[StepOutcome], Facts]:
    """Say that every step succeeded while the host stays as it was: what verifying is there to find out."""
    ids = [step.id for step in segment.steps] if isinstance(segment, ActionsSegment) else [segment.id]
    return [StepOutcome(id=id_, status="changed") for id_ in ids], facts


def reboot_only(facts: Facts, segment: Segment) -> tuple[list[StepOutcome], Facts]:
    """Reboot where that is planned: a new boot id, and the arguments of the next boot run. Else change nothing."""
    steps, facts = change_nothing(facts, segment)
    if isinstance(segment, RebootSegment) and facts.kernel.boot_id == segment.boot_id:
        boot_id = str(uuid.uuid5(uuid.NAMESPACE_OID, segment.boot_id))
        kernel = msgspec.structs.replace(facts.kernel, boot_id=boot_id, args_running=facts.kernel.args_next_boot)
        facts = msgspec.structs.replace(facts, kernel=kernel)
    return steps, facts


class FakeExecutor:
    """Carries plans out on the facts of a RecordedObserver: *react* says what a segment does to a host's facts.

    Attributes:
        applied: the plans it was given, oldest first.
        outcomes: assign to `outcomes[name]` for a host with which that happens instead, facts unchanged.
        settled: how often `settle` was called.
    """

    def __init__(self, observer: RecordedObserver, react: React = reboot_only) -> None:
        self._observer, self._react = observer, react
        self.applied: list[PlanDocument] = []
        self.outcomes: dict[str, Outcome] = {}
        self.settled = 0
        self.broken: ExecutionError | None = None

    def apply(self, plan: PlanDocument, on_progress: OnProgress) -> Mapping[str, Outcome]:
        """Carry out the plan of each host."""
        self.applied.append(plan)
        if self.broken:
            raise self.broken
        return {host: self._apply_one(host, of_host, on_progress) for host, of_host in plan.hosts.items()}

    def _apply_one(self, host: str, plan: HostPlan, on_progress: OnProgress) -> Outcome:
        on_progress(Progress(host, "apply", "started"))
        if host in self.outcomes:
            on_progress(Progress(host, "apply", "failed", self.outcomes[host].message))
            return self.outcomes[host]
        if host not in self._observer.facts:
            return Outcome(status="unreachable", message="no route to host")
        steps: list[StepOutcome] = []
        for segment in plan.segments:
            if isinstance(segment, RebootSegment):
                on_progress(Progress(host, "reboot", "started"))
            done, facts = self._react(self._observer.facts[host], segment)
            self._observer.facts[host] = facts
            steps += done
        on_progress(Progress(host, "apply", "changed"))
        return Outcome(status="applied", steps=steps)

    def settle(self) -> None:
        """Note that it was called: nothing is ever left running here."""
        self.settled += 1


class RecordingCordon:
    """Cordons nobody, and remembers who was asked for.

    Attributes:
        cordoned: hosts that are cordoned now. by_others: those among them that somebody else cordoned.
        calls: ``("cordon" | "uncordon", host)``, oldest first.
    """

    def __init__(self, by_others: Sequence[str] = ()) -> None:
        self.by_others = frozenset(by_others)
        self.cordoned = set(by_others)
        self.calls: list[tuple[str, str]] = []

    def cordon(self, host: str) -> bool:
        """Cordon *host*, unless it is cordoned."""
        self.calls.append(("cordon", host))
        ours = host not in self.cordoned
        self.cordoned.add(host)
        return ours

    def uncordon(self, host: str) -> None:
        """Uncordon *host*."""
        self.calls.append(("uncordon", host))
        self.cordoned.discard(host)


@dataclass
class _Run:
    record: RunRecord
    token: int


@dataclass
class _Queued:
    item: QueueItem
    enqueued_at: datetime
    not_before: datetime


@dataclass
class _Memory:
    """What stays when a FakeJournal is opened again."""

    token: int = 0
    records: dict[str, HostRecord] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    histories: dict[tuple[str, str], History] = field(default_factory=dict)  # by host and digest
    facts: dict[str, tuple[str, bytes, datetime]] = field(default_factory=dict)
    declared: dict[str, tuple[Declared, datetime]] = field(default_factory=dict)
    inventory: dict[str, Host] = field(default_factory=dict)
    plans: dict[str, PlanDocument] = field(default_factory=dict)
    runs: dict[str, _Run] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    approvals: set[tuple[str, int, str]] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    heard: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    declared_now: str = ""
    cancelled: set[str] = field(default_factory=set)
    queue: dict[str, "_Queued"] = field(default_factory=dict)
    tickets: int = 0
    leases: dict[str, Lease] = field(default_factory=dict)
    host_drivers: dict[tuple[str, str], HostDriver] = field(default_factory=dict)
    passes: list[Pass] = field(default_factory=list)


class FakeJournal:
    """The memory, in memory. `reopened()` is the journal as the next process finds it.

    Attributes:
        broken: when set, every method raises it; as a locked or full database would.
    """

    def __init__(self, controller_id: str = FAKE_CONTROLLER_ID, _memory: _Memory | None = None) -> None:
        self.memory = _memory or _Memory()
        self.memory.token += 1
        self._controller = Controller(controller_id, self.memory.token)
        self.broken: JournalError | None = None

    def reopened(self) -> "FakeJournal":
        """Return the journal that the next process opens."""
        return FakeJournal(self._controller.id, self.memory)

    def work(self) -> "FakeWork":
        """Return queue, leases and drivers on hosts, in the same memory."""
        return FakeWork(self)

    def _work(self) -> _Memory:
        if self.broken:
            raise self.broken
        return self.memory

    def _ensure(self, host: str) -> HostRecord:
        memory = self._work()
        new = HostRecord(host, str(uuid.uuid4()), 0, Sync.UNKNOWN, Health.UNKNOWN, Phase.IDLE)
        return memory.records.setdefault(host, new)

    def controller(self) -> Controller:
        """Return who we are."""
        return self._controller

    def histories(self, digests: Mapping[str, str]) -> Mapping[str, History]:
        """Return what is remembered of each host; a digest that is another than the last raises its generation."""
        memory = self._work()
        for host, digest in digests.items():
            record = self._ensure(host)
            if memory.digests.get(host, "") != digest:
                memory.digests[host] = digest
                record = memory.records[host] = replace(record, generation=record.generation + 1)
            history = memory.histories.get((host, digest), History())
            memory.histories[host, digest] = replace(history, generation=record.generation)
        return {host: memory.histories[host, digest] for host, digest in digests.items()}

    def _remember(self, host: str, **changes: Any) -> None:  # noqa: ANN401  a field's value
        """Change what is remembered of *host* under the state that is desired of it now, if one is."""
        self._ensure(host)
        key = (host, self.memory.digests.get(host, ""))
        if key in self.memory.histories:
            self.memory.histories[key] = replace(self.memory.histories[key], **changes)

    def _history(self, host: str) -> History:
        return self.memory.histories.get((host, self.memory.digests.get(host, "")), History())

    def retry(self, host: str, at: datetime) -> None:
        """Forget the failures and the reboots of *host* under its present generation, and have it looked at."""
        self._remember(host, boots=(), failures=0)
        self.work().enqueue([host], "Retried", at)

    def record_observations(self, observed: Mapping[str, Observation | Unobserved]) -> None:
        """Keep the newest facts of each host; one that was not observed keeps what it has."""
        for host, found in observed.items():
            self._ensure(host)
            if isinstance(found, Observation):
                fingerprint, document, received_at = self.memory.facts.get(host, ("", b"", found.received_at))
                same = fingerprint == found.facts.fingerprint
                kept = document if same else found.document
                if found.received_at >= received_at:
                    self.memory.facts[host] = (found.facts.fingerprint, kept, found.received_at)

    def facts(self, hosts: Sequence[str]) -> Mapping[str, tuple[bytes, datetime]]:
        """Return the newest facts of *hosts* and when they were received."""
        known = self._work().facts
        return {host: known[host][1:] for host in hosts if host in known}

    def hear(self, host: str, fingerprint: str, at: datetime) -> None:
        """Have the agent of *host* say, at that time, that its facts are those with *fingerprint*."""
        self._work().heard[host] = fingerprint, at

    def reported(self, since: datetime, hosts: Sequence[str] | None = None) -> Mapping[str, datetime]:
        """Return the hosts whose agents stand by the facts that are kept, and when they last did."""
        memory = self._work()
        return {
            host: at
            for host, (fingerprint, at) in memory.heard.items()
            if at >= since and (hosts is None or host in hosts) and memory.facts.get(host, ("",))[0] == fingerprint
        }

    def record_declarations(self, declared: Declared, at: datetime) -> None:
        """Keep what was declared, and that it is what is declared now."""
        self._work().declared.setdefault(declared.digest, (declared, at))
        self.memory.declared_now = declared.digest

    def record_inventory(self, hosts: Sequence[Host]) -> None:
        """Keep the groups and labels of *hosts*."""
        self._work().inventory.update({host.name: host for host in hosts})

    def record_hosts(self, records: Sequence[HostRecord]) -> None:
        """Keep where hosts stand."""
        for record in records:
            self._record_host(record)

    def _record_host(self, record: HostRecord) -> None:
        known = self.memory.records.get(record.name)
        if known is None:
            self._ensure(record.name)
            self.memory.records[record.name] = replace(record, uuid=record.uuid or str(uuid.uuid4()))
            return
        self._work().records[record.name] = replace(
            record,
            uuid=known.uuid,
            generation=known.generation,
            fingerprint=record.fingerprint or known.fingerprint,
            observed_at=record.observed_at or known.observed_at,
            changed_at=record.changed_at or known.changed_at,
            conditions=record.conditions or known.conditions,
            drivers=known.drivers if record.drivers is None else record.drivers,
        )

    def record_phases(self, hosts: Sequence[str], phase: Phase, failed_in: Phase | None = None) -> None:
        """Keep in which phase *hosts* are."""
        records = self._work().records
        records.update({host: replace(records[host], phase=phase, failed_in=failed_in) for host in hosts})

    def hosts(self, names: Sequence[str] | None = None) -> Sequence[HostRecord]:
        """Return every host ever seen, by name; of those called *names*, where some are given."""
        found = [record for name, record in self._work().records.items() if names is None or name in names]
        return sorted(found, key=lambda record: (record.name.lower(), record.name))

    def open_run(self, plan: PlanDocument, at: datetime) -> Mapping[str, BegunRun]:
        """Keep *plan*, begin a run of it, and return that by host; an approval of it is used up."""
        new, memory = str(uuid.uuid4()), self._work()
        memory.approvals -= {(host, of_host.generation, of_host.digest) for host, of_host in plan.hosts.items()}
        memory.plans.setdefault(plan.uuid, plan)
        asked = carried_out((one for one in memory.host_drivers.values() if one.is_open), plan)
        by_host = {host: asked.get(host, new) for host in sorted(plan.hosts)}
        for run, count in Counter(by_host.values()).items():
            hosts = {host: "running" for host, of in by_host.items() if of == run}
            request = memory.runs[run].record.request_id if run in memory.runs else ""
            record = RunRecord(run, plan.uuid, "running", at, None, hosts, request_id=request)
            memory.runs[run] = _Run(record, self._controller.fencing_token)
            memory.events.append(run_started(run, plan, count, at))
        return {host: BegunRun(run, memory.runs[run].record.request_id) for host, run in by_host.items()}

    def record_reboot(self, host: str, boot_id: str, at: datetime) -> None:  # noqa: ARG002  the port has it
        """Note that *host* will be rebooted from *boot_id*."""
        self._remember(host, boots=(*self._history(host).boots, boot_id))

    def _run(self, run: str) -> _Run:
        if run not in self._work().runs:
            raise JournalError(wanted=f"run {run}", found="the journal has no such run", remedy="see `history`")
        return self.memory.runs[run]

    def record_outcome(self, run: str, host: str, outcome: Outcome, at: datetime) -> None:
        """Keep what came out for one host."""
        found = self._run(run)
        hosts = dict(sorted({**found.record.hosts, host: outcome.status}.items()))
        found.record = replace(found.record, hosts=hosts)
        self.memory.outcomes[run, host] = outcome
        self.memory.events.append(apply_ended(run, host, outcome, at))

    def record_verdicts(self, verified: Mapping[str, bool]) -> None:
        """Note whether each host was as desired when it was looked at."""
        for host, is_verified in verified.items():
            if is_verified:
                self._remember(host, was_synced=True, failures=0, boots=())
            else:
                self._remember(host, failures=self._history(host).failures + 1)

    def close_run(self, run: str, status: str, at: datetime) -> None:
        """End a run, and the outcomes that are still running."""
        found = self._run(run)
        hosts = {host: status if known == "running" else known for host, known in found.record.hosts.items()}
        if any(one.is_open and one.run == run for one in self.memory.host_drivers.values()):
            found.record = replace(found.record, status="pending", hosts=hosts)
        else:
            found.record = replace(found.record, status=status, ended_at=at, hosts=hosts)
        self.memory.events.append(run_ended(run, status, at))

    def cancel_requested(self, run: str) -> bool:
        """Return whether somebody wants *run* to be the last of its pass: add it to `memory.cancelled`."""
        return run in self._work().cancelled

    def open_runs(self) -> Sequence[RunRecord]:
        """Return the runs that an earlier process left open, oldest first."""
        mine = self._controller.fencing_token
        return [
            run.record for run in self._work().runs.values() if run.record.status == "running" and run.token != mine
        ]

    def runs(self, host: str = "", limit: int = 50) -> Sequence[RunRecord]:
        """Return the newest runs, newest first; of one host when *host* is given."""
        found = [run.record for run in self._work().runs.values() if not host or host in run.record.hosts]
        return found[::-1][:limit]

    def plan(self, uuid: str) -> PlanDocument | None:
        """Return the plan that was kept under *uuid*."""
        return self._work().plans.get(uuid)

    def approve(self, host: str, generation: int, digest: str, at: datetime) -> None:
        """Note that a person approved the actions with *digest* under *generation*, and have the host looked at."""
        self._work().approvals.add((host, generation, digest))
        self.work().enqueue([host], "Approved", at)

    def approved(self, host: str, generation: int, digest: str) -> bool:
        """Return whether just these actions were approved."""
        return (host, generation, digest) in self._work().approvals

    def record_event(self, event: Event) -> None:
        """Append to the audit trail."""
        self._work().events.append(event)

    def events(self, host: str = "", limit: int = 100) -> Sequence[Event]:
        """Return the newest events, newest first; of one host when *host* is given."""
        found = [event for event in self._work().events if not host or event.host == host]
        return found[::-1][:limit]


class CountingMeter:
    """Counts in memory: `counted` has the sum, `observed` the values, of each metric and its labels in their order."""

    def __init__(self) -> None:
        self.counted: dict[tuple[Metric, tuple[str, ...]], float] = {}
        self.observed: dict[tuple[Metric, tuple[str, ...]], list[float]] = {}

    def add(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Count *amount* more."""
        key = metric, tuple(labels[name] for name in metric.labels)
        self.counted[key] = self.counted.get(key, 0) + amount

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Enter *value*."""
        self.observed.setdefault((metric, tuple(labels[name] for name in metric.labels)), []).append(value)


class FixedTallies:
    """What there is, as given. Assign to `found`, or to `error` to make the database unreadable."""

    def __init__(self, found: Mapping[Metric, Tally] | None = None, error: ReconcilerError | None = None) -> None:
        self.found, self.error, self.asked = found or {}, error, 0

    def check(self) -> None:
        """Raise the error."""
        if self.error:
            raise self.error

    def tallies(self) -> Mapping[Metric, Tally]:
        """Return what there is, or raise the error."""
        self.asked += 1
        if self.error:
            raise self.error
        return self.found


class FakeCredentialStore:
    """The users' tokens. Assign to `broken` to have the database gone.

    Attributes:
        asked: how often one was looked for. told: the entries of the audit trail.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, Credential] = {}
        self.told: list[Event] = []
        self.asked = 0
        self.broken: JournalError | None = None

    def _kept(self) -> dict[str, Credential]:
        if self.broken:
            raise self.broken
        return self._by_name

    def credentials(self) -> Sequence[Credential]:
        """Return all of them, by name."""
        return [one for _, one in sorted(self._kept().items())]

    def credential(self, digest: str) -> Credential | None:
        """Return the one whose token has *digest*."""
        self.asked += 1
        return next((one for one in self._kept().values() if one.digest == digest), None)

    def add_credential(self, one: Credential, event: Event) -> None:
        """Keep a new one, and tell of it."""
        if one.name in self._kept():
            raise ConflictError(wanted=f"a token called {one.name}", found="there is one already, or there was")
        self._by_name[one.name] = one
        self.told.append(event)

    def revoke_credential(self, name: str, at: datetime, event: Event) -> bool:
        """Revoke the one called *name*, and tell of it."""
        one = self._kept().get(name)
        if one is None or one.revoked_at is not None:
            return False
        self._by_name[name] = replace(one, revoked_at=at)
        self.told.append(event)
        return True

    def record_uses(self, used: Mapping[str, datetime]) -> None:
        """Keep when each was used last."""
        for name, at in used.items():
            one = self._kept()[name]
            self._by_name[name] = replace(one, last_used_at=max(at, one.last_used_at or at))


class FakeWork:
    """Queue, leases and drivers on hosts, in the memory of a FakeJournal; broken when that is."""

    def __init__(self, journal: FakeJournal) -> None:
        self._journal = journal

    def _memory(self) -> _Memory:
        return self._journal._work()  # noqa: SLF001 - its other half

    def enqueue(self, hosts: Collection[str], reason: str, at: datetime) -> None:
        """Have *hosts* looked at, for whoever changes something about them."""
        memory = self._memory()
        for host in hosts:
            memory.tickets += 1
            known = memory.queue.get(host)
            item = QueueItem(host, memory.tickets, reason, known.item.attempts if known else 0)
            memory.queue[host] = _Queued(item, known.enqueued_at if known else at, at)

    def take(self, limit: int, at: datetime) -> Sequence[QueueItem]:
        """Return up to *limit* hosts that are due."""
        due = [one for one in self._memory().queue.values() if one.not_before <= at]
        return [one.item for one in sorted(due, key=lambda one: (one.enqueued_at, one.item.host))][:limit]

    def _unchanged(self, item: QueueItem) -> _Queued | None:
        known = self._memory().queue.get(item.host)
        return known if known is not None and known.item.ticket == item.ticket else None

    def done(self, items: Sequence[QueueItem]) -> None:
        """Remove *items*, but for hosts that were enqueued again."""
        for item in items:
            if self._unchanged(item):
                del self._memory().queue[item.host]

    def later(self, item: QueueItem, not_before: datetime, why: str) -> None:
        """Put *item* off, unless it was enqueued again."""
        known = self._unchanged(item)
        if known:
            known.item = replace(item, attempts=item.attempts + 1, reason=why)
            known.not_before = not_before

    def lease(self, name: str) -> Lease | None:
        """Return the lease as it is."""
        return self._memory().leases.get(name)

    def take_lease(self, wanted: Lease, seen: Lease | None) -> Lease | None:
        """Take a lease that still is as it was *seen*."""
        if self._memory().leases.get(wanted.name) != seen:
            return None
        taken = replace(wanted, token=seen.token + 1 if seen else 1)
        self._memory().leases[wanted.name] = taken
        return taken

    def _is_ours(self, lease: Lease) -> bool:
        known = self._memory().leases.get(lease.name)
        return known is not None and (known.holder, known.token) == (lease.holder, lease.token)

    def renew(self, lease: Lease) -> bool:
        """Keep that *lease* ends later."""
        if self._is_ours(lease):
            self._memory().leases[lease.name] = lease
            return True
        return False

    def give_back(self, lease: Lease) -> None:
        """Let others have *lease*."""
        if self._is_ours(lease):
            self._memory().leases[lease.name] = replace(self._memory().leases[lease.name], holder="")

    def passed(self, one: Pass) -> None:
        """Count a pass."""
        self._memory().passes.append(one)

    def declare(self, one: HostDriver, event: Event) -> HostDriver:
        """Keep *one*, with a pending run, and have its host looked at."""
        memory, key = self._memory(), (one.host, one.driver)
        self.enqueue([one.host], event.kind, event.at)
        known = memory.host_drivers.get(key)
        memory.events.append(with_before(event, known))
        if known is not None and known.is_open:
            if known.told() == one.told():
                return known
            self._end(known.run, "cancelled", one.declared_at)
        run = str(uuid.uuid4())
        memory.plans.setdefault(NO_PLAN.uuid, NO_PLAN)
        hosts = {one.host: "pending"}
        record = RunRecord(run, NO_PLAN.uuid, "pending", one.declared_at, None, hosts, request_id=REQUEST_ID.get())
        memory.runs[run] = _Run(record, 0)
        memory.host_drivers[key] = replace(one, run=run, is_open=True)
        return memory.host_drivers[key]

    def _end(self, run: str, status: str, at: datetime, **more: Any) -> None:  # noqa: ANN401  a field's value
        found = self._memory().runs[run]
        hosts = dict.fromkeys(found.record.hosts, status)
        found.record = replace(found.record, **{"status": status, "ended_at": at, "hosts": hosts, **more})

    def declared(self) -> Sequence[HostDriver]:
        """Return all that is declared, by host and driver."""
        return [one for _, one in sorted(self._memory().host_drivers.items())]

    def awaited(self, hosts: Collection[str]) -> Sequence[HostDriver]:
        """Return what is declared for *hosts* and has a run that did not come out yet."""
        return [one for one in self.declared() if one.is_open and one.host in hosts]

    def tell(self, one: HostDriver, news: RunNews, at: datetime) -> None:
        """Keep what has become of the run of *one*."""
        memory = self._memory()
        if memory.runs[one.run].record.status != "pending":
            return
        kept = {} if (one.run, one.host) not in memory.outcomes else {"hosts": memory.runs[one.run].record.hosts}
        if news.status == "pending":
            self._end(one.run, "pending", at, ended_at=None, message=news.message, **kept)
            return
        memory.host_drivers[one.host, one.driver] = replace(one, is_open=False)
        more: dict[str, Any] = {"message": news.message, **kept}
        if news.by not in {"", one.run}:
            by = memory.runs[news.by].record
            more |= {"plan_uuid": by.plan_uuid, "started_at": by.started_at, "hosts": {one.host: by.hosts[one.host]}}
            memory.outcomes[one.run, one.host] = memory.outcomes[news.by, one.host]
        self._end(one.run, news.status, at, **more)

    def catalogue(self) -> Mapping[str, DriverDocSpec]:
        """Return the drivers that there are, by name."""
        declared, _ = self._memory().declared.get(self._memory().declared_now, (Declared(), None))
        return {one.document.metadata.name: one.document.spec for one in reversed(declared.drivers)}


class FakeAccelerators:
    """Accelerators in memory, as far as the worker asks for them.

    Attributes:
        kept: by uuid; assign to it. events: what was told of them.
    """

    def __init__(self, *accelerators: Accelerator) -> None:
        self.kept = {one.uuid: one for one in accelerators}
        self.events: list[Event] = []

    def found_on(self, hosts: Collection[str]) -> Sequence[Accelerator]:
        """Return the accelerators that are there on *hosts*, at an address."""
        return [one for one in self.kept.values() if one.host in hosts and one.address is not None and one.present]

    def record(self, seen: Sequence[tuple[Accelerator, Sequence[Event]]]) -> None:
        """Keep what was observed of accelerators that nobody has changed meanwhile."""
        for one, events in seen:
            if self.kept[one.uuid].version == one.version:
                self.kept[one.uuid] = replace(one, version=one.version + 1)
                self.events += events

    def unsettled(self, hosts: Collection[str]) -> Sequence[Accelerator]:
        """Return the accelerators that are attached to one of *hosts*, which is not done."""
        held = ((one, one.attachment) for one in self.kept.values())
        return [one for one, at in held if at is not None and at.host in hosts and at.status != "done"]

    def implying(self) -> Sequence[Accelerator]:
        """Return the accelerators at an address of a host that are attached to it, or wanted in some state."""
        found = [one for one in self.kept.values() if one.host is not None and one.address is not None]
        held = ((one, one.attachment) for one in found if one.present)
        attached = {one.uuid for one, at in held if at is not None and at.host == one.host}
        there = {one.uuid for one in found if one.present or one.health is not Health.MISSING}
        return [one for one in found if one.uuid in attached or (one.uuid in there and one.desired_state != "inactive")]
