# SPDX-License-Identifier: Apache-2.0
"""What several policies ask of one target together: leaf by leaf, the highest priority wins.

Called by `resolve`. Pure.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import msgspec

from cyborg_reconciler.core.features import FEATURES
from cyborg_reconciler.core.features.base import DesireError, Field, Leaf, LeafKey, Said
from cyborg_reconciler.core.select import Choose, compile_selector
from cyborg_reconciler.core.state import FieldPath, Origin, Value, words_of
from cyborg_reconciler.core.subject import to_json
from cyborg_reconciler.documents.base import Selector
from cyborg_reconciler.documents.declared import Located
from cyborg_reconciler.documents.policy import AcceleratorPolicy

#: Of policies that say the same with the same priority, the one that acts wins.
_BY_MODE: Final = {"enforce": 0, "warn": 1, "disabled": 2}

#: The leaf that says what a device is to be: no field, since no host shows it. `lifecycle` says what follows from it.
STATE: Final[LeafKey] = ("state",)

#: Any function may have one, VFs among them.
STATE_SCOPE: Final = "device"

#: Targets for which a template keeps its paths; most fleets have a few dozen addresses.
_PLACES: Final = 1024


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy made ready: its selector as a function, its leaves by scope.

    Attributes:
        by_identity: its device selector asks for more than the kind of device.
        driver: the driver that it wants to be there; empty where it names none.
    """

    name: str
    priority: int
    host_selector: Selector
    choose: Choose | None
    by_identity: bool
    leaves: Mapping[str, tuple[tuple[LeafKey, Leaf], ...]]
    driver: str = ""

    @property
    def state(self) -> Leaf | None:
        """What it says that its devices are to be; None where it does not."""
        return next((leaf for key, leaf in self.leaves.get(STATE_SCOPE, ()) if key == STATE), None)


@dataclass(frozen=True, slots=True)
class Template:
    """The fields that policies ask of a target, wherever it is.

    Attributes:
        contradictions: what the policies disagree on, in words that name them.
        digest: of paths and values; it tells nothing of who declared them.
        suspended: the policies that declare a field and are suspended.
        state: what the device is to be.
    """

    fields: tuple[Field, ...]
    contradictions: tuple[str, ...]
    origins: Mapping[tuple[str, ...], Origin]
    digest: str
    suspended: frozenset[str] = frozenset()
    state: Leaf | None = None
    _placed: dict[str, Mapping[FieldPath, Value]] = field(default_factory=dict)

    def at(self, target: str) -> Mapping[FieldPath, Value]:
        """Return the fields with their whole paths."""
        placed = self._placed.get(target)
        if placed is None:
            if len(self._placed) >= _PLACES:
                self._placed.clear()
            placed = self._placed[target] = {(target, *tail): value for tail, value, _ in self.fields}
        return placed


def compile_policy(located: Located[AcceleratorPolicy]) -> Policy:
    """Return a policy made ready for `merge`."""
    document, spec = located.document, located.document.spec
    leaves: dict[str, list[tuple[LeafKey, Leaf]]] = {}
    said = [(feature.SCOPE, one) for feature in FEATURES for one in feature.declare(spec)]
    if spec.state is not None:
        said.append((STATE_SCOPE, Said(STATE, spec.state, "state")))
    for scope, (key, value, place) in said:
        line = located.line(f"spec.{place}")
        origin = Origin(document.metadata.name, located.file, line, spec.mode, spec.suspend)
        leaves.setdefault(scope, []).append((key, Leaf(value, origin)))
    selector = spec.device_selector
    return Policy(
        name=document.metadata.name,
        priority=spec.priority,
        host_selector=spec.host_selector,
        choose=compile_selector(selector) if selector else None,
        by_identity=bool(selector and (selector.addresses or selector.serials or selector.net_names)),
        leaves={scope: tuple(items) for scope, items in leaves.items()},
        driver=spec.driver.name if spec.driver and spec.driver.state == "present" else "",
    )


def in_order(policies: Iterable[Located[AcceleratorPolicy]]) -> list[Located[AcceleratorPolicy]]:
    """Return *policies* so that the one that wins comes first, whatever order they were read in."""

    def rank(located: Located[AcceleratorPolicy]) -> tuple[int, bool, int, str, str]:
        spec, name = located.document.spec, located.document.metadata.name
        return -spec.priority, spec.suspend, _BY_MODE[spec.mode], name, located.file

    return sorted(policies, key=rank)


def merge(policies: Iterable[Policy], scopes: tuple[str, ...]) -> Template:
    """Return what *policies*, those that win first, ask for in *scopes*."""
    leaves: dict[LeafKey, Leaf] = {}
    priorities: dict[LeafKey, int] = {}
    contradictions: list[str] = []
    for policy in policies:
        for key, leaf in chain.from_iterable(policy.leaves.get(scope, ()) for scope in scopes):
            if key not in leaves:
                leaves[key], priorities[key] = leaf, policy.priority
            elif priorities[key] == policy.priority and leaves[key].value != leaf.value:
                one, other = (f"{words_of(found.value)} in {found.origin.place}" for found in (leaves[key], leaf))
                text = f"{'.'.join(key)} is {one} and {other}, both of priority {policy.priority}; raise one of them"
                contradictions.append(text)
    fields: list[Field] = []
    for feature in FEATURES:
        if feature.SCOPE in scopes:
            try:
                fields.extend(feature.desire(leaves))
            except DesireError as exc:
                contradictions.append(str(exc))
    origins = {tail: origin for tail, _, origin in fields}
    state = leaves.get(STATE)
    declaring = (*origins.values(), *([state.origin] if state else ()))
    suspended = frozenset(origin.policy for origin in declaring if origin.suspended)
    return Template(tuple(fields), tuple(contradictions), origins, _digest(fields), suspended, state)


def _digest(fields: Iterable[Field]) -> str:
    rows = sorted((tail, type(value).__name__, str(to_json(value))) for tail, value, _ in fields)
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()
