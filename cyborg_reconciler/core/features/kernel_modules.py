# SPDX-License-Identifier: Apache-2.0
"""Kernel modules: loaded or kept out, now and at the next boot, and their options. Pure.

Fields: ``load.<module>``, ``boot.load.<module>``, ``blacklist.<module>``, ``options.<module>.<option>`` (modprobe.d)
and ``parameters.<module>.<option>`` (running).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cyborg_reconciler.core.features.base import Field, Leaf, LeafKey, LeafValue, Setting, own, release, wait
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
)
from cyborg_reconciler.core.subject import Subject, as_observed, describe_holders, module_name
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.plan import Step
from cyborg_reconciler.documents.policy import PolicySpec

NAME: Final = "kernel_modules"
SCOPE: Final = "host"

#: How the kernel writes booleans that people write otherwise.
#: Source: Linux, kernel/params.c, param_get_bool and kstrtobool.
BOOLEANS: Final = {"1": "Y", "y": "Y", "on": "Y", "true": "Y", "0": "N", "n": "N", "off": "N", "false": "N"}


def declare(spec: PolicySpec) -> Iterable[tuple[LeafKey, LeafValue]]:
    """Return one leaf a module (``load`` or ``blacklist``: they exclude each other) and one an option."""
    modules = spec.kernel_modules
    if modules is None:
        return
    for name in modules.load:
        yield (NAME, "state", module_name(name)), "load"
    for name in modules.blacklist:
        yield (NAME, "state", module_name(name)), "blacklist"
    for name, options in modules.options.items():
        for option, value in options.items():
            yield (NAME, "options", module_name(name), option), str(value)


def desire(leaves: Mapping[LeafKey, Leaf]) -> Iterable[Field]:
    """Return what is to be loaded, kept out, and set."""
    for key, (value, origin) in leaves.items():
        if key[:2] == (NAME, "state"):
            name = key[2]
            if value == "load":
                yield Field((NAME, "load", name), value=True, origin=origin)
                yield Field((NAME, "boot", "load", name), value=True, origin=origin)
            else:
                yield Field((NAME, "blacklist", name), value=True, origin=origin)
                yield Field((NAME, "load", name), ABSENT, origin)
        elif key[:2] == (NAME, "options"):
            yield Field((NAME, "options", *key[2:]), value, origin)
            yield Field((NAME, "parameters", *key[2:]), value, origin)


def observe(path: FieldPath, desired: Value, subject: Subject) -> Observed:
    """Return whether a module is loaded, will be, is kept out; or an option's value, configured or running."""
    drivers = subject.facts.drivers
    match path[2:]:
        case ("boot", "load", name):
            return _observe_boot(path, name, desired, subject)
        case ("load", name):
            module = subject.module(name)
            if module is None:
                return Unknown(f"the facts do not speak of module {name}")
            return True if module.loaded or module.builtin else ABSENT
        case ("blacklist", name):
            return _listed(name, drivers.blacklisted)
        case ("options", name, option):
            if drivers.options_unknown is not None:
                return Unknown(drivers.options_unknown)
            options = {module_name(key): values for key, values in drivers.options.items()}
            return options.get(name, {}).get(option, ABSENT)
        case ("parameters", name, option):
            return _parameter(subject.module(name), option, desired)
        case _:
            return Unknown(f"no field is called {'.'.join(path[2:])}")


def _listed(name: str, names: list[str] | reported.Unknown) -> Observed:
    if isinstance(names, reported.Unknown):
        return Unknown(names.unknown)
    return True if name in map(module_name, names) else ABSENT


def _observe_boot(path: FieldPath, name: str, desired: Value, subject: Subject) -> Observed:
    """Return whether the next boot loads a module. What is loaded without our doing is trusted to be loaded again."""
    listed = _listed(name, subject.facts.drivers.load)
    loaded = observe((HOST, NAME, "load", name), desired, subject)
    return desired if path not in subject.owned and loaded == desired else listed


def _parameter(module: reported.Module | None, option: str, desired: Value) -> Observed:
    """Return a running parameter in the words of *desired*; *desired* itself where the module is not loaded or does not tell."""
    if module is None or not module.loaded or option not in module.parameters:
        return desired
    observed = as_observed(module.parameters[option])
    if isinstance(observed, str) and isinstance(desired, str) and observed in {"Y", "N"}:
        return desired if BOOLEANS.get(desired.lower(), desired) == observed else observed
    return observed


def act(changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
    """Return one call a module, or why it waits; a module that cannot go while the kernel runs asks for a reboot."""
    by_module: dict[str, list[Change]] = {}
    for change in changes:
        name = change.path[4] if change.path[2] == "boot" else change.path[3]
        by_module.setdefault(name, []).append(change)
    for name, ours in by_module.items():
        yield from _act_on(name, ours, setting)


def _act_on(name: str, changes: list[Change], setting: Setting) -> Iterable[Action | Wait]:
    stale = [change for change in changes if change.path[2] == "parameters"]
    unload = [change for change in changes if change.path[2] == "load" and change.desired is ABSENT]
    rest = [change for change in changes if change not in stale]
    module = setting.subject.module(name)
    obstacle = _unload_obstacle(module) if unload else None
    if obstacle and obstacle[0] is Reason.MODULE_IN_USE and setting.reboot and len(rest) > 0:
        # Kept out of the next boot now, gone with the reboot.
        later = _action(name, unload, Disruption.REBOOT, None, setting)
        rest = [change for change in rest if change not in unload]
        if rest:
            yield _action(name, rest, Disruption.NONE, _call(name, rest), setting)
        yield later
    elif rest:
        disruption = Disruption.MODULE_RELOAD if unload else Disruption.NONE
        action = _action(name, rest, disruption, _call(name, rest), setting)
        yield wait(obstacle[0], obstacle[1], action) if obstacle else action
    if stale:
        yield _action(name, stale, Disruption.REBOOT, None, setting)


def _action(name: str, changes: list[Change], disruption: Disruption, call: Step | None, setting: Setting) -> Action:
    reason = "; ".join(f"{change.field} is {change.observed}" for change in changes) or f"{name} is not as declared"
    return Action(HOST, NAME, tuple(changes), disruption, reason, call, setting.drift)


def _call(name: str, changes: Sequence[Change]) -> Step:
    args: dict[str, object] = {"name": name}
    options: dict[str, object] = {}
    for change in changes:
        wanted = change.desired is not ABSENT
        match change.path[2]:
            case "load":
                args["state"] = "loaded" if wanted else "unloaded"
            case "boot":
                args["boot"] = wanted
            case "blacklist":
                args["blacklisted"] = wanted
            case "options":
                options[change.path[4]] = change.desired if wanted else None
    if options:
        args["options"] = options
    return Step(id=f"{NAME} {name}", module="kernel_module", args=args, own=own(changes), release=release(changes))


def _unload_obstacle(module: reported.Module | None) -> tuple[Reason, str] | None:
    """Return why *module* cannot be unloaded while the kernel runs; None when it can."""
    if module is None or not module.loaded:
        return None
    if module.protected:
        via = module.protected[0]
        return (
            Reason.PROTECTED_DEVICE,
            f"{module.name} drives what carries the {via.reason.replace('_', ' ')} ({via.via})",
        )
    if isinstance(module.holders, reported.Unknown):
        return Reason.MODULE_IN_USE, f"it could not be read who holds {module.name}: {module.holders.unknown}"
    if module.holders:
        return Reason.MODULE_IN_USE, f"{module.name} is held by {describe_holders(module.holders)}"
    if isinstance(module.refcount, int) and module.refcount > 0:
        return Reason.MODULE_IN_USE, f"{module.name} has {module.refcount} users that the kernel does not name"
    return None
