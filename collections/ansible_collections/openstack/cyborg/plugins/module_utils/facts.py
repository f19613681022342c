# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What is true of this host?

The fact modules and the resident agent call this; the controller decodes the same shape (its ``documents/facts.py``).
Does I/O. In every fact None is "is not there" and ``{"unknown": reason}`` is "could not be read".
"""

from ansible_collections.openstack.cyborg.plugins.module_utils.fingerprint import fingerprint
from ansible_collections.openstack.cyborg.plugins.module_utils.holders import read_holders
from ansible_collections.openstack.cyborg.plugins.module_utils.kernel import read_kernel, read_own, read_release
from ansible_collections.openstack.cyborg.plugins.module_utils.kmod import or_why, read_aliases, read_drivers
from ansible_collections.openstack.cyborg.plugins.module_utils.mounts import read_mounts
from ansible_collections.openstack.cyborg.plugins.module_utils.network import read_addresses, read_routes
from ansible_collections.openstack.cyborg.plugins.module_utils.pci import read_devices
from ansible_collections.openstack.cyborg.plugins.module_utils.protection import Surroundings, read_protections
from ansible_collections.openstack.cyborg.plugins.module_utils.topology import Topology
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable, spelled

FACTS_VERSION = 1
#: Where the state modules leave their records. Both readers are imported where there is something to read: a module is
#: compiled anew on each run, and most of what this one costs is that.
BOOT_RECORDS = "/etc/cyborg-reconciler/devices"
OWNERSHIP_RECORD = "/var/lib/cyborg-reconciler/ownership.json"
NOTHING_AT_BOOT = {"boot_num_vfs": None, "boot_vf_drivers": [], "boot_driver": None}


def gather(tree, *, modules=(), connection=None, peer=None, packages=False):
    """Return the whole facts document. Raises: Unreadable, where not even the list of functions can be read.

    Shape: *packages* says whether to ask which package installed each module. Fields of devices and of modules that
    hold nothing are left out, since most hold nothing and Ansible spends longer on handing a field over than it took
    to read it.
    """
    devices, carrying = gather_protected(tree, connection=connection, peer=peer)
    drivers = _read_drivers(tree, devices, carrying, modules, packages=packages)
    drivers["modules"] = _without_empty(drivers["modules"])
    document = {
        "facts_version": FACTS_VERSION,
        "hostname": read_own(tree, "hostname", "nodename"),
        "machine_id": tree.fact("/etc/machine-id"),
        "system_uuid": tree.fact("/sys/class/dmi/id/product_uuid"),
        "devices": _without_empty(devices),
        "drivers": drivers,
        "kernel": gather_kernel(tree),
        **_ownership(tree),
    }
    document = spelled(document)
    document["fingerprint"] = fingerprint(document)
    return document


def _without_empty(items):
    return [{key: value for key, value in item.items() if value not in (None, [], {})} for item in items]


def gather_devices(tree, *, connection=None, peer=None):
    """Return the facts of every PCI function, by address: the first half of `gather_protected`. Raises: Unreadable."""
    return spelled(gather_protected(tree, connection=connection, peer=peer)[0])


def gather_protected(tree, *, connection=None, peer=None, mapped=False):
    """Return the facts of every PCI function, by address, and ``{module: [its protections]}``. Raises: Unreadable.

    Shape: *connection* is ``ssh``, ``local`` or None (to be found out); *peer* the address at its other end. With
    *mapped*, what processes have mapped of a device is held as well, and not only what they have open.
    """
    topology = Topology(tree)
    devices = read_devices(tree, topology)
    surroundings = Surroundings(
        or_why(read_mounts, tree, topology), or_why(read_routes, tree), or_why(read_addresses, tree)
    )
    surroundings.connection, surroundings.peer, surroundings.mapped = connection, peer, mapped
    holders = read_holders(topology, devices, surroundings)
    protections, carrying = read_protections(topology, devices, surroundings)
    boot = _read_boot_facts(tree, devices)
    aliases = _read_aliases(tree, devices)
    for address, device in devices.items():
        device.update(boot.get(address, NOTHING_AT_BOOT))
        device["holders"] = holders[address]
        device["protected"] += protections.get(address, [])
        device["modules"] = aliases(device["modalias"], device.pop("function_modalias"))
    return list(devices.values()), carrying


def gather_drivers(tree, *, modules=(), packages=False):
    """Return the Drivers section of the facts. Raises: Unreadable."""
    devices, carrying = gather_protected(tree)
    return spelled(_read_drivers(tree, devices, carrying, modules, packages=packages))


def _read_drivers(tree, devices, carrying, modules, *, packages):
    release = read_release(tree)
    drivers = read_drivers(tree, release, devices, modules, carrying)
    if packages:
        from ansible_collections.openstack.cyborg.plugins.module_utils.packages import add_packages

        add_packages(tree, release, drivers)
    return drivers


def gather_kernel(tree):
    """Return the KernelFacts section of the facts."""
    return read_kernel(tree)


def _read_aliases(tree, devices):
    said = (device[fact] for device in devices.values() for fact in ("modalias", "function_modalias"))
    wanted = set(filter(_text, said))
    known = read_aliases(tree, read_release(tree), wanted)

    def modules_of(*modaliases):
        found = []
        for modalias in modaliases:
            modules = known[modalias] if _text(modalias) else modalias or []
            if isinstance(modules, dict):
                return modules
            found += [name for name in modules if name not in found]
        return found

    return modules_of


def _text(modalias):
    return isinstance(modalias, str)


def _read_boot_facts(tree, devices):
    if tree.is_absent(BOOT_RECORDS):
        return {}
    from ansible_collections.openstack.cyborg.plugins.module_utils.persistence import read_boot_facts

    return read_boot_facts(tree, devices)


def _ownership(tree):
    if tree.is_absent(OWNERSHIP_RECORD):
        return {"ownership": None, "ownership_unknown": None}
    from ansible_collections.openstack.cyborg.plugins.module_utils.ownership import read_ownership

    try:
        return {"ownership": read_ownership(tree), "ownership_unknown": None}
    except Unreadable as exc:
        return {"ownership": None, "ownership_unknown": exc.reason}
