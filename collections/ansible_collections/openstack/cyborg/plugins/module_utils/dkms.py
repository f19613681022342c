# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which sources does DKMS have, and for which kernels are they built and installed?

`kmod` calls this. Does I/O. DKMS's own tree is read, since `dkms status` costs a second of CPU; that is asked only
where the tree lies elsewhere.
Source: dkms(8); its tree holds NAME/VERSION/source, NAME/VERSION/KERNEL/ARCH/module, and a link NAME/kernel-KERNEL-ARCH
that leads to the build which is installed. A package whose source is gone is broken, as DKMS calls it.
"""

import re
import stat

from ansible_collections.openstack.cyborg.plugins.module_utils.tree import ToolMissing, Unreadable, clean, unknown

TREE = "/var/lib/dkms"
#: Beside the versions: the modules that the kernel came with.
SAVED = "original_module"
STATUS_TIMEOUT_S = 60
#: dkms 2: ``name, version, kernel, arch: state``; dkms 3: ``name/version, kernel, arch: state``; both without the
#: kernel when the source is merely added.
STATUS = (
    r"(?P<name>[^,/\s]+)(?:/|, )(?P<version>[^,:\s]+)(?:, (?P<kernel>[^,\s]+), [^,:\s]+)?: "
    r"(?P<state>added|built|installed|broken)"
)


def read_dkms(tree, *, present):
    """Return the builds, ``{"unknown": reason}`` where unreadable; *present* says whether the program is there."""
    try:
        names = tree.listdir(TREE)
        if names is None:
            return _ask_status(tree) if present else []
    except Unreadable as exc:
        return unknown(exc.reason)
    return [build for name in names for build in _read_package(tree, name)]


def _read_package(tree, name):
    """Return the builds of one package; the last has an unknown state where it could not be read to its end."""
    builds, version = [], None
    try:
        for version in tree.listdir(f"{TREE}/{name}") or () if _is_folder(tree, f"{TREE}/{name}") else ():
            builds.extend(_read_builds(tree, name, version))
    except Unreadable as exc:
        builds.append(_build(name, version, None, unknown(exc.reason)))
    return builds


def _is_folder(tree, name):
    mode = tree.mode(name)
    return mode is not None and stat.S_ISDIR(mode) and tree.readlink(name) is None


def _read_builds(tree, name, version):
    folder = f"{TREE}/{name}/{version}"
    if version == SAVED or not _is_folder(tree, folder):
        return []
    builds = [] if tree.exists(f"{folder}/source") else [_build(name, version, None, "broken")]
    for kernel in tree.listdir(folder) or ():
        if kernel in ("source", "build") or not _is_folder(tree, f"{folder}/{kernel}"):
            continue
        for architecture in tree.listdir(f"{folder}/{kernel}") or ():
            if tree.exists(f"{folder}/{kernel}/{architecture}/module"):
                installed = tree.readlink(f"{TREE}/{name}/kernel-{kernel}-{architecture}")
                state = "installed" if installed == f"{version}/{kernel}/{architecture}" else "built"
                builds.append(_build(name, version, kernel, state))
    return builds or [_build(name, version, None, "added")]


def _build(name, version, kernel, state):
    return {
        "name": clean(name),
        "version": version and clean(version),
        "kernel": kernel and clean(kernel),
        "state": state,
    }


def _ask_status(tree):
    import subprocess

    try:
        status, output, errors = tree.run("dkms", ["status"], timeout_s=STATUS_TIMEOUT_S)
    except (ToolMissing, OSError, subprocess.SubprocessError) as exc:
        raise Unreadable(f"dkms status: {exc}") from exc
    if status:
        raise Unreadable(f"dkms status: {errors.strip() or f'exit status {status}'}")
    return parse_status(output)


def parse_status(output):
    """Return the builds that the output of ``dkms status`` tells of, of dkms 2 and of dkms 3."""
    found = (re.match(STATUS, line) for line in output.splitlines())
    return [_build(match["name"], match["version"], match["kernel"], match["state"]) for match in found if match]
