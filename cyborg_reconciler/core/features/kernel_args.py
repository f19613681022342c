# SPDX-License-Identifier: Apache-2.0
"""Arguments of the kernel: what the boot loader will give it, and what it runs with. Pure.

Fields: ``boot.<name>`` (the next boot) and ``<name>`` (running). The first is changed by a module, the second by a
reboot alone. Names with - and with _ are the same to the kernel; those who read /proc/cmdline may take them as written.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cyborg_reconciler.core.features.base import (
    Field,
    Leaf,
    LeafKey,
    Said,
    Setting,
    Trouble,
    claim_trouble,
    is_boot,
    module_protection,
    own,
    reason_of,
    release,
    wait,
)
from cyborg_reconciler.core.state import (
    ABSENT,
    HOST,
    Action,
    Change,
    Disruption,
    FieldPath,
    Observed,
    Reason,
    Unknown,
    Value,
    Wait,
    words_of,
)
from cyborg_reconciler.core.subject import Arguments, Subject, module_name, parse_arguments, to_json
from cyborg_reconciler.documents.plan import Step
from cyborg_reconciler.documents.policy import PolicySpec

NAME: Final = "kernel_args"
SCOPE: Final = "host"

#: Arguments that keep modules out.
#: Source: Linux, Documentation/admin-guide/kernel-parameters.txt; kmod, modprobe(8); dracut.cmdline(7).
KEEP_OUT: Final = frozenset({"module_blacklist", "modprobe.blacklist", "rd.driver.blacklist"})


def declare(spec: PolicySpec) -> Iterable[Said]:
    """Return one leaf an argument, and one for how its name is written where that differs from the kernel's."""
    for name, value in spec.kernel_args.items():
        place = f"kernel_args.{name}"
        yield Said((NAME, module_name(name)), value, place)
        if module_name(name) != name:
            yield Said((NAME, module_name(name), "name"), name, place)


def desire(leaves: Mapping[LeafKey, Leaf]) -> Iterable[Field]:
    """Return each argument, for the next boot and for now."""
    for key, leaf in leaves.items():
        if key[0] == NAME and key[2:] != ("name",):
            written = leaves.get((*key, "name"))
            name = key[1] if written is None else str(written.value)
            yield Field((NAME, "boot", name), leaf.value, leaf.origin)
            yield Field((NAME, name), leaf.value, leaf.origin)


def restore(
    path: FieldPath, declared: Mapping[FieldPath, Value], subject: Subject
) -> Iterable[tuple[FieldPath, Value]]:
    """Return the owned argument; once it is gone from the boot configuration, whatever that gives now is to run."""
    if path[2:-1] not in {(), ("boot",)}:
        return
    name = module_name(path[-1])
    if any(other[:-1] == path[:-1] and module_name(other[-1]) == name for other in declared):
        return
    value = subject.before(path)
    if not is_boot(path) and (*path[:2], "boot", path[-1]) not in subject.owned:
        at_boot = _value(subject.arguments[1], path[-1], value)
        value = value if isinstance(at_boot, Unknown) else at_boot
    yield path, value


def observe(path: FieldPath, desired: Value, subject: Subject) -> Observed:
    """Return an argument's value: a text, True for a bare word, a tuple where *desired* is one; ABSENT if not there."""
    running, at_boot = subject.arguments
    found = _value(at_boot if path[2] == "boot" else running, path[-1], desired)
    if isinstance(found, Unknown) and is_boot(path) and path not in subject.owned:
        now = _value(running, path[-1], desired)
        return desired if now == desired else found  # a boot loader that cannot be read gives what is asked for
    return found


def _value(arguments: Arguments | Unknown, name: str, desired: Value) -> Observed:
    if isinstance(arguments, Unknown):
        return arguments
    values = arguments.get(module_name(name))
    if values is None:
        return ABSENT
    if isinstance(desired, tuple):
        return tuple(map(str, values))
    return values[-1]  # the kernel obeys the last one


def act(changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
    """Return the call that edits the boot configuration, and the reboot that makes it effective."""
    refused: dict[Trouble, list[Change]] = {}
    for change in changes:
        trouble = _protection(change, setting.subject)
        if trouble is not None:
            refused.setdefault(trouble, []).append(change)
    for trouble, theirs in refused.items():
        shown = Action(HOST, NAME, tuple(theirs), Disruption.NONE, reason_of(theirs), None, setting.drift)
        yield wait(trouble, shown)
    kept = {change.path for theirs in refused.values() for change in theirs}
    yield from _act_on([change for change in changes if change.path not in kept], setting)


def _protection(change: Change, subject: Subject) -> Trouble | None:
    """Return which protected device an argument would take the driver from; None when it takes none."""
    name, value = module_name(change.path[-1]), change.desired
    texts = value if isinstance(value, tuple) else (value,)
    for text in texts:
        if name in KEEP_OUT and isinstance(text, str):
            troubles = (module_protection(module.strip(), subject) for module in text.split(","))
            trouble = next((one for one in troubles if one is not None), None)
        else:
            trouble = claim_trouble(name, text, subject)
        if trouble is not None:
            return trouble
    return None


def _act_on(changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
    """Return the call and the reboot for *changes* that endanger nothing."""
    at_boot = [change for change in changes if is_boot(change.path)]
    running = [change for change in changes if not is_boot(change.path)]
    overridden = [change for change in at_boot if setting.failures and _is_configured(change, setting.subject)]
    if at_boot:
        step = Step(
            id=NAME,
            module="kernel_args",
            args={
                "args": {c.path[-1]: to_json(c.desired) for c in at_boot if c.declared_by.policy},
                "absent": [c.path[-1] for c in at_boot if not c.declared_by.policy],
            },
            own=own([*at_boot, *running]),
            release=release(at_boot, setting.subject),
        )
        reason = "; ".join(f"{change.path[-1]} is {words_of(change.observed)} at the next boot" for change in at_boot)
        action = Action(HOST, NAME, tuple(at_boot), Disruption.NONE, reason, step, setting.drift)
        if overridden:
            names = ", ".join(change.path[-1] for change in overridden)
            message = (
                f"{names} is configured, and the boot loader's menu has it otherwise: look for another file that "
                "overrides it (on Ubuntu: /etc/default/grub.d)"
            )
            yield wait((Reason.KERNEL_ARG_NOT_EFFECTIVE, message), action)
            return
        yield action
    if running:
        reason = f"{reason_of(running)} in the running kernel"
        yield Action(HOST, NAME, tuple(running), Disruption.REBOOT, reason, None, setting.drift)


def _is_configured(change: Change, subject: Subject) -> bool:
    """Return whether the boot loader's configuration already says what its menu does not."""
    configured = _value(parse_arguments(subject.facts.kernel.args_configured), change.path[-1], change.desired)
    return configured == change.desired and change.path in subject.owned
