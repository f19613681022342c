# SPDX-License-Identifier: Apache-2.0
"""Where does every host stand: what is desired of it, what it reported, what is to be done, and who must agree?

The first half of the sentence, declare → resolve → observe → diff → plan. Called by `reconcile`, before and after it
changes anything, and by the commands that only look. All I/O goes through the ports.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from cyborg_reconciler.core.conditions import Condition, Standing, conditions_of
from cyborg_reconciler.core.modules_wanted import modules_of
from cyborg_reconciler.core.plan import Terms, make_plan
from cyborg_reconciler.core.resolve import Desired, compile_policies, resolve
from cyborg_reconciler.core.rollout import DEFAULT_POOL, TwoPoolsError, pool_of
from cyborg_reconciler.core.rules import HostRules
from cyborg_reconciler.core.select import selects_host
from cyborg_reconciler.core.state import (
    UNDER_WAY,
    Action,
    Disruption,
    FieldPath,
    History,
    Host,
    Phase,
    Plan,
    Reason,
    Value,
    Wait,
)
from cyborg_reconciler.core.subject import Subject, lay_out
from cyborg_reconciler.core.verdict import Verdict, judge, unobserved
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.plan import Outcome
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

#: What a person's consent is to: a field and what it is to be, and up to which disruption.
Shown = Mapping[tuple[FieldPath, Value], Disruption]


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
        saved: the consent is to a saved plan: to what it does, and to nothing else, whatever the pools say.
        allow_reboot: reboots are allowed whatever the pools say.
        stop: asked before each wave; nothing more is begun once it says so.
        limited: it is about some hosts of the inventory alone.
    """

    consent: bool = False
    saved: bool = False
    allow_reboot: bool = False
    facts_max_age: timedelta = timedelta(minutes=15)
    stop: Callable[[], bool] = lambda: False
    limited: bool = False


@dataclass(frozen=True, slots=True)
class HostView:
    """One host at one moment: what is desired of it, what it reported, what is to be done, where it stands.

    Attributes:
        phase: ``Planned`` where something is to be done, ``PendingApproval`` where a person has to agree to it first.
        conditions: as the journal has them.
        failed_in: the phase in which the last change failed, until the host is seen as declared.
        outcome, run: of the last change that this call made.
    """

    host: Host
    pool: RolloutPool
    plan: Plan
    verdict: Verdict
    desired: Desired | None = None
    subject: Subject | None = None
    outcome: Outcome | None = None
    run: str = ""
    phase: Phase = Phase.IDLE
    history: History = field(default_factory=History)
    conditions: tuple[Condition, ...] = ()
    failed_in: Phase | None = None
    observed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """All hosts at one moment, with what was declared then; *limited*: but for hosts that nobody asked about."""

    declared: Declared
    hosts: Mapping[str, HostView]
    pool_sizes: Mapping[str, int] = field(default_factory=dict)
    limited: bool = False

    @property
    def unused_policies(self) -> tuple[str, ...]:
        """The policies that certainly select nothing: none of the hosts that they may be about is out of sight."""
        if self.limited:
            return ()
        used = {name for view in self.hosts.values() if view.desired for name in view.desired.policies}
        out_of_sight = [view.host for view in self.hosts.values() if view.desired is None]
        documents = [located.document for located in self.declared.policies]
        return tuple(
            one.metadata.name
            for one in documents
            if one.metadata.name not in used
            and not any(selects_host(one.spec.host_selector, host) for host in out_of_sight)
        )


def survey(
    ports: Ports,
    options: Options,
    on_progress: OnProgress,
    hosts: Sequence[Host] | None = None,
    amid: Phase | None = None,
) -> Survey:
    """Return where every host of the inventory (or of *hosts*) stands, observed now.

    *amid*: the phase of a change that they are still in, and recorded in.

    Raises:
        ReconcilerError: the declarations, the inventory or the journal cannot be used; nothing was changed.
    """
    declared = ports.declarations.read()
    ports.journal.record_declarations(declared, ports.clock.now())  # first: the API judges by what is recorded
    if hosts is None:
        hosts = ports.inventory.hosts()
        ports.journal.record_inventory(hosts)
    observed = ports.observer.observe(hosts, modules_of(declared), on_progress)
    now = ports.clock.now()
    ports.journal.record_observations(observed)
    views = compare(Basis(declared, ports.journal, ports.controller.id, options), hosts, observed)
    views = _recorded(views, ports, now, amid)
    return Survey(declared, views, pool_sizes(hosts, declared), options.limited)


class Memory(Protocol):
    """What hosts are compared with: as the journal has it."""

    def histories(self, digests: Mapping[str, str]) -> Mapping[str, History]:
        """Return what is remembered of each host under its present generation."""

    def approved(self, host: str, generation: int, digest: str) -> bool:
        """Return whether just these actions were approved."""


class Remembering(Protocol):
    """Whatever has a journal, or what can stand in its place here."""

    @property
    def journal(self) -> Memory:
        """The memory."""


@dataclass(frozen=True, slots=True)
class Basis:
    """By what hosts are compared with what is declared.

    Attributes:
        at: as of when facts are judged; None: as of when they came in. Whether they are still new enough is then asked
            when something is begun.
    """

    declared: Declared
    journal: Memory
    controller_id: str
    options: Options
    at: datetime | None = None


def compare(
    basis: Basis, hosts: Sequence[Host], observed: Mapping[str, Observation | Unobserved]
) -> dict[str, HostView]:
    """Return where *hosts* stand by what was *observed*, by name; all I/O is the memory's."""
    compiled = compile_policies(basis.declared, {host.name for host in hosts})
    subjects = {
        name: lay_out(o.facts, compiled.catalogue) for name, o in observed.items() if isinstance(o, Observation)
    }
    desired = {host.name: resolve(compiled, host, subjects[host.name]) for host in hosts if host.name in subjects}
    histories = basis.journal.histories({name: wanted.digest() for name, wanted in desired.items()})
    views: dict[str, HostView] = {}
    for host in hosts:
        pool, trouble = _pool(host, basis.declared)
        found = observed[host.name]
        if trouble is not None:
            views[host.name] = _stuck(host, pool, trouble)
        elif isinstance(found, Unobserved):
            reason = Reason.UNREACHABLE if found.reason == "Unreachable" else Reason.UNKNOWN
            views[host.name] = _stuck(host, pool, Wait(reason, found.message))
        else:
            reboot, seen_at = reboot_terms(pool, basis.options), found.received_at
            terms = Terms(
                basis.controller_id,
                reboot,
                histories[host.name],
                basis.at or seen_at,
                seen_at,
                basis.options.facts_max_age,
                host.connection,
            )
            plan = make_plan(host.name, desired[host.name], subjects[host.name], terms)
            view = HostView(
                host,
                pool,
                plan,
                judge(plan),
                desired[host.name],
                subjects[host.name],
                history=histories[host.name],
                observed_at=seen_at,
            )
            views[host.name] = replace(view, phase=_phase(view, basis, basis.options))
    return views


def pool_sizes(hosts: Iterable[Host], declared: Declared) -> Mapping[str, int]:
    """Return how many of *hosts* each pool has, by its name."""
    return Counter(_pool(host, declared)[0].metadata.name for host in hosts)


def _pool(host: Host, declared: Declared) -> tuple[RolloutPool, Wait | None]:
    try:
        return pool_of(host, declared), None
    except TwoPoolsError as exc:
        return DEFAULT_POOL, Wait(Reason.CONFLICTED, str(exc))


def _phase(view: HostView, memory: Remembering, options: Options) -> Phase:
    if not view.plan.actions:
        return Phase.IDLE
    return Phase.PLANNED if approved(view, memory, options) else Phase.PENDING_APPROVAL


def _stuck(host: Host, pool: RolloutPool, wait: Wait) -> HostView:
    """Return the view of a host about which nothing can be said."""
    return HostView(host, pool, Plan(host.name, 0, "", waits=(wait,)), unobserved(wait))


def reboot_terms(pool: RolloutPool, options: Options) -> Reboot:
    """Return whether and how hosts of *pool* may be rebooted; the caller may allow what the pool does not."""
    return pool.spec.reboot.model_copy(update={"allowed": pool.spec.reboot.allowed or options.allow_reboot})


def shown_changes(view: HostView, options: Options) -> Shown:
    """Return what a consent to a host's plan is to.

    Who looks at a plan and agrees does so to what would be done and to what waits, and to a reboot where one is shown;
    who gives a saved plan, to what that does, at the disruption that it says.
    """
    waiting = [] if options.saved else [wait.action for wait in view.plan.waits if wait.action is not None]
    return _changes_of((*view.plan.actions, *waiting), Disruption.NONE if options.saved else Disruption.DRAIN)


def _changes_of(actions: Iterable[Action], least: Disruption) -> Shown:
    """Return what *actions* change, each with its disruption, but *least* at least."""
    found: dict[tuple[FieldPath, Value], Disruption] = {}
    for action in actions:
        for change in action.changes:
            key = change.path, change.desired
            found[key] = max(found.get(key, least), action.disruption)
    return found


def approved(view: HostView, memory: Remembering, options: Options, shown: Shown | None = None) -> bool:
    """Return whether the host's plan needs no approval, or has it; a consent is to what was *shown*."""
    if view.pool.spec.approval == "automatic" and not options.saved:
        return True
    planned = _changes_of(view.plan.actions, Disruption.NONE)
    if options.consent and (shown is None or all(key in shown and planned[key] <= shown[key] for key in planned)):
        return True
    return memory.journal.approved(view.host.name, view.plan.generation, view.plan.digest)


def _recorded(views: Mapping[str, HostView], ports: Ports, now: datetime, amid: Phase | None) -> dict[str, HostView]:
    """Keep where the hosts stand, and what became of them since the last look; return them as the journal has them.

    What another process is at work on is its to record: it will have looked later than we did.
    """
    before = {record.name: record for record in ports.journal.hosts(list(views))}
    known = {name: _following(view, before.get(name)) for name, view in views.items()}
    records = [
        host_record(view if amid is None or view.failed_in else replace(view, phase=amid), now)
        for view in known.values()
        if view.phase not in UNDER_WAY
    ]
    ports.journal.record_hosts(records)
    ports.journal.record_verdicts({name: True for name, view in known.items() if view.verdict.verified})
    for record in records:
        old = before.get(record.name)
        if old is None or (old.sync, old.reason) != (record.sync, record.reason):
            text = ": ".join(part for part in (record.reason, record.message) if part)
            ports.journal.record_event(Event(now, str(record.sync), record.name, text))
    changed = {record.name: record.conditions for record in records if record.conditions}
    return known | {name: replace(known[name], conditions=conditions) for name, conditions in changed.items()}


def _following(view: HostView, old: HostRecord | None) -> HostView:
    """Return *view* with what stays of *old*: a failure, or somebody's work, until the host is as declared."""
    if old is None:
        return view
    if view.verdict.verified:
        return replace(view, conditions=old.conditions)
    at_work = old.phase in UNDER_WAY and old.phase is not Phase.VALIDATING
    phase = old.phase if at_work else view.phase
    return replace(view, phase=phase, failed_in=old.failed_in, conditions=old.conditions)


def host_record(view: HostView, now: datetime) -> HostRecord:
    """Return what the journal is to keep of where a host stands; conditions only where they are not as it has them."""
    wait = next(iter(view.plan.waits), None)
    if view.phase is Phase.PENDING_APPROVAL:
        text = f"`cyborg-reconciler approve --limit {view.host.name}` lets it go on; `apply` asks for itself"
        wait = Wait(Reason.PENDING_APPROVAL, text)
    elif view.phase is Phase.WAITING_FOR_SLOT:
        wait = Wait(
            Reason.WAITING_FOR_SLOT, "an earlier wave of its pool went wrong, or was the last: begun at the next pass"
        )
    standing = Standing(
        view.plan,
        view.verdict,
        view.phase,
        wait,
        was_synced=view.history.was_synced,
        failed_in=view.failed_in,
        desired=view.desired,
        subject=view.subject,
    )
    conditions = conditions_of(standing, view.conditions, now)
    return HostRecord(
        name=view.host.name,
        uuid="",
        generation=view.plan.generation,
        sync=view.verdict.sync,
        health=view.verdict.health,
        phase=Phase.FAILED if view.failed_in else view.phase,
        reason=wait.reason if wait else "",
        message=wait.text if wait else "",
        fingerprint=view.plan.fingerprint,
        observed_at=view.observed_at,
        failed_in=view.failed_in,
        conditions=() if conditions == view.conditions else conditions,
        drivers=HostRules(view.desired, view.subject).drivers() if view.desired and view.subject else None,
    )
