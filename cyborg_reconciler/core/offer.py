# SPDX-License-Identifier: Apache-2.0
"""Which accelerators of a host are ready, and why are the others not?

Called by the conductor with what a survey says of a host: its plan, what is desired of it, its facts. A host that was
not observed has no offers, and what was known of it stays. The store of agents asks for what a driver of theirs alone
tells of. Pure.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cyborg_reconciler.core.accelerators import Unit
from cyborg_reconciler.core.diff import blind_spots, diff
from cyborg_reconciler.core.features import driver as drivers
from cyborg_reconciler.core.features.base import Leaf, protection_of
from cyborg_reconciler.core.interpret import interpret
from cyborg_reconciler.core.lifecycle import MAINTENANCE, READY
from cyborg_reconciler.core.resolve import Desired
from cyborg_reconciler.core.state import (
    ABSENT,
    HOST,
    Action,
    FieldPath,
    Health,
    Origin,
    Phase,
    Plan,
    Reason,
    Value,
    Wait,
)
from cyborg_reconciler.core.subject import Subject
from cyborg_reconciler.core.verdict import PATIENT, WISHED, judge
from cyborg_reconciler.documents.base import AcceleratorState

#: Waits of a whole host that say nothing of a device that is as declared.
_OF_CHANGES: Final = frozenset({Reason.FACTS_STALE, Reason.RETRIES_EXHAUSTED})

#: What a field is of: the address of a device, or the beginning of the path of a host's driver.
Owner = tuple[str, ...]

#: The reasons beside those of waits: it is being set up, and the last change failed.
PLANNED: Final = "Planned"
CHANGE_FAILED: Final = "ChangeFailed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Whether one accelerator is ready.

    Attributes:
        address: of its unit.
        desired_state: what is declared; ``inactive`` where nothing is, None where that cannot be told.
        declared_by: the policy that declares it; None where none does.
        state: what is observed; ``ready`` only where that is desired, and verified.
        setup_required: the driver that makes it ready is not there as declared; where none is to, see `Unit`.
        reboot_required: see `Unit`.
        health: how it fares: Progressing while it is being set up, Degraded where that failed or needs a person,
            Suspended in maintenance and where its driver is not to be there.
        reason, message: why it is not Healthy, as one word and in words.
    """

    address: str
    desired_state: AcceleratorState | None
    declared_by: Origin | None
    state: AcceleratorState
    setup_required: bool
    reboot_required: bool
    health: Health
    reason: str = ""
    message: str = ""


def offers(
    found: Sequence[Unit], plan: Plan, desired: Desired, subject: Subject, failed_in: Phase | None = None
) -> tuple[Offer, ...]:
    """Return an offer for each accelerator among *found*; *failed_in*: the phase in which the last change failed."""
    by_owner: dict[Owner, dict[FieldPath, Value]] = {}
    for path, value in desired.fields.items():
        by_owner.setdefault(_owner(path), {})[path] = value
    aside = subject.setting_aside(desired.lifecycle.aside)
    host = _Host(plan, desired, aside, by_owner, failed_in)
    return tuple(_offer(unit, host) for unit in found if unit.is_accelerator is not False)


def offer_told(unit: Unit, desired: AcceleratorState, *, is_installed: bool) -> AcceleratorState:
    """Return the state of an accelerator of which a driver of an agent alone tells: *unit*, as it says.

    One that is *desired* ready is so once its driver, which is to stay, has set it up and says that it is well.

    >>> offer_told(Unit(address="dummy:0", identity=()), "ready", is_installed=True)
    'ready'
    """
    if desired != READY:
        return desired
    is_well = unit.health is Health.HEALTHY and not unit.setup_required and not unit.reboot_required
    return "ready" if is_well and is_installed else "inactive"


@dataclass(frozen=True, slots=True)
class _Host:
    """What the offers of one host are made from; the desired fields by `_owner`."""

    plan: Plan
    desired: Desired
    subject: Subject
    fields: Mapping[Owner, Mapping[FieldPath, Value]]
    failed_in: Phase | None


def _owner(path: FieldPath) -> Owner:
    """Return what the field at *path* is of: a device, or a driver of the host."""
    return path[:3] if path[:2] == (HOST, drivers.NAME) else path[:1]


def _offer(unit: Unit, host: _Host) -> Offer:
    leaf = host.desired.lifecycle.states.get(unit.address)
    offer = Offer(
        address=unit.address,
        desired_state=_state(leaf),
        declared_by=leaf.origin if leaf else None,
        state="maintenance" if leaf and leaf.value == MAINTENANCE else "inactive",
        setup_required=unit.setup_required,
        reboot_required=unit.reboot_required,
        health=unit.health,
        reason="" if unit.health is Health.HEALTHY else str(_reason(unit, host)),
        message=unit.reason,
    )
    held = host.desired.held.get(unit.address) or host.desired.held.get(unit.parent or "")
    if held is not None:
        offer = replace(offer, desired_state=None, declared_by=None, state="inactive")
        return replace(offer, health=Health.UNKNOWN, reason=str(Reason.UNKNOWN), message=f"not judged: {held}")
    if unit.health is Health.UNKNOWN or leaf is None:
        return offer
    if leaf.value == MAINTENANCE:
        text = f"it is in maintenance by policy {leaf.origin.place}"
        return replace(offer, health=Health.SUSPENDED, reason=str(Reason.SUSPENDED), message=text)
    return _verified(unit, offer, host) if leaf.value == READY else offer


def _state(leaf: Leaf | None) -> AcceleratorState:
    states: tuple[AcceleratorState, ...] = ("ready", "maintenance")
    return next((state for state in states if leaf is not None and leaf.value == state), "inactive")


def _reason(unit: Unit, host: _Host) -> Reason:
    """Return why the facts alone speak against *unit*."""
    if unit.health is Health.DEGRADED:
        return Reason.MANUAL_ACTION_REQUIRED
    protection = protection_of("it", host.subject.devices[unit.address])
    return protection[0] if protection else Reason.UNKNOWN


def _verified(unit: Unit, offer: Offer, host: _Host) -> Offer:
    """Return *offer* of a unit that is to be ready: it is, where nothing of it or of its driver is left to be done."""
    # What is wrong with a PF is wrong with its VFs.
    devices = {unit.address, unit.parent or unit.address}
    names = {name for address in devices for name in host.desired.lifecycle.drivers.get(address, ())}
    taken_away = next(_taken_away(sorted(names), host.desired), None)
    if taken_away is not None:
        health, reason = Health.SUSPENDED, str(Reason.SUSPENDED)
        return replace(offer, setup_required=True, health=health, reason=reason, message=taken_away)
    owners: set[Owner] = {*((address,) for address in devices), *((HOST, drivers.NAME, name) for name in names)}
    mine = _part(owners, devices, host)
    set_up = offer.setup_required if not names else any(path[0] == HOST for path in _unlike(owners, host))
    reboots = offer.reboot_required or mine.reboots
    verdict = judge(mine)
    if verdict.verified:
        return replace(offer, state="ready", setup_required=set_up, reboot_required=reboots)
    patient = PATIENT | WISHED
    first = next((wait for wait in mine.waits if wait.reason not in patient), next(iter(mine.waits), None))
    health, reason, message = verdict.health, PLANNED, mine.actions[0].reason if mine.actions else ""
    if first is not None:
        reason, message = str(first.reason), first.message
    if host.failed_in is not None and health is Health.PROGRESSING:
        message = f"the host's last change failed in the phase {host.failed_in}; see `cyborg-reconciler history`"
        health, reason = Health.DEGRADED, CHANGE_FAILED
    return replace(offer, setup_required=set_up, reboot_required=reboots, health=health, reason=reason, message=message)


def _taken_away(names: Iterable[str], desired: Desired) -> Iterator[str]:
    """Yield which of the drivers called *names* are not to be there, and who says so."""
    for name in names:
        path = (HOST, drivers.NAME, name, "state")
        if desired.fields.get(path) is ABSENT:
            yield f"driver {name}, which makes it ready, is declared absent by policy {desired.origin(path).place}"


def _part(owners: Collection[Owner], devices: Collection[str], host: _Host) -> Plan:
    """Return that part of the host's plan which is about *owners*."""
    plan = host.plan

    def is_mine(action: Action | None) -> bool:
        return action is not None and any(_owner(change.path) in owners for change in action.changes)

    waits = [wait for wait in plan.waits if wait.target in devices or is_mine(wait.action)]
    stop = next((wait for wait in plan.waits if _stops_all(wait, plan)), None)
    if stop is not None and (stop.reason not in _OF_CHANGES or any(_unlike(owners, host))):
        waits.append(stop)
    return replace(
        plan,
        actions=tuple(action for action in plan.actions if is_mine(action)),
        waits=tuple(waits),
        blind_spots=tuple(spot for spot in plan.blind_spots if _owner(spot[0]) in owners),
    )


def _stops_all(wait: Wait, plan: Plan) -> bool:
    """Return whether the whole host waits; what could not be read of it, and what is left there, is no such wait."""
    if wait.target != HOST or wait.action is not None:
        return False
    return wait.reason in _OF_CHANGES | {Reason.CONFLICTED} or (wait.reason is Reason.UNKNOWN and not plan.blind_spots)


def _unlike(owners: Collection[Owner], host: _Host) -> Iterator[FieldPath]:
    """Yield the desired fields of *owners* that are not so, or could not be read."""
    fields = {path: value for owner in owners for path, value in host.fields.get(owner, {}).items()}
    observed = interpret(host.subject, fields)
    yield from (change.path for change in diff(fields, observed))
    yield from (path for path, _ in blind_spots(fields, observed))
