# SPDX-License-Identifier: Apache-2.0
"""What is desired of one host: the policies that select it and its devices, merged leaf by leaf.

`compile_policies` is called once for a set of declarations, `resolve` once a host. Hosts and devices that look alike
to the selectors share their merged result, so a fleet costs little more than its variety. Pure.
"""

import fnmatch
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import msgspec

from cyborg_reconciler.core.features import BY_NAME, FEATURES
from cyborg_reconciler.core.features.base import DesireError, Field, Leaf, LeafKey, LeafValue
from cyborg_reconciler.core.select import Choice, compile_selector, selects_host
from cyborg_reconciler.core.state import HOST, NO_LONGER_DECLARED, FieldPath, Host, Origin, Value
from cyborg_reconciler.core.subject import Subject
from cyborg_reconciler.documents.declared import Declared, Located
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.facts import Device
from cyborg_reconciler.documents.policy import AcceleratorPolicy


@dataclass(frozen=True, slots=True)
class Desired:
    """What is desired of one host.

    Attributes:
        fields: by path; what is not in it is left open.
        conflicts: contradictions, each in words that name both policies. A host with one gets no plan.
        held: devices that a selector could not judge, and why: no action, no pruning.
        policies: the names of those that selected the host, or a device of it.
    """

    fields: Mapping[FieldPath, Value]
    origins: Mapping[FieldPath, Origin]
    conflicts: tuple[str, ...] = ()
    held: Mapping[str, str] = field(default_factory=dict)
    policies: frozenset[str] = frozenset()

    def digest(self) -> str:
        """Return what the generation rises with: sha256 over fields and values, in hex."""
        rows = sorted((path, str(value), type(value).__name__) for path, value in self.fields.items())
        return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()


@dataclass(frozen=True, slots=True)
class _Policy:
    """A policy made ready: its selector as a closure, its leaves by scope."""

    name: str
    priority: int
    document: AcceleratorPolicy
    choose: Callable[[Device, Mapping[str, DriverDocSpec]], Choice] | None
    by_identity: bool
    leaves: Mapping[str, tuple[tuple[LeafKey, LeafValue, Origin], ...]]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A set of declarations made ready for `resolve`, with its memory of what it has merged already."""

    declared: Declared
    policies: tuple[_Policy, ...]
    catalogue: Mapping[str, DriverDocSpec]
    name_patterns: Mapping[int, re.Pattern[str]]
    hosts: dict[tuple[object, ...], tuple[int, ...]] = field(default_factory=dict)
    choices: dict[tuple[object, ...], tuple[tuple[int, ...], str]] = field(default_factory=dict)
    merged: dict[tuple[tuple[str, ...], tuple[int, ...]], tuple[tuple[Field, ...], tuple[str, ...]]] = field(
        default_factory=dict
    )


def compile_policies(declared: Declared) -> Compiled:
    """Return *declared* made ready for `resolve`."""
    policies = tuple(_compile(located) for located in declared.policies)
    patterns = {
        index: re.compile("|".join(fnmatch.translate(name) for name in policy.document.spec.host_selector.names))
        for index, policy in enumerate(policies)
        if policy.document.spec.host_selector.names
    }
    catalogue = {located.document.metadata.name: located.document.spec for located in declared.drivers}
    return Compiled(declared, policies, catalogue, patterns)


def _compile(located: Located[AcceleratorPolicy]) -> _Policy:
    document, spec = located.document, located.document.spec
    leaves: dict[str, list[tuple[LeafKey, LeafValue, Origin]]] = {}
    for feature in FEATURES:
        for key, value in feature.declare(spec):
            line = located.line(".".join(("spec", *key)))
            origin = Origin(document.metadata.name, located.file, line, spec.mode, spec.suspend)
            leaves.setdefault(feature.SCOPE, []).append((key, value, origin))
    selector = spec.device_selector
    return _Policy(
        name=document.metadata.name,
        priority=spec.priority,
        document=document,
        choose=compile_selector(selector) if selector else None,
        by_identity=bool(selector and (selector.addresses or selector.serials or selector.net_names)),
        leaves={scope: tuple(items) for scope, items in leaves.items()},
    )


def resolve(compiled: Compiled, host: Host, subject: Subject) -> Desired:
    """Return what *compiled* declares for *host*, whose facts are *subject*.

    What is owned on the host and no longer declared goes back to what it was; without one valid policy, nothing does.
    """
    candidates = _select(compiled, host)
    fields: dict[FieldPath, Value] = {}
    origins: dict[FieldPath, Origin] = {}
    conflicts: list[str] = []
    held: dict[str, str] = {}
    active = {index for index in candidates if compiled.policies[index].choose is None}
    for device in subject.facts.devices:
        chosen, unclear = _choose(compiled, candidates, device)
        if unclear:
            held[device.address] = unclear
            continue
        if not chosen:
            continue
        active.update(chosen)
        scopes = ("device", "pf") if device.physfn is None else ("device",)
        template, contradictions = _merge(compiled, scopes, chosen)
        conflicts += [f"{device.address}: {text}" for text in contradictions]
        for tail, value, origin in template:
            path = (device.address, *tail)
            fields[path], origins[path] = value, origin
    template, contradictions = _merge(compiled, ("host",), tuple(sorted(active)))
    conflicts += contradictions
    for tail, value, origin in template:
        path = (HOST, *tail)
        fields[path], origins[path] = value, origin
    conflicts += _two_drivers(subject, fields)
    if subject.owned and compiled.policies:
        _restore(subject, fields, origins, held)
    names = frozenset(compiled.policies[index].name for index in active)
    return Desired(fields, origins, tuple(conflicts), held, names)


def _select(compiled: Compiled, host: Host) -> tuple[int, ...]:
    """Return the policies whose host_selector selects *host*."""
    named = tuple(index for index, pattern in compiled.name_patterns.items() if pattern.match(host.name))
    key = (host.groups, tuple(sorted(host.labels.items())), named)
    found = compiled.hosts.get(key)
    if found is None:
        found = tuple(
            index
            for index, policy in enumerate(compiled.policies)
            if selects_host(policy.document.spec.host_selector, host)
        )
        compiled.hosts[key] = found
    return found


def _choose(compiled: Compiled, candidates: tuple[int, ...], device: Device) -> tuple[tuple[int, ...], str]:
    """Return which *candidates* select *device*, and, where a selector cannot tell, why."""
    by_identity = any(compiled.policies[index].by_identity for index in candidates)
    identity = (device.address, str(device.serial), *device.net_names) if by_identity else ()
    key = (candidates, device.vendor_id, device.product_id, device.class_id, device.physfn is None, identity)
    found = compiled.choices.get(key)
    if found is None:
        chosen: list[int] = []
        unclear = ""
        for index in candidates:
            choose = compiled.policies[index].choose
            if choose is None:
                continue
            choice = choose(device, compiled.catalogue)
            if choice.unknown:
                unclear = f"policy {compiled.policies[index].name} selects by {choice.unknown}"
            elif choice.selected:
                chosen.append(index)
        found = compiled.choices[key] = (tuple(chosen), unclear)
    return found


def _merge(
    compiled: Compiled, scopes: tuple[str, ...], chosen: tuple[int, ...]
) -> tuple[tuple[Field, ...], tuple[str, ...]]:
    """Return the fields that the *chosen* policies ask for in *scopes*, and their contradictions."""
    key = (scopes, chosen)
    found = compiled.merged.get(key)
    if found is None:
        found = compiled.merged[key] = _merge_anew([compiled.policies[index] for index in chosen], scopes)
    return found


def _merge_anew(policies: Sequence[_Policy], scopes: tuple[str, ...]) -> tuple[tuple[Field, ...], tuple[str, ...]]:
    leaves: dict[LeafKey, Leaf] = {}
    priorities: dict[LeafKey, int] = {}
    contradictions: list[str] = []
    for policy in sorted(policies, key=lambda policy: -policy.priority):
        for key, value, origin in chain.from_iterable(policy.leaves.get(scope, ()) for scope in scopes):
            if key not in leaves:
                leaves[key], priorities[key] = Leaf(value, origin), policy.priority
            elif priorities[key] == policy.priority and leaves[key].value != value:
                winner = leaves[key]
                contradictions.append(
                    f"{'.'.join(key)} is {_words(winner.value)} in {_place(winner.origin)} and {_words(value)} in {_place(origin)}, "
                    f"both of priority {policy.priority}; raise one of them"
                )
    fields: list[Field] = []
    for feature in FEATURES:
        if feature.SCOPE in scopes:
            try:
                fields.extend(feature.desire(leaves))
            except DesireError as exc:
                contradictions.append(str(exc))
    return tuple(fields), tuple(contradictions)


def _words(value: LeafValue) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _place(origin: Origin) -> str:
    return f"{origin.policy} ({origin.file}:{origin.line})"


def _two_drivers(subject: Subject, fields: Mapping[FieldPath, Value]) -> list[str]:
    """Return the VFs that one policy binds to another driver than their PF's policy does."""
    found = []
    for path, driver in fields.items():
        device = subject.devices.get(path[0])
        if path[1:] != ("binding", "driver") or device is None or device.physfn is None or device.vf_index is None:
            continue
        for other, wanted in fields.items():
            if other[0] == device.physfn and other[1:3] == ("sriov", "vf_driver") and wanted != driver:
                first, _, last = other[3].partition("-")
                if first == "*" or int(first) <= device.vf_index <= int(last or first):
                    found.append(
                        f"{device.address}: binding.driver is {driver}, its PF's sriov.vf_driver {wanted}; keep one"
                    )
    return found


def _restore(
    subject: Subject, fields: dict[FieldPath, Value], origins: dict[FieldPath, Origin], held: Mapping[str, str]
) -> None:
    """Ask for what was there before, of every owned field that nothing declares any more."""
    for path, before in subject.owned.items():
        target, feature = path[:2]
        there = target == HOST or (target in subject.devices and target not in held)
        if path not in fields and there and feature in BY_NAME:
            fields[path], origins[path] = before, NO_LONGER_DECLARED
