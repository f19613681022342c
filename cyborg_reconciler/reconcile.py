# SPDX-License-Identifier: Apache-2.0
"""The sentence: declare → resolve → observe → diff → plan → (approve) → roll out → observe again → verify → record.

Called by the CLI and by the loop. All I/O goes through the ports; what to do is decided afresh from what is declared
and observed, so that a pass may be broken off anywhere and the next one goes on.
"""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cyborg_reconciler.core.plan import Terms, make_plan, to_document
from cyborg_reconciler.core.resolve import Desired, compile_policies, resolve
from cyborg_reconciler.core.rollout import DEFAULT_POOL, TwoPoolsError, pool_of, waves
from cyborg_reconciler.core.state import HOST, FieldPath, Host, Phase, Plan, Reason, Value, Wait
from cyborg_reconciler.core.subject import Subject, lay_out
from cyborg_reconciler.core.verdict import Verdict, judge, unobserved
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.plan import PLAN_VERSION, HostPlan, Outcome, PlanDocument, RebootSegment
from cyborg_reconciler.documents.pool import Reboot, RolloutPool
from cyborg_reconciler.ports import (
    Clock,
    Controller,
    Cordon,
    Declarations,
    Event,
    Executor,
    HostRecord,
    Inventory,
    Journal,
    Observation,
    Observer,
    OnProgress,
    Unobserved,
)

#: When a survey was made that nobody made: its facts are too old for anything.
NEVER = datetime.min.replace(tzinfo=UTC)

#: How often one call of `converge` changes a host: what a reboot or a driver makes possible is done in the next pass.
MAX_PASSES = 4


@dataclass(frozen=True, slots=True)
class Ports:
    """The world, as far as the sentence needs it."""

    declarations: Declarations
    inventory: Inventory
    observer: Observer
    executor: Executor
    journal: Journal
    cordon: Cordon
    clock: Clock
    controller: Controller


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller allows.

    Attributes:
        consent: a person approved what is planned; without it, pools with manual approval wait.
        allow_reboot: reboots are allowed whatever the pools say.
    """

    consent: bool = False
    allow_reboot: bool = False
    facts_max_age: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class HostView:
    """One host at one moment: what is desired of it, what it reported, what is to be done, where it stands.

    Attributes:
        phase: ``Planned`` where something is to be done, ``PendingApproval`` where a person has to agree to it first.
    """

    host: Host
    pool: RolloutPool
    plan: Plan
    verdict: Verdict
    desired: Desired | None = None
    subject: Subject | None = None
    outcome: Outcome | None = None
    phase: Phase = Phase.IDLE


@dataclass(frozen=True, slots=True)
class Survey:
    """All hosts at one moment, with what was declared then."""

    declared: Declared
    hosts: Mapping[str, HostView]
    pool_sizes: Mapping[str, int] = field(default_factory=dict)
    observed_at: datetime = NEVER

    @property
    def unused_policies(self) -> tuple[str, ...]:
        """The policies that selected nothing, as far as hosts could be observed."""
        used = {name for view in self.hosts.values() if view.desired for name in view.desired.policies}
        names = (located.document.metadata.name for located in self.declared.policies)
        return tuple(name for name in names if name not in used)


def survey(ports: Ports, options: Options, on_progress: OnProgress, hosts: Sequence[Host] | None = None) -> Survey:
    """Return where every host of the inventory (or of *hosts*) stands, observed now.

    Raises:
        ReconcilerError: the declarations, the inventory or the journal cannot be used; nothing was changed.
    """
    declared = ports.declarations.read()
    hosts = ports.inventory.hosts() if hosts is None else hosts
    observed = ports.observer.observe(hosts, modules_of(declared), on_progress)
    now = ports.clock.now()
    ports.journal.record_declarations(declared, now)
    ports.journal.record_observations(observed, now)
    compiled = compile_policies(declared)
    subjects = {
        name: lay_out(o.facts, compiled.catalogue) for name, o in observed.items() if isinstance(o, Observation)
    }
    desired = {host.name: resolve(compiled, host, subjects[host.name]) for host in hosts if host.name in subjects}
    histories = ports.journal.histories({name: wanted.digest() for name, wanted in desired.items()})
    views: dict[str, HostView] = {}
    for host in hosts:
        pool, trouble = _pool(host, declared)
        found = observed[host.name]
        if trouble is not None:
            views[host.name] = _stuck(host, pool, trouble)
        elif isinstance(found, Unobserved):
            reason = Reason.UNREACHABLE if found.reason == "Unreachable" else Reason.UNKNOWN
            views[host.name] = _stuck(host, pool, Wait(reason, found.message))
        else:
            reboot = _reboot(pool, options)
            terms = Terms(
                ports.controller.id, reboot, histories[host.name], ports.clock.now(), now, options.facts_max_age
            )
            plan = make_plan(host.name, desired[host.name], subjects[host.name], terms)
            view = HostView(host, pool, plan, judge(plan), desired[host.name], subjects[host.name])
            views[host.name] = replace(view, phase=_phase(view, ports, options))
    _record(views.values(), ports, now)
    sizes = Counter(view.pool.metadata.name for view in views.values())
    return Survey(declared, views, sizes, now)


def _pool(host: Host, declared: Declared) -> tuple[RolloutPool, Wait | None]:
    try:
        return pool_of(host, declared), None
    except TwoPoolsError as exc:
        return DEFAULT_POOL, Wait(Reason.CONFLICTED, str(exc))


def _phase(view: HostView, ports: Ports, options: Options) -> Phase:
    if not view.plan.actions:
        return Phase.IDLE
    return Phase.PLANNED if approved(view, ports, options) else Phase.PENDING_APPROVAL


def _stuck(host: Host, pool: RolloutPool, wait: Wait) -> HostView:
    """Return the view of a host about which nothing can be said."""
    return HostView(host, pool, Plan(host.name, 0, "", waits=(wait,)), unobserved(wait))


def modules_of(declared: Declared) -> tuple[str, ...]:
    """Return the kernel modules that the declarations speak of: facts must tell of them even where no device does."""
    names = {located.document.spec.kernel_module for located in declared.drivers} - {None}
    for driver in declared.drivers:
        names.update(driver.document.spec.conflicts)
    for policy in declared.policies:
        modules = policy.document.spec.kernel_modules
        if modules is not None:
            names.update((*modules.load, *modules.blacklist, *modules.options))
    return tuple(sorted(name for name in names if name))


def _reboot(pool: RolloutPool, options: Options) -> Reboot:
    return pool.spec.reboot.model_copy(update={"allowed": pool.spec.reboot.allowed or options.allow_reboot})


def converge(ports: Ports, first: Survey, options: Options, on_progress: OnProgress) -> Survey:
    """Carry out what *first* plans, wave by wave, and return where the hosts stand afterwards, observed again.

    A host goes on to a further pass only when the last one left it with something new to do, and then only with what
    *first* showed already, unless its pool needs no approval.
    """
    seen, stopped = first, False
    shown = {name: _changes(view) for name, view in first.hosts.items()}
    done: set[tuple[str, str]] = set()
    tries: Counter[str] = Counter()
    while not stopped:
        ready = [
            view
            for name, view in seen.hosts.items()
            if tries[name] < MAX_PASSES and _may_start(view, done) and approved(view, ports, options, shown[name])
        ]
        if not ready:
            break
        outcomes, stopped = _roll_out(ready, seen, ports, options, on_progress)
        done |= {(name, seen.hosts[name].plan.digest) for name in outcomes}
        tries.update(outcomes.keys())
        looked_at = [view.host for view in ready if view.host.name in outcomes or not stopped]
        again = survey(ports, options, on_progress, looked_at)
        hosts = {**seen.hosts, **_judged(again.hosts, outcomes, ports)}
        seen = replace(again, hosts=hosts, pool_sizes=first.pool_sizes)
    return _with_unasked(seen, ports, options, shown)


def _with_unasked(
    seen: Survey, ports: Ports, options: Options, shown: Mapping[str, frozenset[tuple[FieldPath, Value]]]
) -> Survey:
    """Return *seen* where hosts with something to do that no person was shown wait for approval, and note that."""
    unasked = {
        name: replace(view, phase=Phase.PENDING_APPROVAL)
        for name, view in seen.hosts.items()
        if view.phase is Phase.PLANNED and not approved(view, ports, options, shown[name])
    }
    if not unasked:
        return seen
    ports.journal.record_hosts([_host_record(view, seen.observed_at) for view in unasked.values()])
    return replace(seen, hosts={**seen.hosts, **unasked})


def _roll_out(
    ready: Sequence[HostView], seen: Survey, ports: Ports, options: Options, on_progress: OnProgress
) -> tuple[Mapping[str, Outcome], bool]:
    """Carry out the plans of *ready* in waves; return the outcomes, and whether trouble stopped the waves.

    What went wrong on one host is not tried on the next wave's. Where the waves took so long that the facts are too
    old, the hosts that are left are looked at again first.
    """
    outcomes: dict[str, Outcome] = {}
    pools = {view.host.name: view.pool for view in ready}
    for wave in waves(pools, pools, seen.pool_sizes):
        if outcomes and ports.clock.now() - seen.observed_at > options.facts_max_age:
            break
        outcomes |= _apply_wave([seen.hosts[name] for name in wave], seen.declared, ports, options, on_progress)
        if any(outcomes[name].status not in {"applied", "refused"} for name in wave):
            return outcomes, True
    return outcomes, False


def _changes(view: HostView) -> frozenset[tuple[FieldPath, Value]]:
    """Return what a host's plan shows to a person: what would be done, and what waits."""
    waiting = [wait.action for wait in view.plan.waits if wait.action is not None]
    return frozenset(
        (change.path, change.desired) for action in (*view.plan.actions, *waiting) for change in action.changes
    )


def _may_start(view: HostView, done: set[tuple[str, str]]) -> bool:
    """Return whether the host has something to do that was not tried in this call, and is not in trouble."""
    if not view.plan.actions or (view.host.name, view.plan.digest) in done:
        return False
    if view.outcome is None or view.outcome.status == "applied":
        return True
    reasons = {step.reason for step in view.outcome.steps if step.status == "refused"}
    return view.outcome.status == "refused" and reasons == {Reason.FACTS_STALE}  # the facts are new by now


def approved(
    view: HostView, ports: Ports, options: Options, shown: frozenset[tuple[FieldPath, Value]] | None = None
) -> bool:
    """Return whether the host's plan needs no approval, or has it; a consent is to what was *shown*."""
    if view.pool.spec.approval == "automatic":
        return True
    if options.consent and (shown is None or _changes(view) <= shown):
        return True
    return ports.journal.approved(view.host.name, view.plan.generation, view.plan.digest)


def _apply_wave(
    views: Sequence[HostView], declared: Declared, ports: Ports, options: Options, on_progress: OnProgress
) -> Mapping[str, Outcome]:
    """Cordon, apply and uncordon the hosts of one wave; what is not ours to uncordon stays as it is."""
    document = plan_document(views, declared, ports, options)
    names = [view.host.name for view in views]
    run = ports.journal.open_run(document, ports.clock.now())
    for name, plan in document.hosts.items():
        for segment in plan.segments:
            if isinstance(segment, RebootSegment):
                ports.journal.record_reboot(name, segment.boot_id, ports.clock.now())
    ours = [name for name in names if ports.cordon.cordon(name)]
    try:
        for view in views:
            ports.journal.record_event(Event(ports.clock.now(), "ApplyStarted", view.host.name, f"run {run}"))
        outcomes = ports.executor.apply(document, on_progress)
        for name in names:
            ports.journal.record_outcome(run, name, outcomes[name], ports.clock.now())
    finally:
        for name in ours:
            ports.cordon.uncordon(name)
    status = "applied" if all(outcomes[name].status == "applied" for name in names) else "failed"
    ports.journal.close_run(run, status, ports.clock.now())
    return {name: outcomes[name] for name in names}


def plan_document(views: Sequence[HostView], declared: Declared, ports: Ports, options: Options) -> PlanDocument:
    """Return the plans of *views* in the form in which they travel and are saved."""
    hosts: dict[str, HostPlan] = {
        view.host.name: to_document(view.plan, view.subject, _reboot(view.pool, options))
        for view in views
        if view.subject is not None
    }
    return PlanDocument(
        plan_version=PLAN_VERSION,
        uuid=str(uuid.uuid4()),
        created_at=ports.clock.now().isoformat(),
        controller_id=ports.controller.id,
        fencing_token=ports.controller.fencing_token,
        hosts=hosts,
        policies_digest=declared.digest,
    )


def _judged(views: Mapping[str, HostView], outcomes: Mapping[str, Outcome], ports: Ports) -> Mapping[str, HostView]:
    """Return *views* with their outcomes, and note in the journal which were verified."""
    judged = {name: replace(view, outcome=outcomes.get(name)) for name, view in views.items()}
    tried = [view for view in judged.values() if view.outcome is not None]
    stuck = [
        view.host.name
        for view in tried
        if not view.verdict.verified and (view.plan.actions or view.outcome is None or view.outcome.status != "applied")
    ]
    ports.journal.record_verdicts(dict.fromkeys(stuck, False))
    now = ports.clock.now()
    changed = [view for view in tried if any(step.status == "changed" for step in outcomes[view.host.name].steps)]
    ports.journal.record_hosts([replace(_host_record(view, now), changed_at=now) for view in changed])
    return judged


def _record(views: Collection[HostView], ports: Ports, now: datetime) -> None:
    """Keep where the hosts stand, and what has become of them since the last look."""
    records = [_host_record(view, now) for view in views]
    before = {record.name: record for record in ports.journal.hosts()}
    ports.journal.record_hosts(records)
    ports.journal.record_verdicts({view.host.name: True for view in views if view.verdict.verified})
    for record in records:
        old = before.get(record.name)
        if old is None or (old.sync, old.reason) != (record.sync, record.reason):
            text = ": ".join(part for part in (record.reason, record.message) if part)
            ports.journal.record_event(Event(now, str(record.sync), record.name, text))


def _host_record(view: HostView, now: datetime) -> HostRecord:
    wait = next(iter(view.plan.waits), None)
    if view.phase is Phase.PENDING_APPROVAL:
        text = f"`cyborg-reconciler approve --limit {view.host.name}` lets it go on; `apply` asks for itself"
        wait = Wait(Reason.PENDING_APPROVAL, text)
    where = "" if wait is None or wait.target == HOST else f"{wait.target}: "
    return HostRecord(
        name=view.host.name,
        uuid="",
        generation=view.plan.generation,
        sync=view.verdict.sync,
        health=view.verdict.health,
        phase=view.phase,
        reason=wait.reason if wait else "",
        message=f"{where}{wait.message}" if wait else "",
        fingerprint=view.plan.fingerprint,
        observed_at=now if view.subject else None,
    )


def resume(ports: Ports) -> Sequence[str]:
    """Close what an earlier process left open, once nothing of it runs any more; return the hosts that it was about.

    Nothing is repeated from memory: the next survey looks at these hosts as at all others.
    """
    open_runs = ports.journal.open_runs()
    if open_runs:
        ports.executor.settle()
    hosts: list[str] = []
    for run in open_runs:
        names = [name for name, status in run.hosts.items() if status == "running"]
        ports.journal.close_run(run.uuid, "interrupted", ports.clock.now())
        message = f"run {run.uuid} was interrupted; looking again at {', '.join(names) or 'its hosts'}"
        ports.journal.record_event(Event(ports.clock.now(), "RunInterrupted", message=message))
        hosts += names
    return tuple(dict.fromkeys(hosts))
