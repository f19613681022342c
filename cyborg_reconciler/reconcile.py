# SPDX-License-Identifier: Apache-2.0
"""The sentence: declare → resolve → observe → diff → plan → (approve) → roll out → observe again → verify → record.

Called by the CLI and by the loop; `survey` is its first half, and its last. All I/O goes through the ports; what to do
is decided afresh from what is declared and observed, so that a pass may be broken off anywhere and the next goes on.
"""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from cyborg_reconciler.core.plan import to_document
from cyborg_reconciler.core.rollout import waves
from cyborg_reconciler.core.state import Phase, Reason
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.plan import PLAN_VERSION, HostPlan, Outcome, PlanDocument, RebootSegment
from cyborg_reconciler.errors import ExecutionError, JournalError
from cyborg_reconciler.phases import WavePhases, put_right
from cyborg_reconciler.ports import Event, OnProgress
from cyborg_reconciler.survey import (
    HostView,
    Options,
    Ports,
    ShownChange,
    Survey,
    approved,
    host_record,
    reboot_terms,
    shown_changes,
    survey,
)

#: How often one call of `converge` changes a host: what a reboot or a driver makes possible is done in the next pass.
MAX_PASSES = 4


@dataclass
class _Tried:
    """What one call of `converge` showed, and what it has done since.

    Attributes:
        shown: what a person agreed to, by host.
        plans: host and digest of each plan that was carried out.
        passes: how often each host was changed.
        pools: those in which something went wrong; nothing more is begun there.
    """

    shown: Mapping[str, frozenset[ShownChange]]
    plans: set[tuple[str, str]] = field(default_factory=set)
    passes: Counter[str] = field(default_factory=Counter)
    pools: set[str] = field(default_factory=set)

    def allows(self, view: HostView, ports: Ports, options: Options) -> bool:
        """Return whether the host has something to do that may be begun."""
        name = view.host.name
        if self.passes[name] >= MAX_PASSES or view.pool.metadata.name in self.pools:
            return False
        return _may_start(view, self.plans) and approved(view, ports, options, self.shown[name])

    def note(self, views: Mapping[str, HostView], outcomes: Mapping[str, Outcome]) -> None:
        """Take in what came out for the hosts of a wave."""
        for name, outcome in outcomes.items():
            self.plans.add((name, views[name].plan.digest))
            self.passes[name] += 1
            if outcome.status not in {"applied", "refused"}:
                self.pools.add(views[name].pool.metadata.name)


def converge(ports: Ports, first: Survey, options: Options, on_progress: OnProgress) -> Survey:
    """Carry out what *first* plans, wave by wave, and return where the hosts stand afterwards, observed again.

    A host goes on to a further pass only when the last one left it with something new to do, and then only with what
    *first* showed already, unless its pool needs no approval.
    """
    seen = first
    tried = _Tried({name: shown_changes(view, waits=not options.saved) for name, view in first.hosts.items()})
    while True:
        seen, outcomes = _roll_out(seen, tried, ports, options, on_progress)
        if not outcomes:
            return _with_reasons(seen, ports, options, tried.shown)
        ports.journal.record_phases(
            [name for name, out in outcomes.items() if out.status == "applied"], Phase.VALIDATING
        )
        again = survey(ports, options, on_progress, [seen.hosts[name].host for name in outcomes])
        hosts = {**seen.hosts, **_judged(again.hosts, outcomes, tried.plans, ports)}
        seen = replace(again, hosts=hosts, pool_sizes=first.pool_sizes, limited=first.limited)


def _with_reasons(seen: Survey, ports: Ports, options: Options, shown: Mapping[str, frozenset[ShownChange]]) -> Survey:
    """Return *seen* where hosts whose turn has not come say why, and note that.

    What no person was shown waits for approval; what was not begun, since an earlier wave of its pool went wrong, waits
    for its slot.
    """
    kept: dict[str, HostView] = {}
    for name, view in seen.hosts.items():
        if view.phase is Phase.PLANNED and not approved(view, ports, options, shown[name]):
            kept[name] = replace(view, phase=Phase.PENDING_APPROVAL)
        elif view.phase is Phase.PLANNED and view.outcome is None:
            kept[name] = replace(view, phase=Phase.WAITING_FOR_SLOT)
    if not kept:
        return seen
    now = ports.clock.now()
    ports.journal.record_hosts([host_record(view, now) for view in kept.values()])
    return replace(seen, hosts={**seen.hosts, **kept})


def _roll_out(
    seen: Survey, tried: _Tried, ports: Ports, options: Options, on_progress: OnProgress
) -> tuple[Survey, Mapping[str, Outcome]]:
    """Carry out what may be begun, in waves; return what it began with, and the outcomes: none where nothing may be.

    What went wrong on one host is not tried on those of its pool that come later.
    """
    outcomes: dict[str, Outcome] = {}
    pools = {name: view.pool for name, view in seen.hosts.items() if tried.allows(view, ports, options)}
    for wave in waves(pools, pools, seen.pool_sizes):
        if options.stop():
            break
        seen = _fresh(seen, wave, ports, options, on_progress)
        views = {name: seen.hosts[name] for name in wave if tried.allows(seen.hosts[name], ports, options)}
        if views:
            done = _apply_wave(list(views.values()), seen.declared, ports, options, on_progress)
            tried.note(views, done)
            outcomes |= done
    return seen, outcomes


def _fresh(seen: Survey, wave: Sequence[str], ports: Ports, options: Options, on_progress: OnProgress) -> Survey:
    """Return *seen*, with a new look at the hosts of *wave* where facts of theirs are too old to be acted on.

    They may be: a person thinks for a long time before he agrees, and other waves and a long look take their time.
    """
    oldest = ports.clock.now() - options.facts_max_age
    if all((seen.hosts[name].observed_at or oldest) >= oldest for name in wave):
        return seen
    again = survey(ports, options, on_progress, [seen.hosts[name].host for name in wave])
    hosts = {**seen.hosts, **again.hosts}
    return replace(again, hosts=hosts, pool_sizes=seen.pool_sizes, limited=seen.limited)


def _may_start(view: HostView, done: set[tuple[str, str]]) -> bool:
    """Return whether the host has something to do that was not tried in this call, and is not in trouble."""
    if not view.plan.actions or (view.host.name, view.plan.digest) in done:
        return False
    if view.outcome is None or view.outcome.status == "applied":
        return True
    return _was_stale(view.outcome)  # the facts are new by now


def _was_stale(outcome: Outcome) -> bool:
    """Return whether the host refused its plan for no other reason than that it was made from old facts."""
    reasons = {step.reason for step in outcome.steps if step.status == "refused"}
    return outcome.status == "refused" and reasons == {Reason.FACTS_STALE}


def _apply_wave(
    views: Sequence[HostView], declared: Declared, ports: Ports, options: Options, on_progress: OnProgress
) -> Mapping[str, Outcome]:
    """Carry out the plans of one wave in a run of its own, which is closed whatever happens meanwhile."""
    document = plan_document(views, declared, ports, options)
    names = [view.host.name for view in views]
    now = ports.clock.now()
    run = ports.journal.open_run(document, now)
    try:
        begun = [replace(view, phase=Phase.CORDONING, failed_in=None) for view in views]
        ports.journal.record_hosts([host_record(view, now) for view in begun])
        outcomes = _carry_out(run, document, names, ports, on_progress)
    except BaseException as exc:
        nobody_asked = isinstance(exc, ExecutionError)
        with suppress(JournalError):  # what went wrong first is what is told; `resume` closes the run at the next start
            if nobody_asked:
                ports.journal.record_verdicts(dict.fromkeys(names, False))
            put_right(ports.journal, ports.clock.now())
            ports.journal.close_run(run, "failed" if nobody_asked else "interrupted", ports.clock.now())
        raise
    status = "applied" if all(outcome.status == "applied" for outcome in outcomes.values()) else "failed"
    ports.journal.close_run(run, status, ports.clock.now())
    return outcomes


def _carry_out(
    run: str, document: PlanDocument, names: Sequence[str], ports: Ports, on_progress: OnProgress
) -> Mapping[str, Outcome]:
    """Cordon, apply and uncordon the hosts of *document*; what is not ours to uncordon stays as it is."""
    for name, plan in document.hosts.items():
        for segment in plan.segments:
            if isinstance(segment, RebootSegment):
                ports.journal.record_reboot(name, segment.boot_id, ports.clock.now())
    phases = WavePhases(ports.journal, names)
    ours: list[str] = []
    try:
        ours.extend(name for name in names if ports.cordon.cordon(name))  # one by one: some, when one cannot be
        phases.enter(Phase.APPLYING)
        for name in names:
            ports.journal.record_event(Event(ports.clock.now(), "ApplyStarted", name, f"run {run}"))
        outcomes = ports.executor.apply(document, phases.following(on_progress))
        for name in names:
            ports.journal.record_outcome(run, name, outcomes[name], ports.clock.now())
        phases.fail([n for n in names if outcomes[n].status != "applied" and not _was_stale(outcomes[n])])
        phases.enter(Phase.UNCORDONING)
    finally:
        for name in ours:
            ports.cordon.uncordon(name)
    return {name: outcomes[name] for name in names}


def plan_document(views: Sequence[HostView], declared: Declared, ports: Ports, options: Options) -> PlanDocument:
    """Return the plans of *views* in the form in which they travel and are saved."""
    hosts: dict[str, HostPlan] = {
        view.host.name: to_document(view.plan, view.subject, reboot_terms(view.pool, options))
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


def _judged(
    views: Mapping[str, HostView], outcomes: Mapping[str, Outcome], done: Collection[tuple[str, str]], ports: Ports
) -> Mapping[str, HostView]:
    """Return *views* with their outcomes, and note in the journal which were verified.

    A host that reported success and has the same thing to do as before (*done*), or cannot be observed, failed.
    """
    judged = {name: replace(view, outcome=outcomes.get(name)) for name, view in views.items()}
    for name, out in outcomes.items():
        same = judged[name].plan.actions and (name, judged[name].plan.digest) in done
        if out.status == "applied" and (same or judged[name].subject is None):
            judged[name] = replace(judged[name], failed_in=Phase.VALIDATING)
    tried = [view for view in judged.values() if view.outcome is not None]
    stuck = [
        view.host.name
        for view in tried
        if not view.verdict.verified and (view.plan.actions or view.outcome is None or view.outcome.status != "applied")
    ]
    ports.journal.record_verdicts(dict.fromkeys(stuck, False))
    now = ports.clock.now()
    changed = {name for name, out in outcomes.items() if any(step.status == "changed" for step in out.steps)}
    ports.journal.record_hosts(
        [
            replace(host_record(view, now), changed_at=now if view.host.name in changed else None)
            for view in tried
            if view.host.name in changed or view.failed_in
        ]
    )
    return judged


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
    put_right(ports.journal, ports.clock.now())
    return tuple(dict.fromkeys(hosts))
