# SPDX-License-Identifier: Apache-2.0
"""What is to be done on one host, in which order, and what waits, and why.

Called by `reconcile` and the CLI for each host; `to_document` gives the form in which a plan travels. Pure.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import msgspec

from cyborg_reconciler.core.diff import blind_spots, diff
from cyborg_reconciler.core.features import BY_NAME, FEATURES
from cyborg_reconciler.core.features.base import Setting
from cyborg_reconciler.core.interpret import interpret
from cyborg_reconciler.core.resolve import Desired
from cyborg_reconciler.core.state import (
    HOST,
    NO_LONGER_DECLARED,
    Action,
    Change,
    Disruption,
    FieldPath,
    History,
    Plan,
    Reason,
    Unknown,
    Wait,
)
from cyborg_reconciler.core.subject import Subject, to_json
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.plan import ActionsSegment, HostPlan, RebootSegment, RoleSegment, Segment, Step
from cyborg_reconciler.documents.pool import Reboot

#: Attempts in a row without a verified result after which a host waits for a person.
MAX_FAILURES: Final = 5

_ORDER: Final = {feature.NAME: place for place, feature in enumerate(FEATURES)}


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms a host may be changed.

    Attributes:
        controller_id: ours; a host that another one owns is left alone.
        facts_max_age: facts older than this never authorise an action.
    """

    controller_id: str
    reboot: Reboot
    history: History
    now: datetime
    observed_at: datetime
    facts_max_age: timedelta = timedelta(minutes=15)


def make_plan(host: str, desired: Desired, subject: Subject, terms: Terms) -> Plan:
    """Return the plan that makes *host* as *desired*; the same input gives the same plan."""
    observed = interpret(subject, desired.fields)
    blind = blind_spots(desired.fields, observed)
    changes = diff(desired.fields, observed, desired.origins)
    plan = Plan(host, terms.history.generation, subject.facts.fingerprint, blind_spots=blind)
    stop = _whole_host(desired, subject, terms)
    if stop is not None:
        return replace(plan, waits=(stop,)) if changes or blind or desired.conflicts else plan
    setting = Setting(
        subject,
        desired.fields,
        reboot=terms.reboot.allowed and len(set(terms.history.boots)) < terms.reboot.max_attempts,
        drift=terms.history.was_synced,
    )
    actions: list[Action] = []
    waits = [Wait(Reason.UNKNOWN, f"not selected: {why}", address) for address, why in desired.held.items()]
    for group in _groups(changes):
        done, waiting = _act(group, blind, setting)
        actions += done
        waits += waiting
    actions, loops = _reboots(actions, terms)
    actions += _releases(desired, changes, blind)
    actions = _in_order(actions)
    return replace(plan, actions=tuple(actions), waits=(*waits, *loops), digest=_digest(actions))


def _whole_host(desired: Desired, subject: Subject, terms: Terms) -> Wait | None:
    """Return why nothing at all is done on the host; None when something may be."""
    facts = subject.facts
    if desired.conflicts:
        return Wait(Reason.CONFLICTED, "; ".join(desired.conflicts))
    if facts.ownership_unknown is not None:
        return Wait(
            Reason.UNKNOWN, f"the host's record of what was set there could not be read: {facts.ownership_unknown}"
        )
    owner = facts.ownership.controller_id if facts.ownership else None
    if owner is not None and owner != terms.controller_id:
        return Wait(
            Reason.CONFLICTED,
            f"the controller {owner} owns this host; let it give the host up, or take its state folder",
        )
    age = terms.now - terms.observed_at
    if age > terms.facts_max_age:
        return Wait(Reason.FACTS_STALE, f"the facts are {int(age.total_seconds())} s old; observe the host again")
    if terms.history.failures >= MAX_FAILURES:
        message = f"{terms.history.failures} attempts in a row failed; see `cyborg-reconciler history`, then change the policy or the host"
        return Wait(Reason.RETRIES_EXHAUSTED, message)
    return None


def _groups(changes: Iterable[Change]) -> Iterable[list[Change]]:
    """Return *changes* by target and feature, in the order of both."""
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.target, change.feature), []).append(change)
    return groups.values()


def _act(
    group: Sequence[Change], blind: Sequence[tuple[FieldPath, Unknown]], setting: Setting
) -> tuple[list[Action], list[Wait]]:
    """Return the actions that remove a group of changes of one target and feature, and what of it waits."""
    target, feature = group[0].target, group[0].feature
    shown = Action(target, feature, tuple(group), Disruption.NONE, "", None, setting.drift)
    hold = _hold(shown, blind, setting)
    if hold is not None:
        return [], [hold]
    results = list(BY_NAME[feature].act(group, setting))
    return [r for r in results if isinstance(r, Action)], [r for r in results if isinstance(r, Wait)]


def _hold(shown: Action, blind: Sequence[tuple[FieldPath, Unknown]], setting: Setting) -> Wait | None:
    """Return what keeps every action off a target, whatever its feature; None when nothing does."""
    for path, unknown in blind:
        if path[0] == shown.target and (shown.target != HOST or path[1] == shown.feature):
            return Wait(
                Reason.UNKNOWN, f"{'.'.join(path[1:])} could not be read: {unknown.reason}", shown.target, shown
            )
    for change in shown.changes:
        if change.declared_by.mode != "enforce":
            reason = Reason.MODE_WARN if change.declared_by.mode == "warn" else Reason.SUSPENDED
            return Wait(
                reason, f"policy {change.declared_by.policy} is in mode {change.declared_by.mode}", shown.target, shown
            )
        if change.declared_by.suspended:
            return Wait(Reason.SUSPENDED, f"policy {change.declared_by.policy} is suspended", shown.target, shown)
    device = setting.subject.devices.get(shown.target)
    if device is None:
        return None
    if isinstance(device.protected, reported.Unknown):
        message = f"it could not be read whether the device may be touched: {device.protected.unknown}"
        return Wait(Reason.PROTECTED_DEVICE, message, shown.target, shown)
    if device.protected:
        words = ", ".join(
            f"{p.reason.replace('_', ' ')} ({p.via})" if p.via else p.reason.replace("_", " ") for p in device.protected
        )
        return Wait(Reason.PROTECTED_DEVICE, f"the device carries the {words}", shown.target, shown)
    return None


def _reboots(actions: list[Action], terms: Terms) -> tuple[list[Action], list[Wait]]:
    """Return *actions* without the reboots that may not be, and the waits that stand for those."""
    kept: list[Action] = []
    waits: list[Wait] = []
    boots = dict.fromkeys(terms.history.boots)
    for action in actions:
        if action.disruption is not Disruption.REBOOT:
            kept.append(action)
        elif len(boots) >= terms.reboot.max_attempts:
            fields = ", ".join(f"{change.field}={change.desired}" for change in action.changes)
            message = (
                f"{fields} is configured but not running after {len(boots)} reboots; look for a boot configuration that overrides it, "
                f"then change the policy or `cyborg-reconciler retry`"
            )
            waits.append(Wait(Reason.REBOOT_LOOP_DETECTED, message, action.target, action))
        elif not terms.reboot.allowed:
            message = "a reboot is needed and not allowed: `apply --allow-reboot`, or reboot.allowed in the host's RolloutPool"
            waits.append(Wait(Reason.REBOOT_NOT_ALLOWED, message, action.target, action))
        else:
            kept.append(action)
    return kept, waits


def _releases(desired: Desired, changes: Iterable[Change], blind: Iterable[tuple[FieldPath, Unknown]]) -> list[Action]:
    """Return the step that forgets what is no longer declared and is already as it was before."""
    busy = {change.path for change in changes} | {path for path, _ in blind}
    paths = [path for path, origin in desired.origins.items() if origin == NO_LONGER_DECLARED and path not in busy]
    if not paths:
        return []
    step = Step(id="release", module="", args={}, release=[list(path) for path in sorted(paths)])
    return [Action(HOST, "ownership", (), Disruption.NONE, f"{len(paths)} fields are no longer declared", step)]


def _in_order(actions: Iterable[Action]) -> list[Action]:
    """Return *actions* in order: what is undone first, last feature first; then what is done; a reboot at the end."""

    def place(action: Action) -> tuple[int, int]:
        order = _ORDER.get(action.feature, len(_ORDER))
        if action.disruption is Disruption.REBOOT:
            return 3, order
        undone = bool(action.changes) and all(change.declared_by == NO_LONGER_DECLARED for change in action.changes)
        return (0, -order) if undone else (1, order)

    return sorted(actions, key=place)


def _digest(actions: Iterable[Action]) -> str:
    """Return what an approval binds to: sha256 over what would be done, in hex."""
    rows = [
        [
            action.id,
            [[list(change.path), to_json(change.desired), to_json(change.observed)] for change in action.changes],
        ]
        for action in actions
    ]
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()


def to_document(plan: Plan, subject: Subject, reboot: Reboot) -> HostPlan:
    """Return *plan* as the ordered segments that the collection walks."""
    segments: list[Segment] = []
    steps: list[Step] = []
    for action in plan.actions:
        if isinstance(action.call, Step):
            steps.append(action.call)
        elif isinstance(action.call, RoleSegment):
            if steps:
                segments.append(ActionsSegment(steps=steps))
                steps = []
            segments.append(action.call)
    if steps:
        segments.append(ActionsSegment(steps=steps))
    if plan.reboots:
        segments.append(RebootSegment(id="reboot", boot_id=subject.facts.kernel.boot_id, timeout_s=reboot.timeout_s))
    return HostPlan(generation=plan.generation, digest=plan.digest, fingerprint=plan.fingerprint, segments=segments)
