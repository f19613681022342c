# SPDX-License-Identifier: Apache-2.0
"""Arguments of the kernel: what the boot loader will give it, and what it runs with. Pure.

Fields: ``boot.<name>`` (the next boot) and ``<name>`` (running). The first is changed by a module, the second by a
reboot alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cyborg_reconciler.core.features.base import Field, Leaf, LeafKey, LeafValue, Setting, is_boot, own, release
from cyborg_reconciler.core.state import (
    ABSENT,
    HOST,
    Action,
    Change,
    Disruption,
    FieldPath,
    Observed,
    Unknown,
    Value,
    Wait,
)
from cyborg_reconciler.core.subject import Subject, to_json
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.plan import Step
from cyborg_reconciler.documents.policy import PolicySpec

NAME: Final = "kernel_args"
SCOPE: Final = "host"


def declare(spec: PolicySpec) -> Iterable[tuple[LeafKey, LeafValue]]:
    """Return one leaf an argument."""
    for name, value in spec.kernel_args.items():
        yield (NAME, name), value


def desire(leaves: Mapping[LeafKey, Leaf]) -> Iterable[Field]:
    """Return each argument, for the next boot and for now."""
    for key, leaf in leaves.items():
        if key[0] == NAME:
            yield Field((NAME, "boot", key[1]), leaf.value, leaf.origin)
            yield Field((NAME, key[1]), leaf.value, leaf.origin)


def observe(path: FieldPath, desired: Value, subject: Subject) -> Observed:
    """Return an argument's value: a text, True for a bare word, a tuple where *desired* is one; ABSENT when it is not there."""
    kernel = subject.facts.kernel
    running = _value(kernel.args_running, path[-1], desired)
    if not is_boot(path):
        return running
    at_boot = _value(kernel.args_next_boot, path[-1], desired)
    if isinstance(at_boot, Unknown) and running == desired and path not in subject.owned:
        return desired  # a boot loader that we cannot read gives what is asked for
    return at_boot


def _value(words: list[str] | reported.Unknown, name: str, desired: Value) -> Observed:
    if isinstance(words, reported.Unknown):
        return Unknown(words.unknown)
    values: list[str | bool] = []
    for word in words:
        key, equals, value = word.partition("=")
        if key.replace("-", "_") == name.replace("-", "_"):
            values.append(value if equals else True)
    if not values:
        return ABSENT
    if isinstance(desired, tuple):
        return tuple(map(str, values))
    return values[-1]  # the kernel obeys the last one


def act(changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
    """Return the call that edits the boot configuration, and the reboot that makes it effective."""
    at_boot = [change for change in changes if is_boot(change.path)]
    running = [change for change in changes if not is_boot(change.path)]
    if at_boot:
        wanted = {change.path[-1]: change.desired for change in at_boot if change.declared_by.policy}
        step = Step(
            id=NAME,
            module="kernel_args",
            args={
                "args": {name: to_json(value) for name, value in wanted.items()},
                "absent": [change.path[-1] for change in at_boot if not change.declared_by.policy],
            },
            own=own([*at_boot, *running]),
            release=release(at_boot),
        )
        reason = "; ".join(f"{change.path[-1]} is {change.observed} at the next boot" for change in at_boot)
        yield Action(HOST, NAME, tuple(at_boot), Disruption.NONE, reason, step, setting.drift)
    if running:
        reason = "; ".join(f"{change.field} is {change.observed} in the running kernel" for change in running)
        yield Action(HOST, NAME, tuple(running), Disruption.REBOOT, reason, None, setting.drift)
