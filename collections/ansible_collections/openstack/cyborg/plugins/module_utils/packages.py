# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which package installed the files of the host's kernel modules, and in which version?

`facts` calls this where it is asked for: with rpm it takes a program, with dpkg a look at a few long files. Does I/O.
Source: dpkg(1), its files below /var/lib/dpkg; deb-control(5); rpm(8), ``--query --file``; dkms(8).
"""

from ansible_collections.openstack.cyborg.plugins.module_utils.modinfo import module_of_file
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import (
    ToolMissing,
    Unreadable,
    clean,
    is_unknown,
    unknown,
)

STATUS, LISTS = "/var/lib/dpkg/status", "/var/lib/dpkg/info"
#: Of all packages of a host together; a file that is longer is no list of packages.
LIMIT_BYTES = 64 * 1024 * 1024
#: What Debian and Ubuntu call the packages of a kernel: these are looked at first, and seldom is another needed.
KERNEL_PACKAGES = ("linux-image-%s", "linux-modules-%s", "linux-modules-extra-%s", "linux-image-unsigned-%s")
RPM_TIMEOUT_S = 60
#: One line a file, with a tab, which no answer about a file without a package has.
RPM_FORMAT = "%{NAME}\\t%{EVR}\\n"
DKMS_TREE = "/var/lib/dkms"
NOBODY = {"package": None, "installed_version": None, "installed_by": None}


def add_packages(tree, release, drivers):
    """Add to each module of *drivers* which package installed its file: `NOBODY` where none did, or there is no file.

    Shape: ``{"package": name, "installed_version": version, "installed_by": "dpkg", "rpm" or "dkms"}``.
    """
    dkms = _read_dkms(tree, release, drivers["dkms"])
    paths = {}
    for module in drivers["modules"]:
        module.update(NOBODY)
        path = module["path"]
        if path is None:
            continue
        if is_unknown(path) or is_unknown(release):
            module.update(dict.fromkeys(NOBODY, path if is_unknown(path) else release))
            continue
        # What the distribution brings lies below kernel/, what comes on top of it beside that.
        on_top = not path.startswith("/lib/modules/%s/kernel/" % release)
        if on_top and is_unknown(dkms):
            module.update(dict.fromkeys(NOBODY, dkms))
        elif on_top and module["name"] in dkms:
            module.update(dkms[module["name"]])
        else:
            paths[module["name"]] = path
    owners = _read_owners(tree, release, paths) if paths else {}
    for module in drivers["modules"]:
        if module["name"] in owners:
            module.update(owners[module["name"]])


def _package(name, version, manager):
    return {"package": clean(name), "installed_version": clean(version), "installed_by": manager}


def _read_dkms(tree, release, builds):
    """Return ``{module: its package}`` of what DKMS installed for *release*, ``{"unknown": reason}`` if unreadable."""
    if is_unknown(builds):
        return builds
    found = {}
    try:
        for build in builds:
            if (build["kernel"], build["state"]) == (release, "installed"):
                folder = "%s/%s/%s/%s" % (DKMS_TREE, build["name"], build["version"], release)
                for architecture in tree.listdir(folder) or ():
                    for file in tree.listdir("%s/%s/module" % (folder, architecture)) or ():
                        found[module_of_file(file)] = _package(build["name"], build["version"], "dkms")
    except Unreadable as exc:
        return unknown(exc.reason)
    return found


def _read_owners(tree, release, paths):
    """Return ``{module: its package}`` of *paths*, ``{module: file}``, as the host's package manager has it."""
    try:
        real = {name: tree.resolve(path) if tree.readlink(path) else path for name, path in paths.items()}
        status = tree.read_bytes(STATUS, LIMIT_BYTES)
        return _ask_dpkg(tree, release, real, status) if status else _ask_rpm(tree, real)
    except (Unreadable, ToolMissing, OSError) as exc:
        return {name: dict.fromkeys(NOBODY, unknown(str(exc))) for name in paths}


# ---------------------------------------------------------------------------------------------------------------- dpkg
def _ask_dpkg(tree, release, paths, status):
    found, left = {}, dict(paths)
    versions = {}
    for name in _lists(tree, release):
        if not left:
            break
        listed = b"\n" + (tree.read_bytes("%s/%s" % (LISTS, name), LIMIT_BYTES) or b"") + b"\n"
        for module, path in list(left.items()):
            if _is_listed(listed, path):
                package = name[: -len(".list")].partition(":")[0]
                if package not in versions:
                    versions[package] = _version_of(status, package)
                found[module] = versions[package]
                del left[module]
    return found


def _lists(tree, release):
    """Yield the names of the files that list what packages hold: those of the kernel first, for they have it mostly."""
    first = ["%s.list" % (name % release) for name in KERNEL_PACKAGES]
    yield from first
    names = [name for name in tree.listdir(LISTS) or () if name.endswith(".list") and name not in first]
    yield from sorted(names, key=lambda name: release not in name)


def _is_listed(listed, path):
    """Say whether *path* is among those *listed*; /lib is /usr/lib today, and lists have either."""
    short = path[len("/usr") :] if path.startswith("/usr/lib/") else path
    line = b"%s\n" % short.encode("utf-8", "surrogateescape")
    return b"\n" + line in listed or b"\n/usr" + line in listed


def _version_of(status, package):
    at = (b"\n" + status).find(b"\nPackage: %s\n" % package.encode("utf-8", "surrogateescape"))
    if at < 0:
        return dict.fromkeys(NOBODY, unknown("%s: %s is not in it" % (STATUS, package)))
    end = status.find(b"\n\n", at)
    lines = status[at : end if end >= 0 else len(status)].decode("utf-8", "backslashreplace").splitlines()
    versions = [line[len("Version: ") :] for line in lines if line.startswith("Version: ")]
    return _package(package, versions[0] if versions else "", "dpkg")


# ----------------------------------------------------------------------------------------------------------------- rpm
def _ask_rpm(tree, paths):
    import subprocess

    arguments = ["--query", "--queryformat", RPM_FORMAT, "--file", *paths.values()]
    try:
        _status, output, errors = tree.run("rpm", arguments, timeout_s=RPM_TIMEOUT_S)
    except subprocess.SubprocessError as exc:
        raise Unreadable("rpm: %s" % exc) from exc
    lines = output.splitlines()
    if len(lines) != len(paths):
        message = "rpm: %d answers for %d files: %s" % (len(lines), len(paths), errors.strip() or output.strip())
        raise Unreadable(message)
    found = {}
    for module, line in zip(paths, lines):
        name, tab, version = line.partition("\t")
        found[module] = _package(name, version, "rpm") if tab else NOBODY
    return found
