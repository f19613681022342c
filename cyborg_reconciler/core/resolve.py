# SPDX-License-Identifier: Apache-2.0
"""What is desired of one host: the policies that select it and its devices, merged leaf by leaf.

`compile_policies` is called once for a set of declarations, `resolve` once a host. Hosts and devices that look alike
to the selectors share their merged result, so a fleet costs little more than its variety. Pure.
"""

import fnmatch
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cyborg_reconciler.core import ranges
from cyborg_reconciler.core.features import BY_NAME
from cyborg_reconciler.core.features.base import Feature, Leaf, RecordError, RestoreError
from cyborg_reconciler.core.lifecycle import (
    MAINTENANCE,
    UNDECLARED,
    Choices,
    Lifecycle,
    adjusted,
    asks_for,
    derive,
    spared,
)
from cyborg_reconciler.core.merge import Policy, Template, compile_policy, in_order, merge
from cyborg_reconciler.core.select import selects_host
from cyborg_reconciler.core.state import HOST, NO_LONGER_DECLARED, FieldPath, Host, Origin, Value
from cyborg_reconciler.core.subject import Subject
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.facts import ADDRESS, Device

#: Merged by all the scopes of a function: a VF is no PF.
_PF_SCOPES = ("device", "pf")
_VF_SCOPES = ("device",)
_HOST_SCOPES = ("host",)

#: What makes a shell pattern of a name.
PATTERN = re.compile(r"[*?\[]")

#: Layouts of hosts that are remembered; a fleet has a few dozen.
_LAYOUTS = 2048


@dataclass(frozen=True, slots=True)
class Desired:
    """What is desired of one host.

    Attributes:
        fields: by path; what is not in it is left open.
        templates: what is declared, by target.
        conflicts: contradictions, each in words that name both policies. A host with one gets no plan.
        held: devices that a selector could not judge, and why: no action, no pruning.
        restored: the paths that no policy declares any more; they go back to what they were.
        left: the paths that no policy declares any more and that cannot go back, and why.
        policies: the names of those that selected the host, or a device of it.
        through: the address of a device that a policy selects (of a VF, its PF), by the policy's name.
        lifecycle: what follows from the states that are declared of devices.
    """

    fields: Mapping[FieldPath, Value]
    templates: Mapping[str, Template] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    held: Mapping[str, str] = field(default_factory=dict)
    restored: tuple[FieldPath, ...] = ()
    left: Mapping[FieldPath, str] = field(default_factory=dict)
    policies: frozenset[str] = frozenset()
    through: Mapping[str, str] = field(default_factory=dict)
    lifecycle: Lifecycle = UNDECLARED
    _digest: str = ""

    def origin(self, path: FieldPath) -> Origin:
        """Return the policy that declares the field at *path*."""
        template = self.templates.get(path[0])
        return NO_LONGER_DECLARED if template is None else template.origins.get(path[1:], NO_LONGER_DECLARED)

    def digest(self) -> str:
        """Return what the generation rises with: sha256 over what is declared, in hex.

        What goes back to what it was is not in it: a generation does not rise because something was undone.
        """
        return self._digest


@dataclass(frozen=True, slots=True)
class Compiled:
    """A set of declarations made ready for `resolve`, with its memory of what it has merged already.

    Attributes:
        by_name, by_pattern: the policies that name hosts: by a host's whole name, and by patterns. unnamed: the others.
    """

    declared: Declared
    policies: tuple[Policy, ...]
    catalogue: Mapping[str, DriverDocSpec]
    by_name: Mapping[str, tuple[int, ...]]
    by_pattern: Mapping[int, re.Pattern[str]]
    unnamed: tuple[int, ...]
    hosts: dict[tuple[object, ...], "_Candidates"] = field(default_factory=dict)
    layouts: dict[tuple[object, ...], tuple[Desired, frozenset[int]]] = field(default_factory=dict)
    choices: dict[tuple[object, ...], tuple[tuple[int, ...], tuple[int, ...], str]] = field(default_factory=dict)
    merged: dict[tuple[object, ...], Template] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The policies whose host_selector selects a host: those without a device_selector, and the others by its kind."""

    active: tuple[int, ...]
    by_kind: tuple[int, ...]
    by_identity: tuple[int, ...]


def compile_policies(declared: Declared) -> Compiled:
    """Return *declared* made ready for `resolve`."""
    located = in_order(declared.policies)
    names = [policy.document.spec.host_selector.names for policy in located]
    by_name: dict[str, tuple[int, ...]] = {}
    patterns: dict[int, re.Pattern[str]] = {}
    for index, wanted in enumerate(names):
        if any(PATTERN.search(name) for name in wanted):
            patterns[index] = re.compile("|".join(map(fnmatch.translate, wanted)))
        else:
            by_name |= {name: (*by_name.get(name, ()), index) for name in set(wanted)}
    unnamed = tuple(index for index, wanted in enumerate(names) if not wanted)
    drivers = {one.document.metadata.name: one.document.spec for one in reversed(declared.drivers)}  # the first counts
    catalogue = dict(sorted(drivers.items(), key=lambda item: item[0]))
    return Compiled(declared, tuple(map(compile_policy, located)), catalogue, by_name, patterns, unnamed)


def resolve(compiled: Compiled, host: Host, subject: Subject) -> Desired:
    """Return what *compiled* declares for *host*, whose facts are *subject*.

    What is owned on the host and no longer declared goes back to what it was; without one valid policy, or where a
    source has come to declare nothing, nothing does.
    What was set on the host for a device that has vanished stays while a policy asks for it: see `_orphaned`.
    """
    candidates = _select(compiled, host)
    declared = _declared if candidates.by_identity else _remembered
    desired, doubtful = declared(compiled, candidates, subject)
    if not doubtful and subject.owned.keys() <= desired.fields.keys():
        return desired
    # What a policy might ask of the host, if only it were known whether it selects a device, is neither set nor undone.
    shielded = _merge(compiled, _HOST_SCOPES, tuple(sorted(doubtful))).at(HOST)
    fields = {path: value for path, value in desired.fields.items() if path not in shielded}
    orphaned = _orphaned(compiled, candidates, subject, fields)
    unclear = desired.held if any(compiled.policies[index].state for index in doubtful) else ()
    kept = {*shielded, *orphaned, *spared(desired.lifecycle, unclear, subject)}
    prunes = compiled.policies and compiled.declared.prunes
    restored, left = _restore(subject, fields, desired.held, kept) if prunes else ({}, {})
    return replace(
        desired,
        fields={**fields, **restored},
        restored=tuple(restored),
        left=left,
        held={**_vanished(orphaned), **desired.held},
    )


def _orphaned(
    compiled: Compiled, candidates: _Candidates, subject: Subject, fields: Mapping[FieldPath, Value]
) -> dict[FieldPath, tuple[str, str]]:
    """Return what is owned on the host itself, and asked for a device that has vanished: its address, and the policy.

    Nothing else declares it, and the policy still selects the host. A device that is there and that no policy selects
    any more was let go by a person; one that is not there may have fallen off the bus.
    """
    found: dict[FieldPath, tuple[str, str]] = {}
    for path, owned in subject.owned.items():
        if path[0] != HOST or path in fields or not owned.device or subject.has(owned.device):
            continue
        address = owned.device.partition(" ")[0]
        # Each by itself: what one that selects nothing here would outweigh is asked for all the same.
        asking = (
            compiled.policies[index].name
            for index in sorted((*candidates.by_kind, *candidates.by_identity))
            if path[1:] in _merge(compiled, _HOST_SCOPES, (index,)).origins
            or asks_for(compiled.policies[index], path, owned.device, compiled.catalogue)
        )
        policy = next(asking, None)
        if policy is not None and re.fullmatch(ADDRESS, address):
            found[path] = address, policy
    return found


def _vanished(orphaned: Mapping[FieldPath, tuple[str, str]]) -> dict[str, str]:
    """Return, by address, why a device that is not there holds up what is *orphaned*."""
    found: dict[str, str] = {}
    for address in sorted({address for address, _ in orphaned.values()}):
        theirs = {path: policy for path, (of, policy) in sorted(orphaned.items()) if of == address}
        fields = ", ".join(f"{'.'.join(path[1:])} of policy {policy}" for path, policy in theirs.items())
        text = f"it is not there, and what was set on the host for it is left as it is ({fields})"
        found[address] = f"{text}: bring the device back, or let no such policy select the host any more"
    return found


def _remembered(compiled: Compiled, candidates: _Candidates, subject: Subject) -> tuple[Desired, frozenset[int]]:
    """Return `_declared` of a host with such devices: most hosts of a fleet are built like many others."""
    kinds = tuple(
        (d.address, d.vendor_id, d.product_id, d.class_id, d.physfn, d.vf_index) for d in subject.facts.devices
    )
    key = (candidates, kinds)
    found = compiled.layouts.get(key)
    if found is None:
        if len(compiled.layouts) >= _LAYOUTS:
            compiled.layouts.clear()
        found = compiled.layouts[key] = _declared(compiled, candidates, subject)
    return found


def _declared(compiled: Compiled, candidates: _Candidates, subject: Subject) -> tuple[Desired, frozenset[int]]:
    """Return what is declared for a host, and the policies that may select it or not: nobody knows."""
    templates: dict[str, Template] = {}
    active = set(candidates.active)
    doubtful_of: dict[str, tuple[int, ...]] = {}
    held: dict[str, str] = {}
    through: dict[str, str] = {}
    by_device: dict[str, tuple[int, ...]] = {}
    for device in subject.facts.devices if candidates.by_kind or candidates.by_identity else ():
        chosen, unclear, why = _choose(compiled, candidates, device, touched=subject.touched(device.address))
        if unclear:
            doubtful_of[device.address] = unclear
            held[device.address] = why
        elif chosen:
            active.update(chosen)
            pf = device.physfn if isinstance(device.physfn, str) else None
            for index in chosen:
                through.setdefault(compiled.policies[index].name, pf or device.address)  # a VF comes and goes
            by_device[device.address] = chosen
            templates[device.address] = _merge(compiled, _VF_SCOPES if pf else _PF_SCOPES, chosen)
    states = {target: template.state for target, template in templates.items() if template.state}
    states |= _perhaps_in_maintenance(compiled, doubtful_of)
    lifecycle = UNDECLARED
    if states:
        lifecycle = derive(states, Choices(compiled.policies, candidates.active, by_device, templates), subject)
    if active:
        templates[HOST] = _merge(compiled, _HOST_SCOPES, tuple(sorted(active)), lifecycle)
    fields: dict[FieldPath, Value] = {}
    for target, template in templates.items():
        fields.update(template.at(target))
    rows = [f"{target} {template.digest}" for target, template in templates.items() if template.fields]
    rows += [f"{address} state {leaf.value}" for address, leaf in lifecycle.states.items()]
    desired = Desired(
        fields,
        templates,
        conflicts=tuple(_conflicts(subject, templates)),
        held=held,
        policies=frozenset(compiled.policies[index].name for index in active),
        through=through,
        lifecycle=lifecycle,
        _digest=hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest(),
    )
    return desired, frozenset(index for unclear in doubtful_of.values() for index in unclear) - active


def _perhaps_in_maintenance(
    compiled: Compiled, doubtful_of: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, Leaf]]:
    """Yield the devices that a policy may have in maintenance, if only it were known whether it selects them."""
    for address, unclear in doubtful_of.items():
        states = (compiled.policies[index].state for index in unclear)
        state = next((leaf for leaf in states if leaf is not None and leaf.value == MAINTENANCE), None)
        if state is not None:
            yield address, state


def _select(compiled: Compiled, host: Host) -> _Candidates:
    """Return the policies whose host_selector selects *host*."""
    matching = [index for index, pattern in compiled.by_pattern.items() if pattern.match(host.name)]
    named = (*compiled.by_name.get(host.name, ()), *matching)
    key = (host.groups, tuple(sorted(host.labels.items())), named)
    found = compiled.hosts.get(key)
    if found is None:
        asking = ((index, compiled.policies[index]) for index in sorted((*compiled.unnamed, *named)))
        policies = [(index, policy) for index, policy in asking if selects_host(policy.host_selector, host)]
        found = compiled.hosts[key] = _Candidates(
            active=tuple(index for index, policy in policies if policy.choose is None),
            by_kind=tuple(index for index, policy in policies if policy.choose and not policy.by_identity),
            by_identity=tuple(index for index, policy in policies if policy.choose and policy.by_identity),
        )
    return found


def _choose(
    compiled: Compiled, candidates: _Candidates, device: Device, *, touched: Collection[str]
) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    """Return which *candidates* select *device*, which of them cannot tell, and why."""
    key = (candidates.by_kind, device.vendor_id, device.product_id, device.class_id)
    found = compiled.choices.get(key)
    if found is None:
        found = compiled.choices[key] = _choose_among(compiled, candidates.by_kind, device, touched=())
    if not candidates.by_identity:
        return found
    chosen, unclear, why = found
    more, further, also = _choose_among(compiled, candidates.by_identity, device, touched=touched)
    return (tuple(sorted((*chosen, *more))) if more else chosen), (*unclear, *further), why or also


def _choose_among(
    compiled: Compiled, among: Sequence[int], device: Device, *, touched: Collection[str]
) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    chosen: list[int] = []
    unclear: list[int] = []
    why = ""
    for index in among:
        policy = compiled.policies[index]
        if policy.choose is None:
            continue
        choice = policy.choose(device, compiled.catalogue, touched=touched)
        if choice.selected:
            chosen.append(index)
        elif choice.unknown:
            unclear.append(index)
            why = why or f"policy {policy.name} selects by {choice.unknown}"
    return tuple(chosen), tuple(unclear), why


def _merge(
    compiled: Compiled, scopes: tuple[str, ...], chosen: tuple[int, ...], lifecycle: Lifecycle = UNDECLARED
) -> Template:
    """Return what the *chosen* policies ask for in *scopes*; of the host, *lifecycle* has a say in it."""
    key = (scopes, chosen, lifecycle.added, lifecycle.gated)
    found = compiled.merged.get(key)
    if found is None:
        found = compiled.merged[key] = merge(adjusted(compiled.policies, chosen, lifecycle), scopes)
    return found


def _conflicts(subject: Subject, templates: Mapping[str, Template]) -> Iterator[str]:
    """Yield what policies disagree on, by target; and the VFs that are to have two drivers."""
    for target, template in templates.items():
        for text in template.contradictions:
            yield text if target == HOST else f"{target}: {text}"
        binding = template.origins.get(("binding", "driver"))
        device = subject.devices.get(target) if binding else None
        if binding is None or device is None or not isinstance(device.physfn, str) or device.vf_index is None:
            continue
        wanted = template.at(target)[target, "binding", "driver"]
        pf = templates.get(device.physfn)
        for tail, driver, origin in pf.fields if pf is not None else ():
            ours = tail[:2] == ("sriov", "vf_driver") and ranges.within(tail[2], device.vf_index)
            if ours and driver != wanted:
                one, other = f"{wanted} in {binding.place}", f"{driver} (sriov.vf_driver) in {origin.place}"
                yield f"{target}: binding.driver is {one}, and {other}; keep one of them"


def _restore(
    subject: Subject,
    declared: Mapping[FieldPath, Value],
    held: Mapping[str, str],
    kept: Collection[FieldPath],
) -> tuple[dict[FieldPath, Value], dict[FieldPath, str]]:
    """Return what was there before, of every owned field that nothing declares any more; and why some cannot be so.

    Those that are *kept* stay as they are.
    """
    found: dict[FieldPath, Value] = {}
    left: dict[FieldPath, str] = {}
    for path in subject.owned:
        target, feature = path[0], BY_NAME.get(path[1])
        if path in declared or path in kept or feature is None:
            continue
        misplaced = _misplaced(target, feature)
        if misplaced:
            left[path] = str(RecordError(misplaced))
        elif target == HOST or (target in subject.devices and target not in held):
            try:
                found.update(feature.restore(path, declared, subject))
            except RestoreError as exc:
                left[path] = str(exc)
    return found, left


def _misplaced(target: str, feature: Feature) -> str:
    """Return why *target* has no such *feature*; empty when it may have it."""
    if feature.SCOPE == "host":
        return "" if target == HOST else f"{feature.NAME} belongs to the host, and the record has it at {target}"
    return "" if re.match(ADDRESS, target) else f"{feature.NAME} belongs to a device, and the record has it at {target}"
