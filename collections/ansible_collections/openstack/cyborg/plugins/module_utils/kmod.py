# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which kernel modules lie behind the host's devices: as loaded, as they lie on disk, as they are configured?

`facts` calls `read_drivers` and `read_aliases`; state modules call the parsers. Does I/O.
Source: Linux, Documentation/ABI/stable/sysfs-module; proc(5), /proc/modules; depmod(8), modules.dep(5).
"""

from ansible_collections.openstack.cyborg.plugins.module_utils.carriers import protections_of
from ansible_collections.openstack.cyborg.plugins.module_utils.holders import holder
from ansible_collections.openstack.cyborg.plugins.module_utils.modinfo import NOTHING, module_of_file, read_modinfo
from ansible_collections.openstack.cyborg.plugins.module_utils.modprobe import (
    LOAD,
    MODPROBE,
    OWN_PREFIX,
    canonical,
    gather_configuration,
    parse_load,
    read_blacklist_arguments,
    read_configuration,
)
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import (
    ToolMissing,
    Unreadable,
    clean,
    is_unknown,
    unknown,
)

PARAMETER_LIMIT = 512
#: Where state modules enter what they have begun. The reader is imported where there is something to read.
UNFINISHED = "/var/lib/cyborg-reconciler/unfinished.json"
#: 2 MB on a distribution's kernel; more than this is no list of aliases.
ALIAS_LIMIT_BYTES = 64 * 1024 * 1024


def modules_folder(release):
    """Return where the modules for the kernel *release* lie. Raises: Unreadable, where that is unknown."""
    if is_unknown(release):
        raise Unreadable(release["unknown"])
    return f"/lib/modules/{release}"


def parse_loaded(text):
    """Return ``{module: (refcount or None, [modules that use it])}`` of /proc/modules."""
    loaded = {}
    for line in text.splitlines():
        words = line.split()
        users = [name for name in words[3].split(",") if name and name not in ("-", "[permanent]")]
        loaded[words[0]] = (int(words[2]) if words[2].isdigit() else None, users)
    return loaded


def read_loaded(tree):
    """Return `parse_loaded` of the host. Raises: Unreadable."""
    try:
        return parse_loaded("\n".join(_lines(tree, "/proc/modules")))
    except (IndexError, ValueError) as exc:
        raise Unreadable(f"/proc/modules: {exc}") from exc


# ----------------------------------------------------------------------------------------------------------- on disk
def read_aliases(tree, release, modaliases):
    """Return ``{modalias: [modules on disk that match, best first]}``, ``{"unknown": reason}`` where unreadable."""
    try:
        name = f"{modules_folder(release)}/modules.alias"
        data = b"\n" + _there(name, tree.read_bytes(name, ALIAS_LIMIT_BYTES))
    except Unreadable as exc:
        return {modalias: unknown(exc.reason) for modalias in modaliases}
    return {modalias: match_aliases(data, modalias) for modalias in modaliases}


def match_aliases(data, modalias):
    """Return the modules whose alias in modules.alias (*data*) matches, those that say most of the device first."""
    matches = {}
    for prefix in _prefixes(modalias):
        at = data.find(b"\nalias " + prefix)
        while at >= 0:
            end = data.find(b"\n", at + 1)
            words = data[at + 1 : end if end >= 0 else len(data)].decode("utf-8", "replace").split()
            if len(words) == 3 and matches_alias(modalias, words[1]):  # noqa: PLR2004 -- alias PATTERN MODULE
                module, said = canonical(words[2]), len(words[1].replace("*", ""))
                matches[module] = max(matches.get(module, 0), said)
            at = data.find(b"\nalias " + prefix, at + 1)
    return sorted(matches, key=lambda module: (-matches[module], module))


def matches_alias(modalias, pattern):
    """Say whether an alias with ``*`` (seldom ``?`` or ``[…]``) matches; fnmatch makes a regex of each pattern."""
    if "[" in pattern or "?" in pattern:
        from fnmatch import fnmatchcase

        return fnmatchcase(modalias, pattern)
    first, *rest = pattern.split("*")
    if not rest:
        return modalias == pattern
    if not modalias.startswith(first):
        return False
    at, last = len(first), rest.pop()
    for part in rest:
        found = modalias.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return modalias.endswith(last) and len(modalias) - len(last) >= at


def _prefixes(modalias):
    """Return how patterns begin that can match: with the ids, with the vendor alone, with neither."""
    bus, _colon, rest = modalias.partition(":")
    width = len("v00008086d00001521") if bus == "pci" else len("d00000014")
    second = rest[: width // 2] if bus == "pci" else ""
    prefixes = [f"{bus}:{rest[:width]}", f"{bus}:{rest[:1]}*"]
    return [prefix.encode("ascii", "replace") for prefix in prefixes + ([f"{bus}:{second}d*"] if second else [])]


def _there(name, found):
    if found is None:
        raise Unreadable(f"{name}: no such file")
    return found


def _lines(tree, name):
    return _there(name, tree.read_text(name)).splitlines()


def read_builtin(tree, release):
    """Return the modules that are built into the kernel *release*. Raises: Unreadable."""
    return set(map(module_of_file, _lines(tree, f"{modules_folder(release)}/modules.builtin")))


def read_paths(tree, release):
    """Return ``{module: path}`` of the modules on disk. Raises: Unreadable."""
    folder = modules_folder(release)
    paths = [line.partition(":")[0] for line in _lines(tree, f"{folder}/modules.dep")]
    return {module_of_file(path): path if path[:1] == "/" else f"{folder}/{path}" for path in paths}


# --------------------------------------------------------------------------------------------------------- the drivers
def driver_module(tree, bus, driver):
    """Return the module that holds the *driver* of a *bus*, None where it is part of the kernel. Raises: Unreadable."""
    found = tree.link_name(f"/sys/bus/{bus}/drivers/{driver}/module")
    return found and canonical(found)


def read_drivers(tree, release, devices, modules, carrying):
    """Return the Drivers section of the facts: modules behind *devices*, configured by us, or named in *modules*.

    Shape: *devices* with their ``modules``, ``holders`` and ``protected``; *carrying* are the protections of modules
    that drive no device (`protection`). Raises: Unreadable.
    """
    drivers, own = _read_configured(tree)
    drivers["initramfs_due"] = _read_due(tree)
    drivers["dkms_present"], drivers["dkms"] = _read_dkms(tree)
    bound = _bound(tree, devices)
    names = {canonical(name) for name in modules} | own | set(bound)
    names.update(name for device in devices if not is_unknown(device["modules"]) for name in device["modules"])
    drivers["modules"] = _read_modules(tree, release, sorted(names), bound)
    for module in drivers["modules"]:
        module["protected"] += protections_of(carrying, module["name"])
    return drivers


def _read_dkms(tree):
    try:
        tree.find_tool("dkms")
        present = True
    except ToolMissing:
        present = False
    if not present and tree.mode("/var/lib/dkms") is None:
        return False, []
    from ansible_collections.openstack.cyborg.plugins.module_utils.dkms import read_dkms

    return present, read_dkms(tree, present=present)


def _read_due(tree):
    """Return the modules whose configuration was changed and the initramfs not built anew since: it was cut short."""
    try:
        if not tree.exists(UNFINISHED):
            return []
    except Unreadable as exc:
        return unknown(exc.reason)
    from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure
    from ansible_collections.openstack.cyborg.plugins.module_utils.initramfs import read_open

    try:
        return read_open(tree)
    except Failure as exc:
        return unknown(exc.message)


def _read_configured(tree):
    drivers, own = {"options": {}, "options_unknown": None}, set()
    try:
        texts = read_configuration(tree, MODPROBE)
        blacklisted, drivers["options"] = gather_configuration(texts.values())
        drivers["blacklisted"] = sorted({*blacklisted, *read_blacklist_arguments(tree)})
        own.update(_own_modules(texts))
    except Unreadable as exc:
        drivers["blacklisted"], drivers["options_unknown"] = unknown(exc.reason), exc.reason
    try:
        texts = read_configuration(tree, LOAD)
        drivers["load"] = sorted({name for text in texts.values() for name in parse_load(text)})
        own.update(_own_modules(texts))
    except Unreadable as exc:
        drivers["load"] = unknown(exc.reason)
    return drivers, own


def _own_modules(paths):
    names = (path.rpartition("/")[2] for path in paths)
    return {canonical(name[len(OWN_PREFIX) : -len(".conf")]) for name in names if name.startswith(OWN_PREFIX)}


def _bound(tree, devices):
    """Return ``{module: [devices bound to its driver]}``, for the function's bus and the virtio bus behind it."""
    bound, known = {}, {}
    for device in devices:
        for bus, driver in (("pci", device["driver"]), ("virtio", device["function_driver"])):
            if isinstance(driver, str):
                if (bus, driver) not in known:
                    known[bus, driver] = driver_module(tree, bus, driver)
                if known[bus, driver]:
                    bound.setdefault(known[bus, driver], []).append(device)
    return bound


def _read_modules(tree, release, names, bound):
    loaded, builtin = or_why(read_loaded, tree), or_why(read_builtin, tree, release)
    paths = or_why(read_paths, tree, release)
    if isinstance(paths, Unreadable):
        on_disk = {name: dict.fromkeys(("path", *NOTHING), unknown(paths.reason)) for name in names}
    else:
        infos = read_modinfo(tree, {name: paths[name] for name in names if name in paths})
        on_disk = {name: dict(info, path=clean(paths[name])) for name, info in infos.items()}
    found = [
        {
            "name": clean(name),
            "builtin": _is_builtin(tree, name, loaded, builtin),
            **on_disk.get(name, dict(NOTHING, path=None)),
            **_running(tree, name, loaded, bound.get(name, [])),
        }
        for name in names
    ]
    _name_openers(tree, [module for module in found if _is_unexplained(module)])
    return found


def or_why(read, *arguments):
    """Return what *read* returns, or the `Unreadable` that it raises."""
    try:
        return read(*arguments)
    except Unreadable as exc:
        return exc


def _is_builtin(tree, name, loaded, builtin):
    if not isinstance(builtin, Unreadable) and name in builtin:
        return True
    if not isinstance(loaded, Unreadable) and name in loaded:
        return False
    if tree.exists(f"/sys/module/{name}"):  # then it is one or the other
        return unknown(loaded.reason) if isinstance(loaded, Unreadable) else True
    return unknown(builtin.reason) if isinstance(builtin, Unreadable) else False


def _is_unexplained(module):
    """Say whether something uses the module that is neither another module nor seen on one of its devices."""
    held = module["holders"]
    return not is_unknown(held) and len(held) < (module["refcount"] or 0) and all(h["kind"] == "module" for h in held)


def _name_openers(tree, modules):
    """Add who has a node of *modules* open to their holders; where that cannot be read they are unknown."""
    if not modules:
        return
    from ansible_collections.openstack.cyborg.plugins.module_utils.openers import read_openers

    try:
        openers = read_openers(tree, [module["name"] for module in modules])
    except Unreadable as exc:
        openers = None
        for module in modules:
            module["holders"] = unknown(exc.reason)
    for module in modules if openers else ():
        module["holders"] += openers[module["name"]]


def _running(tree, name, loaded, devices):
    why = unknown(loaded.reason) if isinstance(loaded, Unreadable) else None
    refcount, users = (why, ()) if why else loaded.get(name, (None, ()))
    is_loaded = why or name in loaded
    base = f"/sys/module/{name}"
    fact = {
        "loaded": is_loaded,
        "refcount": refcount,
        "holders": why or [holder("module", user) for user in users],
        "loaded_version": tree.fact(f"{base}/version") if is_loaded else None,
        "loaded_srcversion": tree.fact(f"{base}/srcversion") if is_loaded else None,
        **_read_parameters(tree, base),
        "devices": [device["address"] for device in devices],
        "protected": [],
    }
    for device in devices:
        if is_unknown(device["holders"]):
            fact["holders"] = device["holders"]
        elif not is_unknown(fact["holders"]):
            fact["holders"] += [
                dict(held, detail=f"{held['detail']} ({device['address']})") for held in device["holders"]
            ]
        fact["protected"] += [
            {"reason": p["reason"], "via": f"{device['address']}: {p['via']}"} for p in device["protected"]
        ]
    return fact


def _read_parameters(tree, base):
    try:
        names = tree.listdir(f"{base}/parameters") or ()
    except Unreadable as exc:
        return {"parameters": {}, "parameters_unknown": exc.reason}
    values = {name: tree.fact(f"{base}/parameters/{name}", _short) for name in names}
    known = {clean(name): value for name, value in values.items() if value is not None}
    return {"parameters": known, "parameters_unknown": None}


def _short(text):
    return clean(text, PARAMETER_LIMIT)
