# SPDX-License-Identifier: Apache-2.0
"""What is to be done on one host, in which order, and what waits, and why.

Called by `reconcile` and the CLI for each host; `to_document` gives the form in which a plan travels. Pure.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import msgspec

from cyborg_reconciler.core import ranges
from cyborg_reconciler.core.diff import blind_spots, diff
from cyborg_reconciler.core.features import BY_NAME, FEATURES
from cyborg_reconciler.core.features.base import RECORD, Setting, Trouble, kept_back_by, wait
from cyborg_reconciler.core.interpret import interpret
from cyborg_reconciler.core.lifecycle import Lifecycle
from cyborg_reconciler.core.reach import reached
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
from cyborg_reconciler.core.subject import Subject, describe_protections, identity, matches, place_of, to_json
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.plan import ActionsSegment, HostPlan, Own, RebootSegment, RoleSegment, Segment, Step
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
        connection: the host can be changed; one that only its agent knows cannot.
    """

    controller_id: str
    reboot: Reboot
    history: History
    now: datetime
    observed_at: datetime
    facts_max_age: timedelta = timedelta(minutes=15)
    connection: bool = True


def make_plan(host: str, desired: Desired, subject: Subject, terms: Terms) -> Plan:
    """Return the plan that makes *host* as *desired*; the same input gives the same plan."""
    empty = Plan(host, terms.history.generation, subject.facts.fingerprint, digest=NOTHING_TO_DO)
    foreign = _owner_trouble(desired, subject, terms)
    if foreign is not None:
        return replace(empty, waits=(foreign,)) if desired.policies else empty
    if desired.lifecycle.states:
        subject = subject.setting_aside(desired.lifecycle.aside)
    observed = interpret(subject, desired.fields)
    blind = blind_spots(desired.fields, observed)
    changes = diff(desired.fields, observed, desired.origin)
    stop = _whole_host(desired, terms, needed=bool(changes or blind))
    if stop is not None:
        return replace(empty, waits=(stop,), blind_spots=blind)
    waits = [Wait(Reason.UNKNOWN, f"not judged: {why}", address) for address, why in desired.held.items()]
    waits += [
        Wait(Reason.MANUAL_ACTION_REQUIRED, f"{'.'.join(path[1:])} is left as it is: {why}", path[0])
        for path, why in desired.left.items()
    ]
    waits += [Wait(*trouble, address) for address, trouble in desired.lifecycle.unsettled.items()]
    actions = _releases(desired, subject, changes, blind)
    if changes:
        done, waiting = _act(changes, blind, desired, subject, terms)
        actions += done
        waits += waiting
    waits += _blind_waits(blind, {wait.target for wait in waits if wait.reason is Reason.UNKNOWN})
    if not terms.connection:
        waits, actions = [*waits, *_without_connection(_in_order(actions))], []
    if not (actions or waits):
        return empty
    ordered = tuple(_in_order(actions))
    return replace(empty, actions=ordered, waits=tuple(waits), blind_spots=blind, digest=_digest(ordered))


def _owner_trouble(desired: Desired, subject: Subject, terms: Terms) -> Wait | None:
    """Return why the host is not ours to change; None when it is."""
    facts = subject.facts
    if facts.ownership_unknown is not None:
        text = f"the host's record of what was set there could not be read: {facts.ownership_unknown}"
        return Wait(Reason.UNKNOWN, text)
    # Who owns nothing here any more has given the host up.
    owner = facts.ownership.controller_id if facts.ownership and facts.ownership.fields else None
    if owner is not None and owner != terms.controller_id:
        how = "let it give the host up, or take its state folder"
        if gone := subject.gone():
            where = ", ".join(gone)
            how = f"all that it set is on {where}, which is not there; if that is gone for good, remove {RECORD}"
        return Wait(Reason.CONFLICTED, f"the controller {owner} owns this host; {how}")
    if desired.conflicts:
        return Wait(Reason.CONFLICTED, "; ".join(desired.conflicts))
    return None


def _whole_host(desired: Desired, terms: Terms, *, needed: bool) -> Wait | None:
    """Return why nothing at all is done on the host now; None when something may be."""
    age = terms.now - terms.observed_at
    if age > terms.facts_max_age and desired.fields:
        return Wait(Reason.FACTS_STALE, f"the facts are {int(age.total_seconds())} s old; observe the host again")
    if terms.history.failures >= MAX_FAILURES and needed:
        text = f"{terms.history.failures} attempts in a row failed"
        remedy = "see `cyborg-reconciler history`, then change the policy or the host"
        return Wait(Reason.RETRIES_EXHAUSTED, f"{text}; {remedy}")
    return None


def _act(
    changes: Sequence[Change],
    blind: Sequence[tuple[FieldPath, Unknown]],
    desired: Desired,
    subject: Subject,
    terms: Terms,
) -> tuple[list[Action], list[Wait]]:
    """Return the actions that remove *changes*, and what of them waits."""
    drift = terms.history.was_synced
    free, waits = _allowed(changes, desired.lifecycle, drift=drift)
    allowed = {change.path for change in free}
    kept_back = {change.path: change.declared_by for change in changes if change.path not in allowed}
    setting = Setting(
        subject,
        {path: value for path, value in desired.fields.items() if path not in kept_back},
        reboot=terms.reboot.allowed,
        drift=drift,
        failures=terms.history.failures,
        restored=frozenset(desired.restored),
        kept_back=kept_back,
    )
    actions: list[Action] = []
    for group in _groups(free):
        shown = Action(group[0].target, group[0].feature, tuple(group), Disruption.NONE, "", None, drift)
        trouble = _unreadable(shown, blind) or _protected(shown, subject) or _unlisted(shown, subject)
        if trouble is not None:
            waits.append(wait(trouble, shown))
            continue
        for result in _allowing(BY_NAME[shown.feature].act(group, setting), desired, subject, terms):
            if isinstance(result, Wait):
                waits.append(result)
            else:
                actions.append(result)
    return _without_lost_vfs(actions, subject), waits


def _allowing(
    results: Iterable[Action | Wait], desired: Desired, subject: Subject, terms: Terms
) -> Iterable[Action | Wait]:
    """Yield *results* with waits in place of what may not be; what only verifies an action goes with it."""
    held_up: Wait | None = None
    for result in results:
        if isinstance(result, Wait):
            yield result
        elif result.changes:
            held_up = _reboot_trouble(result, subject, terms) or _maintenance_trouble(result, desired, subject)
            yield held_up or result
        elif held_up is None:
            yield result


def _maintenance_trouble(action: Action, desired: Desired, subject: Subject) -> Wait | None:
    """Return which device in maintenance *action* would change along with others; None when it changes none."""
    maintained = desired.lifecycle.in_maintenance
    for address in reached(action, subject) if maintained else ():
        if address in maintained:
            text = f"{address}, which this would change too, is in maintenance by policy {maintained[address].place}"
            return wait((Reason.SUSPENDED, text), action)
    return None


def _without_connection(actions: Iterable[Action]) -> list[Wait]:
    """Return *actions* as waits: nobody can carry them out. What only verifies another waits with it."""
    why = "Ansible makes changes, and only an agent reports this host: an agent observes, and makes none"
    text = f"{why}; add it to the Ansible inventory under the same name, with an address at which Ansible reaches it"
    waiting = (action for action in actions if action.changes or (action.call and action.call.release))
    return [wait((Reason.NO_CONNECTION, text), action) for action in waiting]


def _without_lost_vfs(actions: Sequence[Action], subject: Subject) -> list[Action]:
    """Return *actions* without those on VFs whose PF is reset: what comes of them is looked at afterwards."""
    reset = {action.target for action in actions if action.disruption is Disruption.DEVICE_RESET}
    lost = {device.address for device in subject.devices.values() if device.physfn in reset}
    return [action for action in actions if action.target not in lost]


def _blind_waits(blind: Iterable[tuple[FieldPath, Unknown]], told: set[str]) -> list[Wait]:
    """Return what could not be read, one wait a target, but for those of which it has been *told*."""
    first = {path[0]: (path, unknown) for path, unknown in reversed(tuple(blind)) if path[0] not in told}
    return [
        Wait(Reason.UNKNOWN, f"{'.'.join(path[1:])} could not be read: {unknown.reason}", target)
        for target, (path, unknown) in first.items()
    ]


def _allowed(changes: Iterable[Change], lifecycle: Lifecycle, *, drift: bool) -> tuple[list[Change], list[Wait]]:
    """Return the changes that policies let us make, and the waits of the others."""
    free: list[Change] = []
    kept_back: dict[tuple[str, str, Trouble], list[Change]] = {}
    for change in changes:
        origin = change.declared_by
        trouble = lifecycle.suspension(change.path)
        if trouble is None and (origin.mode != "enforce" or origin.suspended):
            trouble = kept_back_by(origin)
        if trouble is None:
            free.append(change)
        else:
            kept_back.setdefault((change.target, change.feature, trouble), []).append(change)
    waits = []
    for (target, feature, trouble), ours in kept_back.items():
        action = Action(target, feature, tuple(ours), Disruption.NONE, "", None, drift)
        waits.append(wait(trouble, action))
    return free, waits


def _groups(changes: Iterable[Change]) -> Iterable[list[Change]]:
    """Return *changes* by target and feature, in the order of both."""
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.target, change.feature), []).append(change)
    return groups.values()


def _unreadable(shown: Action, blind: Iterable[tuple[FieldPath, Unknown]]) -> Trouble | None:
    """Return what could not be read of the device, or of this feature of the host; None when everything could."""
    for path, unknown in blind:
        if path[0] == shown.target and (shown.target != HOST or path[1] == shown.feature):
            return Reason.UNKNOWN, f"{'.'.join(path[1:])} could not be read: {unknown.reason}"
    return None


def _protected(shown: Action, subject: Subject) -> Trouble | None:
    """Return why a device must not be touched, whatever is asked for; None when it may be."""
    device = subject.devices.get(shown.target)
    if device is None or not device.protected:
        return None
    if isinstance(device.protected, reported.Unknown):
        text = f"it could not be read whether the device may be touched: {device.protected.unknown}"
        return Reason.PROTECTED_DEVICE, text
    return Reason.PROTECTED_DEVICE, f"the device carries the {describe_protections(device.protected)}"


def _unlisted(shown: Action, subject: Subject) -> Trouble | None:
    """Return which drivers are for the device and do not list the feature; None when one does, or none lists any.

    What goes back to what it was is asked of no driver.
    """
    device = subject.devices.get(shown.target)
    declared = next((change.declared_by for change in shown.changes if change.declared_by.policy), None)
    if device is None or declared is None:
        return None
    drivers = {
        name: spec.features
        for name, spec in subject.catalogue.items()
        if spec.match and spec.features and matches(device, spec.match)
    }
    if not drivers or any(shown.feature in features for features in drivers.values()):
        return None
    listed = "; ".join(f"driver {name} lists {', '.join(features)}" for name, features in drivers.items())
    text = f"{shown.feature} is declared by policy {declared.place}, and {listed} for such devices"
    return Reason.UNSUPPORTED, f"{text}: change the policy, or the features of the driver"


def _reboot_trouble(action: Action, subject: Subject, terms: Terms) -> Wait | None:
    """Return why a reboot may not be; None when it may, or when *action* is none."""
    if action.disruption is not Disruption.REBOOT:
        return None
    boot_id = subject.facts.kernel.boot_id
    if isinstance(boot_id, reported.Unknown) or not boot_id:
        why = f" ({boot_id.unknown})" if isinstance(boot_id, reported.Unknown) else ""
        text = f"the host's boot id could not be read{why}: a reboot could not be counted"
        return wait((Reason.UNKNOWN, text), action)
    reboots = len(set(terms.history.boots))
    if reboots >= terms.reboot.max_attempts:
        text = f"still so after {reboots} reboots: {action.reason}; look for a boot configuration that overrides it"
        return wait(
            (Reason.REBOOT_LOOP_DETECTED, f"{text}, then change the policy or `cyborg-reconciler retry`"), action
        )
    if not terms.reboot.allowed:
        text = "a reboot is needed and not allowed: `apply --allow-reboot`, or reboot.allowed in the host's RolloutPool"
        return wait((Reason.REBOOT_NOT_ALLOWED, text), action)
    return None


def _releases(
    desired: Desired, subject: Subject, changes: Iterable[Change], blind: Iterable[tuple[FieldPath, Unknown]]
) -> list[Action]:
    """Return the step that forgets what is no longer declared and is already as it was before."""
    if not desired.restored:
        return []
    busy = {change.path for change in changes} | {path for path, _ in blind}
    paths = sorted(path for path in subject.owned if _is_back(path, desired, busy))
    if not paths:
        return []
    step = Step(id="release", module="", args={}, release=[list(path) for path in paths])
    fields = "1 field is" if len(paths) == 1 else f"{len(paths)} fields are"
    return [Action(HOST, "ownership", (), Disruption.NONE, f"{fields} no longer declared", step)]


def _is_back(path: FieldPath, desired: Desired, busy: Collection[FieldPath]) -> bool:
    """Return whether an owned field is as it was before: all of it, where it is a range that goes back in parts."""
    if path in desired.restored or not ranges.is_range(path[-1]):
        return path in desired.restored and path not in busy
    indexes = ranges.expand(path[-1], 0)
    parts = {
        other
        for other in desired.fields
        if other[:-1] == path[:-1] and any(ranges.within(other[-1], index) for index in indexes)
    }
    return bool(parts) and parts.issubset(desired.restored) and parts.isdisjoint(busy)


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
            action.call,
        ]
        for action in actions
    ]
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()


#: The digest of a plan without actions.
NOTHING_TO_DO: Final = _digest(())


def to_document(plan: Plan, desired: Desired, subject: Subject, reboot: Reboot) -> HostPlan:
    """Return *plan* as the ordered segments that the collection walks."""
    segments: list[Segment] = []
    steps: list[Step] = []
    for action in plan.actions:
        call = action.call and msgspec.structs.replace(action.call, own=_of_devices(action.call.own, desired, subject))
        if isinstance(call, Step):
            steps.append(call)
        elif isinstance(call, RoleSegment):
            if steps:
                segments.append(ActionsSegment(steps=steps))
                steps = []
            segments.append(call)
    if steps:
        segments.append(ActionsSegment(steps=steps))
    if plan.reboots:
        boot_id = str(subject.facts.kernel.boot_id)  # known, or no reboot would be planned
        segments.append(RebootSegment(id="reboot", boot_id=boot_id, timeout_s=reboot.timeout_s))
    return HostPlan(generation=plan.generation, digest=plan.digest, fingerprint=plan.fingerprint, segments=segments)


def _of_devices(entries: Iterable[Own], desired: Desired, subject: Subject) -> list[Own]:
    """Return *entries* of the host's record with the devices that they are of, or that a policy asks for them for."""
    return [msgspec.structs.replace(own, device=_device_of(tuple(own.path), desired, subject)) for own in entries]


def _device_of(path: FieldPath, desired: Desired, subject: Subject) -> str:
    if path[0] != HOST:
        return identity(subject.devices[path[0]]) if path[0] in subject.devices else ""
    policy = desired.origin(path).policy
    address = desired.lifecycle.through.get((policy, path[2])) or desired.through.get(policy, "")
    return place_of(subject.devices[address]) if address in subject.devices else ""
