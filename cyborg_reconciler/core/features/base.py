# SPDX-License-Identifier: Apache-2.0
"""What a feature is: the questions that `resolve`, `interpret` and `plan` ask of each. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from cyborg_reconciler.core.state import Action, Change, FieldPath, Observed, Origin, Reason, Value, Wait
from cyborg_reconciler.core.subject import Subject, to_json
from cyborg_reconciler.documents.plan import Own
from cyborg_reconciler.documents.policy import PolicySpec

#: The key by which policies merge, e.g. ``("sriov", "num_vfs")``.
LeafKey = tuple[str, ...]
LeafValue = str | int | bool | tuple[str, ...]


class Leaf(NamedTuple):
    """A leaf's value and the policy that won it."""

    value: LeafValue
    origin: Origin


class Field(NamedTuple):
    """A desired field: its path without the target, its value, its policy."""

    tail: tuple[str, ...]
    value: Value
    origin: Origin


class DesireError(Exception):
    """The merged leaves of one target contradict each other; its text says how."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a feature may know when it turns changes into actions.

    Attributes:
        reboot: the plan may reboot this host.
        drift: the host was as desired under this generation.
        desired: everything desired of the host.
    """

    subject: Subject
    desired: Mapping[FieldPath, Value]
    reboot: bool
    drift: bool


class Feature(Protocol):
    """A module of this package; features act in the order of the registry."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """Its key in the documents."""

    @property
    def SCOPE(self) -> Literal["host", "device", "pf"]:  # noqa: N802 - a module's constant
        """What its fields belong to: the host, any function, or physical functions alone."""

    def declare(self, spec: PolicySpec) -> Iterable[tuple[LeafKey, LeafValue]]:
        """Return the leaves that a policy declares."""

    def desire(self, leaves: Mapping[LeafKey, Leaf]) -> Iterable[Field]:
        """Return the fields that merged *leaves* ask for.

        Raises:
            DesireError: they contradict each other.
        """

    def observe(self, path: FieldPath, desired: Value, subject: Subject) -> Observed:
        """Return what the field at *path* is; *desired* decides between ways to say the same."""

    def act(self, changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
        """Return what removes *changes*, all of one target, or why it waits."""


def is_boot(path: FieldPath) -> bool:
    """Return whether *path* says what the next boot makes, rather than what runs."""
    return len(path) > 3 and path[2] == "boot"  # noqa: PLR2004 - target, feature, "boot", the field's own path


def own(changes: Iterable[Change]) -> list[Own]:
    """Return what to enter in the host's record before *changes* are made."""
    return [
        Own(path=list(change.path), before=to_json(change.observed), set=to_json(change.desired))
        for change in changes
        if change.declared_by.policy
    ]


def release(changes: Iterable[Change]) -> list[list[str]]:
    """Return the paths that *changes* bring back to what they were."""
    return [list(change.path) for change in changes if not change.declared_by.policy]


def wait(reason: Reason, message: str, action: Action) -> Wait:
    """Return the wait of *action*."""
    return Wait(reason, message, action.target, action)
