# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which functions must never be touched, because the system, its network or this very connection hangs on them?

`facts` calls `read_protections`. Does I/O. From the root disk, the default route and the connection it goes down
through partitions, dm, md, LVM, loops, bonds, bridges and VLANs to the functions; from those to their PF, their IOMMU
group and the bridges above. The modules that it comes through are protected with them. What cannot be followed counts
as protected.
"""

import os

from ansible_collections.openstack.cyborg.plugins.module_utils import carriers
from ansible_collections.openstack.cyborg.plugins.module_utils.mounts import CARRIED_BY_NOTHING, mount_of
from ansible_collections.openstack.cyborg.plugins.module_utils.network import (
    pack_address,
    read_ssh_connection,
    ways_to,
)
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable, clean

ROOT_DISK, DEFAULT_ROUTE, CONNECTION, UNKNOWN = "root_disk", "default_route", "connection", "unknown"
#: Without these the system does not run on, or does not start again.
SYSTEM_MOUNTS = ("/", "/usr", "/var", "/boot", "/boot/efi", "/efi")
STORAGE_CLASS, NETWORK_CLASS = "01", "02"
#: How the reason begins when it is the connection that cannot be followed; it differs between callers, not hosts.
THIS_CONNECTION = "this connection: "


class Surroundings:
    """What was read of the host besides its functions, and how it was reached.

    Attributes:
        mounts, routes, addresses: of `mounts.read_mounts`, `network.read_routes` and `network.read_addresses`; the
            exception `Unreadable` where that could not be read.
        connection: ``ssh`` (one must be found), ``local`` (there is none) or None (to be found out).
        peer: the address at the other end, where the caller knows better.
        mapped: whether what processes have mapped counts as held; looking for it is dear.
    """

    def __init__(self, mounts, routes, addresses):
        self.mounts, self.routes, self.addresses = mounts, routes, addresses
        self.connection = self.peer = None
        self.mapped = False


def read_protections(topology, devices, surroundings):
    """Return ``{address: [{"reason": …, "via": …}]}`` of the protected among *devices*, and ``{module: the same}``."""
    marks = _Marks(topology, devices)
    _protect_system(marks, surroundings.mounts)
    _protect_default_route(marks, surroundings.routes)
    if surroundings.connection != "local" or surroundings.peer:
        _protect_connection(marks, surroundings)
    return marks.found, marks.modules


class _Marks:
    """Collects the protections of each function, and of modules that drive none."""

    def __init__(self, topology, devices):
        self.topology, self.devices, self.found, self.modules = topology, devices, {}, {}

    def mark_modules(self, names, reason, via):
        """Protect the modules *names*."""
        protection = {"reason": reason, "via": clean(via, 256)}
        for name in names:
            known = self.modules.setdefault(name, [])
            if protection not in known:
                known.append(protection)

    def mark(self, address, reason, via):
        """Protect the function at *address*, and what it cannot be touched without."""
        if not self._add(address, reason, via):
            return
        device = self.devices[address]
        lead = THIS_CONNECTION if via.startswith(THIS_CONNECTION) else ""
        if isinstance(device["physfn"], str) and device["physfn"] in self.devices:
            self.mark(device["physfn"], reason, f"{lead}{device['physfn']} is the PF of {address}")
        for member in device["iommu_members"]:
            if member != address:
                self._add(member, reason, f"{lead}{member} is in the IOMMU group of {address}")
        for bridge in self.topology.upstream_of(address):
            self._add(bridge, reason, f"{lead}{bridge} is upstream of {address}")

    def mark_all(self, classes, reason):
        """Protect every function and module that could be the one, since it is not known which."""
        self.mark_modules(carriers.NET_MODULES if NETWORK_CLASS in classes else (), UNKNOWN, reason)
        self.mark_modules(carriers.BLOCK_MODULES if STORAGE_CLASS in classes else (), UNKNOWN, reason)
        for address, device in self.devices.items():
            named = (STORAGE_CLASS in classes and device["block_names"]) or (
                NETWORK_CLASS in classes and device["net_names"]
            )
            if named or str(device["class_id"]).startswith(classes):
                self.mark(address, UNKNOWN, reason)

    def _add(self, address, reason, via):
        protection = {"reason": reason, "via": clean(via, 256)}
        known = self.found.setdefault(address, []) if address in self.devices else [protection]
        if protection in known:
            return False
        known.append(protection)
        return True


# ----------------------------------------------------------------------------------------------------------- root disk
def _protect_system(marks, mounts):
    try:
        if isinstance(mounts, Unreadable):
            raise mounts
        for point in SYSTEM_MOUNTS:
            # A later mount at the same point hides an earlier one.
            mount = next((mount for mount in reversed(mounts) if mount.point == point), None)
            if mount and mount.fstype not in CARRIED_BY_NOTHING:
                _protect_mount(marks, mounts, mount)
    except Unreadable as exc:
        marks.mark_all((STORAGE_CLASS, NETWORK_CLASS), exc.reason)


def _protect_mount(marks, mounts, mount):
    marks.mark_modules([carriers.module_of_filesystem(mount.fstype)], ROOT_DISK, f"{mount.point} is {mount.fstype}")
    if not mount.blocks:
        raise Unreadable(f"{mount.point} is {mount.fstype} of {mount.source}: what it lies on is not known")
    for name in mount.blocks:
        via, seen = f"{name} carries {mount.point}", {}
        try:
            for address in _functions_of_block(marks.topology, mounts, name, seen):
                marks.mark(address, ROOT_DISK, via)
        finally:
            for block, path in seen.items():
                marks.mark_modules(carriers.modules_of_block(marks.topology.tree, block, path), ROOT_DISK, via)


def _functions_of_block(topology, mounts, name, seen):
    """Return the addresses below the block device *name*; *seen* becomes ``{block device: path}`` of those passed."""
    path = topology.blocks.get(name, "")
    found = topology.carriers(path)
    if name in seen:
        return found
    seen[name] = path
    if found:
        return found
    below = _blocks_below(topology, mounts, name, path)
    if not below and ("/virtual/" in path or "/session" in path or not path):
        if name.startswith(("ram", "zram")):
            return []
        raise Unreadable(f"{name}: what it lies on is not known")
    return [address for lower in below for address in _functions_of_block(topology, mounts, lower, seen)]


def _blocks_below(topology, mounts, name, path):
    tree, disk = topology.tree, os.path.basename(os.path.dirname(path))
    for whole in (name, disk):  # a partition of md or dm has no slaves of its own: its disk has
        below = tree.listdir(f"/sys/class/block/{whole}/slaves") if whole in topology.blocks else None
        if below:
            return below
        backing_file = (
            tree.read_text(f"/sys/class/block/{whole}/loop/backing_file") if whole in topology.blocks else None
        )
        if backing_file:
            mount = mount_of(mounts, backing_file)
            return mount.blocks if mount else []
    return []


# ------------------------------------------------------------------------------------------------------------- network
def _protect_default_route(marks, routes):
    try:
        if isinstance(routes, Unreadable):
            raise routes
        for name in sorted({route.name for route in routes if route.prefix == 0}):
            _protect_net(marks, name, DEFAULT_ROUTE, name)
    except Unreadable as exc:
        marks.mark_all((NETWORK_CLASS,), exc.reason)


def _protect_net(marks, name, reason, via):
    seen = {}
    try:
        for address in _functions_of_net(marks.topology, name, seen):
            marks.mark(address, reason, via)
    finally:
        for net, path in seen.items():
            marks.mark_modules(carriers.modules_of_net(marks.topology.tree, net, path), reason, via)


def _functions_of_net(topology, name, seen):
    """Return the addresses below the net device *name*; *seen* becomes ``{net device: path}`` of those passed."""
    if name in seen or name == "lo":
        return []
    path = topology.nets.get(name)
    if path is None:
        raise Unreadable(f"{name}: there is no such net device")
    seen[name] = path
    below = topology.lower_nets(name)
    found = topology.carriers(path) + [
        address for lower in below for address in _functions_of_net(topology, lower, seen)
    ]
    if found or below or "/devices/virtual/" not in path:
        return found
    for port in _ports_of_switch(topology, name):
        found += _functions_of_net(topology, port, seen)
    if not found:
        raise Unreadable(f"{name}: what it runs over is not known")
    return found


def _ports_of_switch(topology, name):
    """Return the ports of Open vSwitch when *name* may be one of its bridges.

    The kernel knows one datapath, of which every port is: which bridge a port belongs to only ovsdb knows.
    """
    tree = topology.tree
    kind = tree.read_text(f"/sys/class/net/{name}/uevent") or ""
    if "DEVTYPE=" in kind or tree.exists(f"/sys/class/net/{name}/tun_flags"):
        return []  # a bridge without ports, a tunnel: not of Open vSwitch
    return [port for port in topology.nets if tree.link_name(f"/sys/class/net/{port}/master") == "ovs-system"]


def _protect_connection(marks, surroundings):
    try:
        for name in sorted(_names_of_connection(marks.topology.tree, surroundings)):
            _protect_net(marks, name, CONNECTION, name)
    except Unreadable as exc:
        marks.mark_all((NETWORK_CLASS,), THIS_CONNECTION + exc.reason)


def _names_of_connection(tree, surroundings):
    peer = surroundings.peer
    ends = (peer, None) if peer else read_ssh_connection(tree) if tree.is_live else None
    if ends is None:
        if surroundings.connection == "ssh":
            raise Unreadable("it comes over SSH, but no process above this one has SSH_CONNECTION")
        return set()
    for read in (surroundings.routes, surroundings.addresses):
        if isinstance(read, Unreadable):
            raise read
    try:
        packed, scope = pack_address(ends[0])
        own = pack_address(ends[1])[0] if ends[1] else None
    except ValueError as exc:
        raise Unreadable(str(exc)) from exc
    if packed[0] == 127 or packed == b"\0" * 15 + b"\1":  # noqa: PLR2004 -- loopback, RFC 1122 and RFC 4291
        return set()
    names = {name for name, found in surroundings.addresses.items() if own and own in map(_packed, found)}
    names.update(name for name in (scope, *ways_to(surroundings.routes, packed)) if name)
    if not names:
        raise Unreadable(f"no route leads to {ends[0]}")
    return names


def _packed(address):
    return pack_address(address)[0]
