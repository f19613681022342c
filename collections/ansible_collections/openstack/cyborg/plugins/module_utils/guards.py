# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Must a device or a module be left alone, because the system or the network hangs on it, or somebody uses it?

Asked by every state module right before it writes; it reads what the facts modules read. What cannot be read counts as
protected and as held; what a process has mapped is looked at here alone. Does I/O.
"""

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather_protected
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Refusal
from ansible_collections.openstack.cyborg.plugins.module_utils.kernel import read_release
from ansible_collections.openstack.cyborg.plugins.module_utils.kmod import read_drivers
from ansible_collections.openstack.cyborg.plugins.module_utils.modprobe import canonical
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable, is_unknown

NOT_KNOWN = "%s: whether it is protected is not known: %s"


def read_guarded(host):
    """Return the facts of every function by address, holders and protections among them. Raises: Failure."""
    return {one["address"]: one for one in _gather(host)[0]}


def _gather(host):
    connection, peer = host.link
    try:
        return gather_protected(host.tree, connection=connection, peer=peer, mapped=True)
    except Unreadable as exc:
        raise Failure("what is protected or in use cannot be read: %s" % exc.reason) from exc


def refuse(host, *, protected, held, named=None):
    """Refuse when one of *protected* is, or one of *held* is in use; *named* says what to call an address.

    Raises: Refusal.
    """
    devices = read_guarded(host)
    for address in protected:
        _refuse_protected(address, devices.get(address))
    for address in held:
        _refuse_held((named or {}).get(address, address), devices.get(address))


def _refuse_protected(address, device):
    protections = {"unknown": "it is not among the host's devices"} if device is None else device["protected"]
    if is_unknown(protections):
        raise Refusal("ProtectedDevice", NOT_KNOWN % (address, protections["unknown"]))
    for protection in protections:
        if protection["reason"] == "unknown":
            raise Refusal("ProtectedDevice", NOT_KNOWN % (address, protection["via"]))
        carried = protection["reason"].replace("_", " ")
        raise Refusal("ProtectedDevice", "%s: it carries the %s (%s)" % (address, carried, protection["via"]))


def _refuse_held(name, device):
    holders = {"unknown": "it is not among the host's devices"} if device is None else device["holders"]
    if is_unknown(holders):
        raise Refusal("DeviceInUse", "%s: who holds it is not known: %s" % (name, holders["unknown"]))
    if holders:
        raise Refusal("DeviceInUse", "%s is held by %s" % (name, describe(holders)), holders)


def describe(holders):
    """Return who holds something, in words: ``qemu-system-x86 (pid 4711) on /dev/vfio/12``."""
    words = []
    for one in holders:
        who = "%s %s" % (one["kind"], one["name"]) if one["pid"] is None else "%s (pid %d)" % (one["name"], one["pid"])
        words.append("%s on %s" % (who, one["detail"]) if one["detail"] else who)
    return ", ".join(words)


# ------------------------------------------------------------------------------------------------------------- modules
def read_module(host, name):
    """Return the facts of the module *name*, those of the devices that it drives among them. Raises: Failure."""
    devices, carrying = _gather(host)
    try:
        found = read_drivers(host.tree, read_release(host.tree), devices, [name], carrying)["modules"]
    except Unreadable as exc:
        raise Failure("%s: who uses it cannot be read: %s" % (name, exc.reason)) from exc
    return next(one for one in found if one["name"] == canonical(name))
