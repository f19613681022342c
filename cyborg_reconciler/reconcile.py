# SPDX-License-Identifier: Apache-2.0
"""The sentence: declare → resolve → observe → diff → plan → (approve) → roll out → observe again → verify → record.

Called by the CLI and by the loop; `survey` is its first half, and its last. All I/O goes through the ports; what to do
is decided afresh from what is declared and observed, so that a pass may be broken off anywhere and the next goes on.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from cyborg_reconciler.core.rollout import waves
from cyborg_reconciler.core.state import Phase, Reason
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.plan import Outcome, PlanDocument, RebootSegment
from cyborg_reconciler.errors import ExecutionError, JournalError
from cyborg_reconciler.phases import WavePhases, put_right
from cyborg_reconciler.ports import BegunRun, Event, OnProgress, Progress
from cyborg_reconciler.saved_plans import plan_document
from cyborg_reconciler.survey import (
    HostView,
    Options,
    Ports,
    Shown,
    Survey,
    approved,
    host_record,
    shown_changes,
    survey,
)
from cyborg_reconciler.tracing import of_request

#: How often one call of `converge` changes a host: what a reboot or a driver makes possible is done in the next pass.
MAX_PASSES = 4


def converge(ports: Ports, first: Survey, options: Options, on_progress: OnProgress) -> Survey:
    """Carry out what *first* plans, wave by wave, and return where the hosts stand afterwards, observed again.

    A host goes on to a further pass only when the last one left it with something new to do, and then only with what
    *first* showed already, unless its pool needs no approval and no saved plan says what to do.
    """
    shown = {name: shown_changes(view, options) for name, view in first.hosts.items()}
    rollout = _Rollout(ports, options, on_progress, shown)
    seen, begun = first, True
    while begun:
        seen, begun = rollout.advance(seen)
    return _with_reasons(seen, ports, options, shown)


@dataclass
class _Rollout:
    """One call of `converge`: what it may do, and what it has done so far.

    Attributes:
        shown: what a person agreed to, by host.
        plans: host and digest of each plan that was carried out.
        passes: how often each host was changed.
        pools: those in which something went wrong; nothing more is begun there.
        runs: the last ones, by host; nothing more is begun when somebody wants one of them to be the last.
    """

    ports: Ports
    options: Options
    on_progress: OnProgress
    shown: Mapping[str, Shown]
    plans: set[tuple[str, str]] = field(default_factory=set)
    passes: Counter[str] = field(default_factory=Counter)
    pools: set[str] = field(default_factory=set)
    runs: Mapping[str, BegunRun] = field(default_factory=dict)

    def advance(self, seen: Survey) -> tuple[Survey, bool]:
        """Change what may be changed, in waves, and return where the hosts stand then, and whether anything was begun.

        What went wrong on one host is not tried on those of its pool that come later.
        """
        begun = False
        pools = {name: view.pool for name, view in seen.hosts.items() if self._allows(view)}
        for wave in waves(pools, pools, seen.pool_sizes):
            if self.options.stop() or any(map(self.ports.journal.cancel_requested, self._uuids())):
                break
            seen = self._fresh(seen, wave)
            if views := [v for v in map(seen.hosts.__getitem__, wave) if self._allows(v) and self._is_new(v)]:
                seen, begun = self._change(views, seen), True
        return seen, begun

    def _uuids(self) -> set[str]:
        return {run.uuid for run in self.runs.values()}

    def _allows(self, view: HostView) -> bool:
        """Return whether the host has something to do that may be begun."""
        name = view.host.name
        if self.passes[name] >= MAX_PASSES or view.pool.metadata.name in self.pools:
            return False
        return _may_start(view, self.plans) and approved(view, self.ports, self.options, self.shown[name])

    def _fresh(self, seen: Survey, wave: Sequence[str]) -> Survey:
        """Return *seen*, with a new look at the hosts of *wave* where facts of theirs are too old to be acted on.

        They may be: a person thinks for a long time before he agrees, and other waves and a long look take their time.
        """
        return seen if all(self._is_new(seen.hosts[name]) for name in wave) else self._look(seen, wave)

    def _is_new(self, view: HostView) -> bool:
        """Return whether the facts of the host are new enough to be acted on, or there are none to be acted on."""
        oldest = self.ports.clock.now() - self.options.facts_max_age
        return view.observed_at is None or view.observed_at >= oldest

    def _look(self, seen: Survey, names: Sequence[str], amid: Phase | None = None) -> Survey:
        """Return *seen* with a new look at the hosts called *names*."""
        hosts_again = [seen.hosts[name].host for name in names]
        again = survey(self.ports, self.options, self.on_progress, hosts_again, amid)
        hosts = {**seen.hosts, **again.hosts}
        return replace(again, hosts=hosts, pool_sizes=seen.pool_sizes, limited=seen.limited)

    def _change(self, views: Sequence[HostView], seen: Survey) -> Survey:
        """Cordon the hosts of a wave, apply, look again, verify, uncordon; return *seen* with where they stand then.

        What is not ours to uncordon stays as it is.
        """
        journal, names = self.ports.journal, [view.host.name for view in views]
        phases = WavePhases(journal, names)
        ours: list[str] = []
        try:
            outcomes = self._apply(views, seen.declared, phases, ours)
            phases.enter(Phase.VALIDATING)
            seen = self._look(seen, names, Phase.VALIDATING)
            again = {name: replace(seen.hosts[name], run=self.runs[name].uuid) for name in names}
            judged = self._judge(again, outcomes)
            phases.enter(Phase.UNCORDONING)
        finally:
            with ExitStack() as stack:  # one that cannot be uncordoned keeps no other from it
                for name in ours:
                    stack.callback(self.ports.cordon.uncordon, name)
        now = self.ports.clock.now()
        changed = {name for name, out in outcomes.items() if any(step.status == "changed" for step in out.steps)}
        journal.record_hosts(
            [
                replace(host_record(view, now), changed_at=now if name in changed else None)
                for name, view in judged.items()
            ]
        )
        return replace(seen, hosts={**seen.hosts, **judged})

    def _apply(
        self, views: Sequence[HostView], declared: Declared, phases: WavePhases, ours: list[str]
    ) -> Mapping[str, Outcome]:
        """Carry out the plans of a wave in runs of its own, which are closed whatever happens meanwhile.

        The names of the hosts that were cordoned are added to *ours*, one by one: some, when one cannot be.
        """
        ports, names = self.ports, [view.host.name for view in views]
        document = plan_document(views, declared, ports, self.options)
        now = ports.clock.now()
        self.runs = ports.journal.open_run(document, now)
        try:
            begun = [replace(view, phase=Phase.CORDONING, failed_in=None) for view in views]
            ports.journal.record_hosts([host_record(view, now) for view in begun])
            ours.extend(name for name in names if ports.cordon.cordon(name))
            phases.enter(Phase.APPLYING)
            outcomes = self._carry_out(document, phases)
        except BaseException as exc:
            nobody_asked = isinstance(exc, ExecutionError)
            with suppress(JournalError):  # what went wrong first is told; `resume` closes the run at the next start
                if nobody_asked:
                    ports.journal.record_verdicts(dict.fromkeys(names, False))
                put_right(ports.journal, ports.clock.now())
                for run in self._uuids():
                    ports.journal.close_run(run, "failed" if nobody_asked else "interrupted", ports.clock.now())
            raise
        for run in sorted(self._uuids()):
            theirs = [outcomes[name].status for name in names if self.runs[name].uuid == run]
            ports.journal.close_run(run, "applied" if set(theirs) == {"applied"} else "failed", ports.clock.now())
        return outcomes

    def _carry_out(self, document: PlanDocument, phases: WavePhases) -> Mapping[str, Outcome]:
        """Have the executor do what *document* says, and note what it begins and what comes out."""
        journal, clock = self.ports.journal, self.ports.clock
        for name, plan in document.hosts.items():
            for segment in plan.segments:
                if isinstance(segment, RebootSegment):
                    journal.record_reboot(name, segment.boot_id, clock.now())
        for name, plan in document.hosts.items():
            run = self.runs[name].uuid
            journal.record_event(Event(clock.now(), "ApplyStarted", name, f"run {run}", run=run))
            self.plans.add((name, plan.digest))
            self.passes[name] += 1
        outcomes = self.ports.executor.apply(document, phases.following(self._tell))
        for name in document.hosts:
            journal.record_outcome(self.runs[name].uuid, name, outcomes[name], clock.now())
        phases.fail([n for n in document.hosts if outcomes[n].status != "applied" and not _was_stale(outcomes[n])])
        return {name: outcomes[name] for name in document.hosts}

    def _tell(self, progress: Progress) -> None:
        """Tell what happens on a host, for the request that asked for it."""
        run = self.runs.get(progress.host)
        with of_request(run.request_id if run is not None else ""):
            self.on_progress(progress)

    def _judge(self, views: Mapping[str, HostView], outcomes: Mapping[str, Outcome]) -> Mapping[str, HostView]:
        """Return *views* with their outcomes, and note which were verified, and in which pools something went wrong.

        A host that reported success and has the same thing to do as before, or cannot be observed, failed.
        """
        judged: dict[str, HostView] = {}
        stuck: list[str] = []
        for name, view in views.items():
            out = outcomes[name]
            same = view.plan.actions and (name, view.plan.digest) in self.plans
            failed = out.status == "applied" and (same or view.subject is None)
            judged[name] = replace(view, outcome=out, failed_in=Phase.VALIDATING if failed else view.failed_in)
            if failed or out.status not in {"applied", "refused"}:
                self.pools.add(view.pool.metadata.name)
            if not view.verdict.verified and (view.plan.actions or out.status != "applied"):
                stuck.append(name)
        self.ports.journal.record_verdicts(dict.fromkeys(stuck, False))
        return judged


def _with_reasons(seen: Survey, ports: Ports, options: Options, shown: Mapping[str, Shown]) -> Survey:
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
        ports.journal.record_event(Event(ports.clock.now(), "RunInterrupted", message=message, run=run.uuid))
        hosts += names
    put_right(ports.journal, ports.clock.now())
    return tuple(dict.fromkeys(hosts))
