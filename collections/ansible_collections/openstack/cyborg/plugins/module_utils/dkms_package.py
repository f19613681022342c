# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How is a module built on the host from its source by DKMS, and taken away again?

For the kernel that runs and the one that boots next. Called by the module `dkms_package`; `source_archive` unpacks
what the controller sent. Does I/O through `Host`.
Source: dkms(8).
"""

import json
import re

from ansible_collections.openstack.cyborg.plugins.module_utils import source_archive
from ansible_collections.openstack.cyborg.plugins.module_utils.dkms import read_dkms
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Refusal, Result, has_tool
from ansible_collections.openstack.cyborg.plugins.module_utils.kernel import read_kernel
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable, is_unknown

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "version": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "source": {"type": "path"},  # read by the controller's half of the module
    "kernels": {"type": "list", "elements": "str"},
    "digest": {"type": "str"},
    "archive": {"type": "path"},
}
#: What a package and a version may be called: never a path, never an option.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}\Z")
#: Which sources are ours, with the digest of each.
RECORD = "/var/lib/cyborg-reconciler/dkms.json"
TIMEOUT_S = 1800
#: The reason that makes the controller's half send the source.
SOURCE_NEEDED = "SourceNeeded"
#: Keys with which DKMS signs what it builds. Source: dkms(8), sign_file; Ubuntu's shim-signed.
SIGNING_KEYS = ("/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der")


def source_folder(name, version):
    """Return where the source of a package lies."""
    return "/usr/src/%s-%s" % (name, version)


def read(tree, args):
    """Return what is there, in the words of the module's RETURN. Raises: Failure."""
    builds = read_dkms(tree, present=has_tool(tree, "dkms"))
    if is_unknown(builds):
        raise Failure("what DKMS has built cannot be read: %s" % builds["unknown"])
    kept = [{"version": one["version"], "kernel": one["kernel"], "state": one["state"]} for one in builds]
    kept = [one for one, build in zip(kept, builds) if build["name"] == args["name"]]
    for one in kept:
        if is_unknown(one["state"]):
            raise Failure("what DKMS has built of %s cannot be read: %s" % (args["name"], one["state"]["unknown"]))
    return {"builds": kept}


def ensure(host, args):
    """Have the package built and installed, or gone. Raises: Refusal, Failure, ValueError."""
    for value in (args["name"], args["version"]):
        if value is not None and not NAME.match(value):
            raise ValueError("%r is no name or version of a DKMS package" % value)
    if args["state"] == "absent":
        return _ensure_absent(host, args)
    if not args["version"] or not args["digest"]:
        raise ValueError("%s: version and source are needed" % args["name"])
    return _ensure_present(host, args)


# ------------------------------------------------------------------------------------------------------------- present
def _ensure_present(host, args):
    name, version = args["name"], args["version"]
    before, ours = read(host.tree, args), _read_record(host.tree)
    kernels = _kernels(host.tree, args)
    is_new = ours.get(_key(name, version)) != args["digest"] or _is_broken(before, version)
    installed = {one["kernel"] for one in before["builds"] if (one["version"], one["state"]) == (version, "installed")}
    missing = [release for release in kernels if is_new or release not in installed]
    others = sorted({one["version"] for one in before["builds"]} - {version})
    stale = [other for other in others if _key(name, other) in ours]
    if not missing and not stale and not is_new:
        return Result(before, before, changed=False)
    _refuse(host, args, kernels)
    if is_new and not args["archive"] and not host.check:
        raise Refusal(SOURCE_NEEDED, "%s: the host does not have this source, and it was not sent along" % name)
    if not host.announce(before):
        return Result(before, {"builds": [_build(version, release) for release in kernels]}, changed=True)
    if is_new:
        _put_source(host, args, ours)
    for release in missing:
        host.run("dkms", "install", "-m", name, "-v", version, "-k", release, timeout_s=TIMEOUT_S)
    for other in stale:
        _remove(host, name, other, ours)
    after = read(host.tree, args)
    _verify(args, kernels, after)
    return Result(before, after, changed=True)


def _is_broken(found, version):
    """Say whether DKMS has the *version* and its source is gone."""
    return any((one["version"], one["state"]) == (version, "broken") for one in found["builds"])


def _build(version, release):
    return {"version": version, "kernel": release, "state": "installed"}


def _kernels(tree, args):
    """Return the releases to build for: those named, else the one that runs and, with headers, the next one."""
    if args["kernels"]:
        for release in args["kernels"]:
            if not RELEASE.match(release):
                raise ValueError("%r is no release of a kernel" % release)
        return list(args["kernels"])
    facts = read_kernel(tree)
    if is_unknown(facts["release"]):
        raise Failure("which kernel runs is not known: %s" % facts["release"]["unknown"])
    known = [] if is_unknown(facts["kernels"]) else facts["kernels"]
    following = [one["release"] for one in known if one["next_boot"] is True and one["headers"]]
    return [facts["release"], *(release for release in following if release != facts["release"])]


def _refuse(host, args, kernels):
    """Refuse what cannot be built or would not be loaded. Raises: Refusal."""
    name, facts = args["name"], read_kernel(host.tree)
    if not has_tool(host.tree, "dkms"):
        raise Refusal("ManualActionRequired", "%s: dkms is not installed on the host: install the package dkms" % name)
    for release in kernels:
        if not host.tree.exists("/lib/modules/%s/build" % release):
            package = "kernel-devel" if facts["os_family"] == "redhat" else "linux-headers"
            message = "%s: no headers for the kernel %s (/lib/modules/%s/build): install the package %s-%s"
            raise Refusal("KernelUnsupported", message % (name, release, release, package, release))
    if facts["secure_boot"] is True and not any(host.tree.exists(key) for key in SIGNING_KEYS):
        message = "%s: Secure Boot is on, and DKMS has no key to sign with (%s): make one and enrol it with mokutil"
        raise Refusal("SecureBootUnsigned", message % (name, " or ".join(SIGNING_KEYS)))


def _put_source(host, args, ours):
    """Put the source in place of what may be there, and forget what was built of that. Raises: Failure."""
    name, version = args["name"], args["version"]
    folder = source_folder(name, version)
    if host.tree.exists(folder) and _key(name, version) not in ours:
        raise Failure("%s: it is there, and it is not ours: take another version, or remove it" % folder)
    ours[_key(name, version)] = ""  # ours, and not whole yet
    _write_record(host, ours)
    _forget_builds(host, name, version)
    source_archive.unpack(host, args["archive"], args["digest"], folder)
    _forget_builds(host, name, version)  # those whose source was gone: before it is back, dkms touches nothing
    ours[_key(name, version)] = args["digest"]
    _write_record(host, ours)


def _verify(args, kernels, after):
    for release in kernels:
        if _build(args["version"], release) not in after["builds"]:
            message = "%s/%s: dkms ended well, and nothing is installed for the kernel %s"
            raise Failure(message % (args["name"], args["version"], release))


# -------------------------------------------------------------------------------------------------------------- absent
def _ensure_absent(host, args):
    """Remove every version that is ours, or the one that is named."""
    name, ours = args["name"], _read_record(host.tree)
    before = read(host.tree, args)
    there = {one["version"] for one in before["builds"]}
    mine = {key.partition("/")[2] for key in ours if key.partition("/")[0] == name}
    gone = sorted({args["version"]} & (there | mine) if args["version"] else mine)
    if not gone:
        return Result(before, before, changed=False)
    if not host.announce(before):
        return Result(before, {"builds": [one for one in before["builds"] if one["version"] not in gone]}, changed=True)
    for version in gone:
        _remove(host, name, version, ours)
    return Result(before, read(host.tree, args), changed=True)


def _remove(host, name, version, ours):
    """Take what was built away and, where it is ours, the source too. Raises: Failure."""
    _forget_builds(host, name, version)
    if ours.pop(_key(name, version), None) is not None:
        source_archive.remove_folder(host, source_folder(name, version))
        _write_record(host, ours)


def _forget_builds(host, name, version):
    known = read(host.tree, {"name": name})
    if any(one["version"] == version for one in known["builds"]) and not _is_broken(known, version):
        host.run("dkms", "remove", "-m", name, "-v", version, "--all", timeout_s=TIMEOUT_S)


# -------------------------------------------------------------------------------------------------------------- record
def _key(name, version):
    return "%s/%s" % (name, version)


def _read_record(tree):
    try:
        text = tree.read_text(RECORD)
        return dict(json.loads(text)["sources"]) if text else {}
    except (Unreadable, ValueError, KeyError, TypeError) as exc:
        raise Failure("%s cannot be read: %s" % (RECORD, exc)) from exc


def _write_record(host, sources):
    if sources:
        host.write_file(RECORD, json.dumps({"version": 1, "sources": sources}, indent=2) + "\n", mode=0o600)
    else:
        host.remove_file(RECORD)
