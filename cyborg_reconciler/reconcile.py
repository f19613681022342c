# SPDX-License-Identifier: Apache-2.0
"""The sentence: declare → resolve → observe → diff → plan → (approve) → roll out → observe again → verify → record.

Called by the CLI and by the loop; `survey` is its first half, and its last. All I/O goes through the ports; what to do
is decided afresh from what is declared and observed, so that a pass may be broken off anywhere and the next goes on.
"""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

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


def converge(ports: Ports, first: Survey, options: Options, on_progress: OnProgress) -> Survey:
    """Carry out what *first* plans, wave by wave, and return where the hosts stand afterwards, observed again.

    A host goes on to a further pass only when the last one left it with something new to do, and then only with what
    *first* showed already, unless its pool needs no approval.
    """
    seen, stopped = first, False
    shown = {name: shown_changes(view) for name, view in first.hosts.items()}
    done: set[tuple[str, str]] = set()
    tries: Counter[str] = Counter()
    while not (stopped or options.stop()):
        seen = _fresh(seen, ports, options, on_progress)
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
        ports.journal.record_phases(
            [name for name, out in outcomes.items() if out.status == "applied"], Phase.VALIDATING
        )
        again = survey(ports, options, on_progress, looked_at)
        hosts = {**seen.hosts, **_judged(again.hosts, outcomes, done, ports)}
        seen = replace(again, hosts=hosts, pool_sizes=first.pool_sizes, limited=first.limited)
    return _with_reasons(seen, ports, options, shown)


def _fresh(seen: Survey, ports: Ports, options: Options, on_progress: OnProgress) -> Survey:
    """Return *seen*, looked at again where its facts have become too old: a person may think for a long time."""
    if ports.clock.now() - seen.observed_at <= options.facts_max_age:
        return seen
    again = survey(ports, options, on_progress, [view.host for view in seen.hosts.values()])
    return replace(again, pool_sizes=seen.pool_sizes, limited=seen.limited)


def _with_reasons(seen: Survey, ports: Ports, options: Options, shown: Mapping[str, frozenset[ShownChange]]) -> Survey:
    """Return *seen* where hosts whose turn has not come say why, and note that.

    What no person was shown waits for approval; what was not begun, since an earlier wave went wrong, for its slot.
    """
    kept: dict[str, HostView] = {}
    for name, view in seen.hosts.items():
        if view.phase is Phase.PLANNED and not approved(view, ports, options, shown[name]):
            kept[name] = replace(view, phase=Phase.PENDING_APPROVAL)
        elif view.phase is Phase.PLANNED and view.outcome is None:
            kept[name] = replace(view, phase=Phase.WAITING_FOR_SLOT)
    if not kept:
        return seen
    ports.journal.record_hosts([host_record(view, seen.observed_at) for view in kept.values()])
    return replace(seen, hosts={**seen.hosts, **kept})


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
        if options.stop() or (outcomes and ports.clock.now() - seen.observed_at > options.facts_max_age):
            break
        outcomes |= _apply_wave([seen.hosts[name] for name in wave], seen.declared, ports, options, on_progress)
        if any(outcomes[name].status not in {"applied", "refused"} for name in wave):
            return outcomes, True
    return outcomes, False


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
