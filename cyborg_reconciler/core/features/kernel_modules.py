# SPDX-License-Identifier: Apache-2.0
"""Kernel modules: loaded or kept out, now and at the next boot, and their options. Pure.

Fields: ``load.<module>``, ``boot.load.<module>``, ``blacklist.<module>``, ``options.<module>.<option>`` (modprobe.d)
and ``parameters.<module>.<option>`` (running).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from cyborg_reconciler.core.features.base import (
    Field,
    Leaf,
    LeafKey,
    Said,
    Setting,
    Trouble,
    claim_trouble,
    module_conflict,
    module_protection,
    module_use,
    own,
    reason_of,
    release,
    signature_trouble,
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
)
from cyborg_reconciler.core.subject import (
    Subject,
    as_observed,
    module_name,
)
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.plan import Step
from cyborg_reconciler.documents.policy import PolicySpec

NAME: Final = "kernel_modules"
SCOPE: Final = "host"

#: How the kernel reads booleans; it writes Y and N. An option without a value is one that is set.
#: Source: Linux, lib/kstrtox.c, kstrtobool; kernel/params.c, param_set_bool, param_get_bool.
BOOLEANS: Final = {
    **dict.fromkeys(("1", "y", "t", "on", "true"), "Y"),
    **dict.fromkeys(("0", "n", "f", "off", "false"), "N"),
}

#: What a field is observed as whose configuration was changed by a run that was killed before it built the initramfs.
UNBUILT: Final = "changed, the initramfs not built"


def declare(spec: PolicySpec) -> Iterable[Said]:
    """Return one leaf a module (``load`` or ``blacklist``: they exclude each other) and one an option."""
    modules = spec.kernel_modules
    if modules is None:
        return
    for state, names in (("load", modules.load), ("blacklist", modules.blacklist)):
        for number, name in enumerate(names):
            yield Said((NAME, "state", module_name(name)), state, f"kernel_modules.{state}.{number}")
    for name, options in modules.options.items():
        for option, value in options.items():
            key = (NAME, "options", module_name(name), module_name(option))
            yield Said(key, str(value), f"kernel_modules.options.{name}.{option}")


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
                yield Field((NAME, "boot", "load", name), ABSENT, origin)  # it would load what is kept out
        elif key[:2] == (NAME, "options"):
            yield Field((NAME, "options", *key[2:]), value, origin)
            yield Field((NAME, "parameters", *key[2:]), value, origin)


def restore(
    path: FieldPath, declared: Mapping[FieldPath, Value], subject: Subject
) -> Iterable[tuple[FieldPath, Value]]:
    """Return the owned field."""
    del declared  # each of these is said in one way only
    match path[2:]:
        case ("load", _) | ("boot", "load", _) | ("blacklist", _) | ("options", _, _):
            yield path, subject.before(path)


def observe(path: FieldPath, desired: Value, subject: Subject) -> Observed:
    """Return whether a module is loaded, will be, is kept out; or an option's value, configured or running."""
    kind, name = path[2], path[3]
    if kind == "options":
        return _built(name, _option(name, path[4], desired, subject.facts.drivers), desired, subject)
    if kind == "parameters":
        return _parameter(subject.module(name), path[4], desired)
    if kind == "blacklist":
        return _built(name, _listed(name, subject.facts.drivers.blacklisted), desired, subject)
    if kind == "load":
        return _loaded(name, subject)
    # What is loaded without our doing is trusted to be loaded again.
    if desired is True and path not in subject.owned and _loaded(path[4], subject) is True:
        return desired
    return _listed(path[4], subject.facts.drivers.load)


def _built(name: str, observed: Observed, desired: Value, subject: Subject) -> Observed:
    """Return *observed*, unless it is as *desired* while the initramfs of the next boot does not say so yet."""
    due = subject.facts.drivers.initramfs_due
    if observed != desired:
        return observed
    if isinstance(due, reported.Unknown):
        return Unknown(due.unknown)
    return UNBUILT if name in due else observed


def _loaded(name: str, subject: Subject) -> Observed:
    module = subject.module(name)
    if module is None:
        return Unknown(f"the facts do not speak of module {name}")
    if module.loaded is True or module.builtin is True:
        return True
    unclear = next((fact for fact in (module.loaded, module.builtin) if isinstance(fact, reported.Unknown)), None)
    return ABSENT if unclear is None else Unknown(unclear.unknown)


def _listed(name: str, names: list[str] | reported.Unknown) -> Observed:
    if isinstance(names, reported.Unknown):
        return Unknown(names.unknown)
    return True if name in names or name in map(module_name, names) else ABSENT


def _option(name: str, option: str, desired: Value, drivers: reported.Drivers) -> Observed:
    if drivers.options_unknown is not None:
        return Unknown(drivers.options_unknown)
    values = [
        value
        for module, options in drivers.options.items()
        if module_name(module) == name
        for key, value in options.items()
        if module_name(key) == option
    ]
    return desired if values and _means(values[-1], desired) else (values[-1] if values else ABSENT)


def _parameter(module: reported.Module | None, option: str, desired: Value) -> Observed:
    """Return a running parameter; *desired* where it means the same, or the module is not there or does not tell."""
    if module is None or (module.loaded is False and module.builtin is False):
        return desired
    if module.parameters_unknown is not None:
        return Unknown(module.parameters_unknown)
    if option not in module.parameters:
        return desired
    observed = as_observed(module.parameters[option])
    return desired if isinstance(observed, str) and _means(observed, desired) else observed


def _means(text: str, desired: Value) -> bool:
    """Return whether *text* says what *desired* does: booleans, numbers, and lists of them are written in many ways."""
    if not isinstance(desired, str):
        return False
    said, wanted = ((value or "Y").split(",") for value in (text, desired))
    return text == desired or (len(said) == len(wanted) and all(map(_means_one, said, wanted)))


def _means_one(text: str, desired: str) -> bool:
    if text.lower() in BOOLEANS and desired.lower() in BOOLEANS:
        return BOOLEANS[text.lower()] == BOOLEANS[desired.lower()]
    return text == desired or (_number(text) is not None and _number(text) == _number(desired))


def _number(text: str) -> int | None:
    """Return the number that the kernel reads in *text*, 0x10, 020 and 16 being one; None when it is none.

    Source: Linux, lib/kstrtox.c, _parse_integer_fixup_radix.
    """
    digits = text.lstrip("+-")
    try:
        return int(text, 8 if digits.startswith("0") and digits.isdecimal() else 0)
    except ValueError:
        return None


def act(changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
    """Return one call a module, or why it waits, and one reboot for all that cannot be while this kernel runs."""
    by_module: dict[str, list[Change]] = {}
    for change in changes:
        name = change.path[4] if change.path[2] == "boot" else change.path[3]
        by_module.setdefault(name, []).append(change)
    later: list[Change] = []
    for name, ours in by_module.items():
        yield from _act_on(name, ours, setting, later)
    if later:
        reason = f"{reason_of(later)} in the running kernel"
        yield Action(HOST, NAME, tuple(later), Disruption.REBOOT, reason, None, setting.drift)


def _act_on(name: str, changes: list[Change], setting: Setting, later: list[Change]) -> Iterable[Action | Wait]:
    """Return what can be done for one module now; what takes a reboot is added to *later*."""
    module = setting.subject.module(name)
    trouble = _claim_trouble(changes, setting.subject) or _trouble(changes, module, setting)
    if trouble is not None:
        yield wait(trouble, _action(name, changes, changes, setting))
        return
    stale = [change for change in changes if change.path[2] == "parameters"]
    unload = [change for change in changes if change.path[2] == "load" and change.desired is ABSENT]
    held = module_use(module, setting.subject) if unload else None
    theirs = [c for c in changes if c.path[2] == "boot" and c.desired is ABSENT and c.path not in setting.subject.owned]
    if theirs:
        text = f"modules-load.d loads {name} at boot, and the file is not ours: take it out there"
        yield wait((Reason.MANUAL_ACTION_REQUIRED, text), _action(name, theirs, [], setting))
    rest = [c for c in changes if c not in stale and c not in theirs and not (held and c in unload)]
    if rest:
        yield _action(name, rest, [*rest, *unload], setting)
    # What hangs on a module that drives none of the devices, nobody can tell: it is not worth a reboot.
    tells = held is not None and held[0] is not Reason.UNKNOWN and bool(setting.subject.driven_by(name))
    goes_with_reboot = tells and not theirs
    if goes_with_reboot and setting.reboot and all(change.declared_by.policy for change in unload):
        later += unload  # kept out of the next boot now, gone with the reboot
    elif held:
        yield wait(held, _action(name, unload, unload, setting))
    later += stale


def _action(name: str, changes: Sequence[Change], owned: Sequence[Change], setting: Setting) -> Action:
    """Return the call that makes *changes*; *owned* are entered in the host's record with it."""
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
    # What a field was before an unfinished build nobody knows: it counts as found so.
    found = (replace(c, observed=c.desired) if c.observed == UNBUILT else c for c in owned if c.path[2] != "parameters")
    entries = own(dict.fromkeys(found))
    released = release(changes, setting.subject)
    step = Step(id=f"{NAME} {name}", module="kernel_module", args=args, own=entries, release=released)
    disruption = Disruption.MODULE_RELOAD if args.get("state") == "unloaded" else Disruption.NONE
    return Action(HOST, NAME, tuple(changes), disruption, reason_of(changes), step, setting.drift)


def _claim_trouble(changes: Sequence[Change], subject: Subject) -> Trouble | None:
    """Return which protected device an option would give to another driver."""
    options = (change for change in changes if change.path[2] in {"options", "parameters"})
    troubles = (claim_trouble(".".join(change.path[3:]), change.desired, subject) for change in options)
    return next((trouble for trouble in troubles if trouble is not None), None)


def _trouble(changes: Sequence[Change], module: reported.Module | None, setting: Setting) -> Trouble | None:
    """Return why nothing at all can be done for a module; None when something can."""
    if module is None:
        return None
    kinds = {change.path[2]: change.desired for change in changes}
    goes = "blacklist" in kinds and kinds["blacklist"] is True
    if goes or kinds.get("load", True) is ABSENT:
        return _stays_trouble(module, setting.subject, goes=goes) or module_conflict(module.name, setting)
    if "load" in kinds:
        declared = any(change.path[2] == "load" and change.declared_by.policy for change in changes)
        conflict = module_conflict(module.name, setting, f"{NAME}.load") if declared else None
        return conflict or _load_trouble(module, setting.subject.facts.kernel)
    if "parameters" in kinds and module.builtin is True:
        names = ", ".join(f"{module.name}.{c.path[4]}: {c.desired}" for c in changes if c.path[2] == "parameters")
        text = f"{module.name} is built into the kernel, and reads no modprobe.d: declare kernel_args {{{names}}}"
        return Reason.KERNEL_UNSUPPORTED, text
    return None


def _stays_trouble(module: reported.Module, subject: Subject, *, goes: bool) -> Trouble | None:
    """Return why *module* can neither be unloaded nor kept out of the next boot."""
    if module.builtin is True:
        return Reason.KERNEL_UNSUPPORTED, f"{module.name} is built into the kernel: it cannot be kept out"
    if not (goes or module.loaded):
        return None
    return module_protection(module.name, subject)


def _load_trouble(module: reported.Module, kernel: reported.KernelFacts) -> Trouble | None:
    """Return why *module* cannot be loaded."""
    if isinstance(module.path, reported.Unknown):
        return Reason.UNKNOWN, f"it could not be read where {module.name} lies: {module.path.unknown}"
    if module.path is None:
        return Reason.KERNEL_UNSUPPORTED, f"kernel {kernel.release} has no module {module.name}"
    return signature_trouble(module, kernel)
