# SPDX-License-Identifier: Apache-2.0
"""What follows from the declared states of a host's devices: which drivers are set up, which are left as they are.

Called by `resolve` for hosts of which a policy declares a `state`; all others have `UNDECLARED`. Pure.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from cyborg_reconciler.core.catalogue import fitting
from cyborg_reconciler.core.features import driver as drivers
from cyborg_reconciler.core.features.base import Leaf, Trouble
from cyborg_reconciler.core.merge import Policy, Template
from cyborg_reconciler.core.state import HOST, FieldPath, Origin, Reason, Unknown
from cyborg_reconciler.core.subject import BOUND_ON_PURPOSE, UNBOUND, Subject, matches, recorded_device
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.facts import Device

READY: Final = "ready"
INACTIVE: Final = "inactive"
MAINTENANCE: Final = "maintenance"

#: Where a device is to be bound to one of these, nothing of the catalogue is to drive it.
_NO_DRIVER_OF_OURS: Final = BOUND_ON_PURPOSE | {UNBOUND}


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """What follows from the states of a host's devices.

    Attributes:
        states: what each device is to be, by address; a VF has its PF's where it has none of its own. What a policy may
            have in maintenance, and could not be told to select, is in maintenance.
        drivers: which drivers make a device ready, by its address.
        added: drivers of the catalogue that nobody names, each with the policy (its place) whose ``ready`` asks for it.
        through: the first device that such a driver is for, by the policy's name and the driver's.
        gated: drivers that a policy names and that are not set up: all devices that it names them for are inactive.
        suspended: the same where one of the devices is in maintenance, and who says so.
        unsettled: devices that are to be ready and of which it cannot be told by which driver; why.
    """

    states: Mapping[str, Leaf] = field(default_factory=dict)
    drivers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    added: tuple[tuple[int, str], ...] = ()
    through: Mapping[tuple[str, str], str] = field(default_factory=dict)
    gated: frozenset[str] = frozenset()
    suspended: Mapping[str, Origin] = field(default_factory=dict)
    unsettled: Mapping[str, Trouble] = field(default_factory=dict)

    @property
    def aside(self) -> frozenset[str]:
        """The devices that no driver is set up for."""
        return frozenset(address for address, leaf in self.states.items() if leaf.value != READY)

    @property
    def in_maintenance(self) -> Mapping[str, Origin]:
        """The devices that are not to be changed, and who says so."""
        return {address: leaf.origin for address, leaf in self.states.items() if leaf.value == MAINTENANCE}

    def suspension(self, path: FieldPath) -> Trouble | None:
        """Return why the field at *path* is not changed now; None when it may be."""
        leaf = self.states.get(path[0])
        if leaf is not None and leaf.value == MAINTENANCE:
            return Reason.SUSPENDED, f"it is in maintenance by policy {leaf.origin.place}"
        origin = self.suspended.get(path[2]) if path[:2] == (HOST, drivers.NAME) else None
        if origin is None:
            return None
        return Reason.SUSPENDED, f"what driver {path[2]} is for is in maintenance by policy {origin.place}"


#: Nobody declares a state.
UNDECLARED: Final = Lifecycle()


class Choices(NamedTuple):
    """Which policies (by their place) select the host and each of its devices, and what the devices' templates are."""

    policies: Sequence[Policy]
    host_wide: tuple[int, ...]
    by_device: Mapping[str, tuple[int, ...]]
    templates: Mapping[str, Template]

    def of(self, address: str) -> list[Policy]:
        """Return the policies that may name a driver for the device at *address*."""
        return [self.policies[index] for index in (*self.host_wide, *self.by_device.get(address, ()))]


def derive(own: Mapping[str, Leaf], choices: Choices, subject: Subject) -> Lifecycle:
    """Return what follows from the states that *choices* declare of devices, by address; a VF may have *own* or not."""
    states = _inherited(own, subject)
    ready: dict[str, tuple[str, ...]] = {}
    added: set[tuple[int, str]] = set()
    through: dict[tuple[str, str], str] = {}
    unsettled: dict[str, Trouble] = {}
    for address, leaf in states.items():
        device = subject.devices[address]
        if leaf.value != READY or isinstance(device.physfn, str):
            continue  # a VF comes with its PF's driver
        ready[address] = tuple(sorted(_named(device, choices, subject.catalogue) or _own(leaf, address, choices)))
        if ready[address] or _is_given_away(address, choices):
            continue
        found = fitting(device, subject.catalogue)
        trouble = _undecided(found)
        if trouble is not None:
            unsettled[address] = trouble
        elif not isinstance(found, Unknown):
            ready[address] = found
            policy = leaf.origin.policy
            place = next(index for index in choices.by_device[address] if choices.policies[index].name == policy)
            added.add((place, found[0]))
            through.setdefault((policy, found[0]), address)
    gated, suspended = _out_of_use(_wanted(states, choices, subject), states)
    needed = {name for _, name in added}
    suspended = {name: origin for name, origin in suspended.items() if name not in needed}
    return Lifecycle(states, ready, tuple(sorted(added)), through, gated - needed, suspended, unsettled)


def _inherited(own: Mapping[str, Leaf], subject: Subject) -> dict[str, Leaf]:
    """Return the states of all devices: a VF has its PF's, unless it has its own; maintenance is of the whole card."""
    found = dict(own)
    for device in subject.facts.devices:
        above = own.get(device.physfn) if isinstance(device.physfn, str) else None
        if above is not None and (device.address not in own or above.value == MAINTENANCE):
            found[device.address] = above
    return found


def _named(device: Device, choices: Choices, catalogue: Mapping[str, DriverDocSpec]) -> set[str]:
    """Return the drivers that policies name and that are for *device*."""
    names = {policy.driver for policy in choices.of(device.address)} - {""}
    return {name for name in names if _is_for(name, device, catalogue)}


def _own(state: Leaf, address: str, choices: Choices) -> set[str]:
    """Return the driver that the policy names which declares the device's *state*, whatever that driver is for."""
    return {one.driver for one in choices.of(address) if one.name == state.origin.policy} - {""}


def _is_for(name: str, device: Device, catalogue: Mapping[str, DriverDocSpec]) -> bool:
    spec = catalogue.get(name)
    return spec is None or not spec.match or matches(device, spec.match)


def _is_given_away(address: str, choices: Choices) -> bool:
    """Return whether a policy binds the device to what drives nothing by itself: its own driver would never have it."""
    bound = (value for tail, value, _ in choices.templates[address].fields if tail == ("binding", "driver"))
    return next(bound, None) in _NO_DRIVER_OF_OURS


def _undecided(found: tuple[str, ...] | Unknown) -> Trouble | None:
    """Return why none of the drivers *found* can be chosen; None when there is one."""
    if isinstance(found, Unknown):
        return Reason.UNKNOWN, f"its driver cannot be told by its {found.reason}"
    if not found:
        text = "no driver of the catalogue is for it"
    elif len(found) > 1:
        text = f"the drivers {' and '.join(found)} are for it, and no one more closely than the other"
    else:
        return None
    return Reason.MANUAL_ACTION_REQUIRED, f"it is to be ready, and {text}: name one as driver in the policy"


def _wanted(states: Mapping[str, Leaf], choices: Choices, subject: Subject) -> dict[str, set[str]]:
    """Return the devices that policies name drivers for, by driver; one that is for none of theirs: all it is for."""
    found: dict[str, set[str]] = {}
    for device in subject.facts.devices:
        for name in _named(device, choices, subject.catalogue):
            found.setdefault(name, set()).add(device.address)
    asking = {index for indexes in (choices.host_wide, *choices.by_device.values()) for index in indexes}
    for name in {choices.policies[index].driver for index in asking} - {"", *found}:
        fit = {one.address for one in subject.facts.devices if _is_for(name, one, subject.catalogue)}
        found[name] = fit | {address for address, leaf in states.items() if name in _own(leaf, address, choices)}
    return found


def _out_of_use(
    wanted: Mapping[str, Collection[str]], states: Mapping[str, Leaf]
) -> tuple[frozenset[str], dict[str, Origin]]:
    """Return the drivers all of whose devices are inactive; and those of which one is in maintenance instead."""
    gated: set[str] = set()
    suspended: dict[str, Origin] = {}
    for name, addresses in wanted.items():
        leaves = [states.get(address) for address in sorted(addresses)]
        if not leaves or any(leaf is None or leaf.value == READY for leaf in leaves):
            continue
        maintained = next((leaf for leaf in leaves if leaf is not None and leaf.value == MAINTENANCE), None)
        if maintained is None:
            gated.add(name)
        else:
            suspended[name] = maintained.origin
    return frozenset(gated), suspended


def adjusted(policies: Sequence[Policy], places: Iterable[int], lifecycle: Lifecycle) -> Iterable[Policy]:
    """Yield the policies at *places* as they speak of the host: without what is gated, with what ``ready`` asks for."""
    for place in places:
        policy = policies[place]
        yield _without(policy, lifecycle.gated) if policy.driver in lifecycle.gated else policy
        names = [name for index, name in lifecycle.added if index == place]
        if names and policy.state is not None:
            state = Leaf(drivers.PRESENT, policy.state.origin)
            leaves = tuple(((drivers.NAME, name, "state"), state) for name in names)
            yield replace(policy, leaves={drivers.SCOPE: leaves})


def _without(policy: Policy, gated: Collection[str]) -> Policy:
    kept = tuple(item for item in policy.leaves[drivers.SCOPE] if item[0][0] != drivers.NAME or item[0][1] not in gated)
    return replace(policy, leaves={**policy.leaves, drivers.SCOPE: kept})


# ------------------------------------------------------------------------------------------------ what is left as it is
def spared(lifecycle: Lifecycle, held: Iterable[str], subject: Subject) -> list[FieldPath]:
    """Return what is owned of drivers and not undone though nothing declares it: the drivers' devices are set aside.

    *held*: devices of which it is not known what a policy declares them to be.
    """
    devices = [subject.devices[one] for one in {*lifecycle.aside, *lifecycle.unsettled, *held}]
    named = {name for name, spec in subject.catalogue.items() if _may_be_for(spec, devices)} if devices else set()
    return [path for path in subject.owned if path[:2] == (HOST, drivers.NAME) and path[2] in named | lifecycle.gated]


def _may_be_for(spec: DriverDocSpec, devices: Iterable[Device]) -> bool:
    return any(matches(device, spec.match, perhaps=True) for device in devices)


def asks_for(policy: Policy, path: FieldPath, recorded: str, catalogue: Mapping[str, DriverDocSpec]) -> bool:
    """Return whether *policy*, by the state that it declares, asks for *path*, set for a device that is gone."""
    if policy.state is None or policy.choose is None or path[1] != drivers.NAME or path[2] not in catalogue:
        return False
    device = recorded_device(recorded)
    choice = policy.choose(device, catalogue, touched=())
    return bool(choice.selected or choice.unknown) and _may_be_for(catalogue[path[2]], (device,))
