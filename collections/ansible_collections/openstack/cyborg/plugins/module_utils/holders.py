# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Who uses a device now?

`facts` calls `read_holders`. Does I/O. In use is: a device node that a process has open, or the registers of a
function, a block device that is mounted, swapped to or part of another, a net device with an address or with another on
top of it, and one that was moved to another network namespace. Processes are looked through once.
"""

import errno
import os
import re

from ansible_collections.openstack.cyborg.plugins.module_utils.topology import PCI_DEVICES
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable, clean, is_unknown, unknown

#: Where nodes of a class lie below /dev. Source: systemd's and the kernel's devtmpfs names.
NODE_FOLDERS = {"drm": "dri/", "vfio": "vfio/", "vfio-dev": "vfio/devices/", "infiniband_verbs": "infiniband/"}
#: Where what gives access to a device lies; sysfs that is mounted in another namespace shows without its mount point.
DEVICE_FOLDERS = ("/dev/", "/sys/devices/", "/devices/")
NETWORK_CLASS = "02"
#: What a process needs that is not root's, such as the resident agent. Source: Linux, include/uapi/linux/capability.h.
CAP_SYS_PTRACE = 19
#: A process that ended meanwhile, or a descriptor that it closed. Source: proc(5), /proc/pid/fd.
ENDED = (errno.ENOENT, errno.ESRCH)


def holder(kind, name, pid=None, detail=""):
    """Return one holder as the facts say it."""
    return {"kind": kind, "name": clean(name, 128), "pid": pid, "detail": clean(detail, 256)}


def read_holders(topology, devices, surroundings):
    """Return ``{address: [holders] | {"unknown": reason}}`` for all *devices*; *surroundings* as in `protection`."""
    found = {address: [] for address in devices}
    # Address → why its holders are not known. Which nodes are whose goes by group and driver.
    needed = [(address, device[fact]) for address, device in devices.items() for fact in ("iommu_group", "driver")]
    blind = {address: fact for address, fact in needed if is_unknown(fact)}
    for look in (_held_blocks, _held_nets, _open_nodes):
        try:
            look(topology, devices, surroundings, found)
        except _Blind as exc:  # noqa: PERF203 -- three times
            for address in exc.addresses:
                blind.setdefault(address, unknown(exc.reason))
    return {address: blind.get(address, held) for address, held in found.items()}


class _Blind(Exception):  # noqa: N818 -- says what it is
    """The holders of some devices could not be read."""

    def __init__(self, addresses, reason):
        super().__init__(reason)
        self.addresses, self.reason = addresses, reason


# ------------------------------------------------------------------------------------------------------- block devices
def _held_blocks(topology, devices, surroundings, found):
    tree, mounts = topology.tree, surroundings.mounts
    carried = topology.on(topology.blocks)
    if isinstance(mounts, Unreadable):
        raise _Blind(list(carried), mounts.reason)
    try:
        swaps = {line.split()[0] for line in (tree.read_text("/proc/swaps") or "").splitlines()[1:]}
        for address, names in carried.items():
            for name in names if address in devices else ():
                _held_block(tree, name, mounts, swaps, found[address])
    except Unreadable as exc:
        raise _Blind(list(carried), exc.reason) from exc


def _held_block(tree, name, mounts, swaps, held):
    node = f"/dev/{name.replace('!', '/')}"
    for mount in mounts:
        if name in mount.blocks:
            held.append(holder("block", mount.point, detail=node))
    if node in swaps:
        held.append(holder("block", "swap", detail=node))
    held.extend(holder("block", above, detail=node) for above in tree.listdir(f"/sys/class/block/{name}/holders") or ())


# --------------------------------------------------------------------------------------------------------- net devices
def _held_nets(topology, devices, surroundings, found):
    addresses = surroundings.addresses
    carried = topology.on(topology.nets)
    if isinstance(addresses, Unreadable):
        raise _Blind(list(carried), addresses.reason)
    for address, device in devices.items():
        found[address].extend(_net_holders(topology, device, addresses, carried.get(address, ())))


def _net_holders(topology, device, addresses, names):
    try:
        held = []
        for name in names:
            held.extend(holder("net", name, detail=ip) for ip in addresses.get(name, ()))
            held.extend(holder("net", above, detail=name) for above in topology.upper_nets(name))
        nameless = not names and str(device["class_id"]).startswith(NETWORK_CLASS)
        if nameless and _moved_away(topology.tree, device["address"]):
            held.append(holder("namespace", "another network namespace", detail="its net device"))
    except Unreadable as exc:
        raise _Blind([device["address"]], exc.reason) from exc
    return held


def _moved_away(tree, address):
    # sysfs shows the net devices of this namespace alone; the folder that holds them stays.
    base = f"{PCI_DEVICES}/{address}"
    children = tree.listdir(base) or ()
    if "net" in children:
        return not tree.listdir(f"{base}/net")
    below = [name for name in children if name.startswith("virtio")]
    return any(tree.exists(f"{base}/{name}/net") and not tree.listdir(f"{base}/{name}/net") for name in below)


# -------------------------------------------------------------------------------------------------------- device nodes
def _open_nodes(topology, devices, surroundings, found):
    tree = topology.tree
    try:
        require_sight(tree)
        opened = _read_open(topology, _nodes(tree, topology, devices), mapped=surroundings.mapped)
    except Unreadable as exc:
        raise _Blind(devices, exc.reason) from exc
    for (pid, node), addresses in sorted(opened.items()):
        name = tree.fact(f"/proc/{pid}/comm")
        for address in found.keys() & addresses:
            found[address].append(holder("process", name if isinstance(name, str) else "?", pid, node))


def _nodes(tree, topology, devices):
    """Return ``{node: [addresses]}``, each node by its path and on a live system by its number too."""
    nodes = {}
    for number, path in topology.nodes().items():
        parts = path.split("/")
        if path.endswith(f"/virtual/vfio/{parts[-1]}"):
            group = parts[-1].replace("noiommu-", "")
            addresses = [address for address, device in devices.items() if _in_group(device, group)]
            addresses = addresses or _parents(topology, group)
        else:
            addresses = topology.carriers(path)
        if addresses:
            nodes[f"/dev/{NODE_FOLDERS.get(parts[-2], '')}{parts[-1]}"] = nodes[number] = addresses
    for name, path in topology.blocks.items():
        addresses = topology.carriers(path)
        if addresses:
            nodes[f"/dev/{name.replace('!', '/')}"] = addresses
    for address, device in devices.items():
        if device["driver"] == "nvidia":
            nodes.update(_nvidia_node(tree, address))
    return nodes


def _in_group(device, group):
    driver = device["driver"]
    return str(device["iommu_group"]) == group and isinstance(driver, str) and "vfio" in driver


def _parents(topology, group):
    """Return the functions that the mediated devices in the IOMMU *group* are made of. Raises: Unreadable."""
    members = topology.tree.read_links(f"/sys/kernel/iommu_groups/{group}/devices")
    return [address for path in members.values() for address in topology.carriers(path)]


def _nvidia_node(tree, address):
    # The driver makes its nodes without a device behind them; it says their numbers itself.
    information = tree.fact(f"/proc/driver/nvidia/gpus/{address}/information", str)
    minor = re.search(r"Device Minor:\s*(\d+)", information) if isinstance(information, str) else None
    return {f"/dev/nvidia{minor[1]}": [address]} if minor else {}


def _read_open(topology, nodes, *, mapped):
    files = list(open_files(topology.tree))
    if mapped:
        from ansible_collections.openstack.cyborg.plugins.module_utils.openers import mapped_files

        files += mapped_files(topology.tree)
    opened = {}
    for pid, handle, target in files:
        addresses = _held_by(topology, handle, target, nodes)
        if addresses:
            opened[pid, target] = addresses
    return opened


def require_sight(tree):
    """Raise Unreadable where other users' processes are not shown: they would be taken for none. Source: proc(5)."""
    if not tree.is_live or os.geteuid() == 0:
        return
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", tree.read_text("/proc/self/status") or "", re.MULTILINE)
    if not found or not int(found[1], 16) >> CAP_SYS_PTRACE & 1:
        raise Unreadable("/proc/*/fd: who has device nodes open is for root to see, or with CAP_SYS_PTRACE")


def open_files(tree):
    """Yield (pid, path of the descriptor, path) for what all processes have open in `DEVICE_FOLDERS`.

    Raises: Unreadable, when the kernel lets us see no descriptors of a process: of root too without CAP_SYS_PTRACE.
    """
    for pid in tree.listdir("/proc") or ():
        if not pid.isdigit():
            continue
        folder = f"/proc/{pid}/fd"
        try:
            place = tree.path(folder)
            for handle in os.listdir(place):
                target = _target(f"{place}/{handle}")
                if target.startswith(DEVICE_FOLDERS):
                    yield int(pid), f"{place}/{handle}", target
        except OSError as exc:
            if exc.errno not in ENDED:
                raise Unreadable(f"{folder}: who has device nodes open is not shown: {exc.strerror}") from exc


def _target(handle):
    try:
        return os.readlink(handle)
    except OSError as exc:
        if exc.errno in ENDED:
            return ""  # closed meanwhile
        raise


def _held_by(topology, handle, target, nodes):
    """Return the addresses of the functions that who has *target* open holds; without a *handle* it is mapped."""
    if not target.startswith("/dev/"):
        return _with_registers(topology, target)
    if target in nodes or not handle:
        return nodes.get(target, [])
    try:
        # A container may call the node differently; its number is the same everywhere.
        number = os.stat(handle).st_rdev if topology.tree.is_live else 0
    except OSError as exc:
        if exc.errno in ENDED:
            return []  # closed meanwhile
        raise Unreadable(f"{handle}: {exc.strerror}") from exc
    return nodes.get(f"{os.major(number)}:{os.minor(number)}", [])


def _with_registers(topology, target):
    """Return the function whose ``config`` or BAR (``resource0``, ``resource0_wc``) the file *target* of sysfs is."""
    folder, _slash, name = target.rpartition("/")
    address = folder.rpartition("/")[2]
    path = topology.functions.get(address, "")
    at = folder.find("/devices/")
    is_own = at >= 0 and path.endswith(folder[at:])
    return [address] if is_own and (name == "config" or (name[:8] == "resource" and name[8:9].isdigit())) else []
