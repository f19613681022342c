# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How is a module of the kernel loaded and unloaded, and what speaks against it?

Called by `devices`, `virtio` and `kernel_modules`. Does I/O through `Host`.
"""

import contextlib
import re

from ansible_collections.openstack.cyborg.plugins.module_utils import guards
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Refusal
from ansible_collections.openstack.cyborg.plugins.module_utils.kernel import read_kernel, read_release
from ansible_collections.openstack.cyborg.plugins.module_utils.kmod import (
    read_aliases,
    read_builtin,
    read_loaded,
    read_paths,
)
from ansible_collections.openstack.cyborg.plugins.module_utils.modinfo import read_modinfo
from ansible_collections.openstack.cyborg.plugins.module_utils.modprobe import canonical, read_blacklist_arguments
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import is_unknown

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\Z")
#: What the kernel says of a signature that it does not accept. Source: kernel/module/signing.c; EKEYREJECTED, ENOKEY.
NOT_SIGNED = ("Key was rejected by service", "Required key not available", "Loading of unsigned")
#: It says this too (EPERM), but also of a module that the command line keeps out, and to who lacks CAP_SYS_MODULE.
NOT_PERMITTED = "Operation not permitted"
SIGN_IT = (
    "sign it with a key that the firmware trusts (for DKMS: mokutil --import its mok.pub, and confirm at boot), "
    "or turn Secure Boot off"
)


def checked_name(name):
    """Return the name of a module as the kernel says it. Raises: ValueError."""
    if not NAME.match(name):
        raise ValueError("%r is no name of a kernel module" % name)
    return canonical(name)


def is_loaded(tree, name):
    """Say whether the module is loaded. Raises: Unreadable."""
    return canonical(name) in read_loaded(tree)


def read_on_disk(tree, name):
    """Return ``builtin``, the path of the module's file for the running kernel, or None. Raises: Unreadable."""
    release = read_release(tree)
    if canonical(name) in read_builtin(tree, release):
        return "builtin"
    return read_paths(tree, release).get(canonical(name))


def is_on_disk(tree, name):
    """Say whether the running kernel has the module, as a file or built in. Raises: Unreadable."""
    return read_on_disk(tree, name) is not None


def native_driver(tree, device):
    """Return the driver that the kernel would choose for *device* without an override, None where it has none."""
    if not isinstance(device["modalias"], str):
        return None
    found = read_aliases(tree, read_release(tree), [device["modalias"]])[device["modalias"]]
    for module in [] if is_unknown(found) else found:
        return (*pci_drivers(tree, module), module)[0]
    return None


def pci_drivers(tree, module):
    """Return the names of the PCI drivers that *module* has registered; none where it is not there. Raises: Unreadable.

    Source: Linux, Documentation/ABI/stable/sysfs-module.
    """
    names = tree.listdir("/sys/module/%s/drivers" % canonical(module)) or ()
    return sorted(name[len("pci:") :] for name in names if name.startswith("pci:"))


# ------------------------------------------------------------------------------------------------------------- loading
def load(host, name):
    """Load the module *name*, unless it is there. Raises: Refusal (SecureBootUnsigned), Failure."""
    if is_loaded(host.tree, name) or read_on_disk(host.tree, name) == "builtin":
        return
    refuse_kept_out(host.tree, name)
    refuse_unsigned(host.tree, name)
    try:
        host.run("modprobe", name, timeout_s=300)
    except Failure as exc:
        said = any(words in exc.message for words in NOT_SIGNED)
        if said or (NOT_PERMITTED in exc.message and _why_signed(host.tree)):
            raise Refusal("SecureBootUnsigned", "%s; %s" % (exc.message, SIGN_IT)) from exc
        raise


def load_alias(host, modalias):
    """Load what the kernel would load for a device of this *modalias*; that there is nothing is fine."""
    with contextlib.suppress(Failure):
        host.run("modprobe", modalias, timeout_s=300)


def refuse_kept_out(tree, name):
    """Fail where the command line lets nobody load the module *name*. Raises: Failure, Unreadable."""
    word = read_blacklist_arguments(tree).get(canonical(name), "")
    if word.startswith("module_blacklist="):
        raise Failure("%s: %s on the kernel's command line keeps it out until a boot without it" % (name, word))


def refuse_unsigned(tree, name):
    """Refuse a module without a signature where the kernel asks for one. Raises: Refusal."""
    why = _why_signed(tree)
    if not why:
        return
    path = read_on_disk(tree, name)
    if path in (None, "builtin"):
        return
    info = read_modinfo(tree, {canonical(name): path})[canonical(name)]
    if info["signer"] is None:  # what cannot be read the kernel will say itself
        raise Refusal("SecureBootUnsigned", "%s is not signed, and %s: %s" % (canonical(name), why, SIGN_IT))


def _why_signed(tree):
    """Return why the kernel loads signed modules only, None where it loads any."""
    kernel = read_kernel(tree)
    if kernel["secure_boot"] is True:
        return "Secure Boot is on"
    if kernel["lockdown"] in ("integrity", "confidentiality"):
        return "the kernel is locked down (%s)" % kernel["lockdown"]
    return "module.sig_enforce is set" if tree.fact("/sys/module/module/parameters/sig_enforce") == "Y" else None


# ----------------------------------------------------------------------------------------------------------- unloading
def unload(host, name):
    """Unload the module *name*, unless it is gone; `refuse_unload` has been asked before. Raises: Failure.

    What it needed stays: ``modprobe -r`` would take that along, and nobody has judged it.
    """
    if not is_loaded(host.tree, name):
        return
    host.run("rmmod", name, timeout_s=300)
    if is_loaded(host.tree, name):
        raise Failure("%s: rmmod ended well, and the module is still loaded" % name)


def refuse_unload(host, name):
    """Refuse to unload what is built in, in use, or carries what is protected. Raises: Refusal."""
    module = guards.read_module(host, name)
    if module["builtin"] is True:
        raise Refusal("Unsupported", "%s is built into the kernel: it can be neither unloaded nor blacklisted" % name)
    if not module["loaded"]:
        return
    refuse_protected(module)
    held = module["holders"]
    if is_unknown(held):
        raise Refusal("ModuleInUse", "%s: who holds it could not be read: %s" % (name, held["unknown"]))
    if held:
        raise Refusal("ModuleInUse", "%s is held by %s" % (name, guards.describe(held)), held)
    if module["refcount"]:
        message = "%s has a reference count of %d, from inside the kernel: it can go with a reboot only"
        raise Refusal("ModuleInUse", message % (name, module["refcount"]))


def refuse_protected(module):
    """Refuse to take a module away that drives a protected device, or lies above one. Raises: Refusal."""
    for protection in module["protected"]:
        if protection["reason"] == "unknown":
            raise Refusal("ProtectedDevice", guards.NOT_KNOWN % (module["name"], protection["via"]))
        carried = protection["reason"].replace("_", " ")
        raise Refusal(
            "ProtectedDevice", "%s drives what carries the %s (%s)" % (module["name"], carried, protection["via"])
        )
