# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which kernel modules lie between a PCI driver and a net device, a block device or a mount?

Called by `protection` for what it walks over, and by `kmod`. Their modules have no PCI device, and mostly nothing that
counts them as used: nobody else would refuse to unload or to blacklist them. Does I/O.
"""

from ansible_collections.openstack.cyborg.plugins.module_utils.modprobe import canonical
from ansible_collections.openstack.cyborg.plugins.module_utils.topology import functions_in

#: Kinds of net devices whose module is not called like them. Source: Linux, ``SET_NETDEV_DEVTYPE`` of each driver.
NET_KINDS = {"bond": "bonding", "vlan": "8021q"}
#: What makes virtual net devices that do not say their kind.
NET_UNSAID = ("openvswitch", "team", "tun", "veth", "vrf")
#: How names of block devices begin, and what makes them. Source: Linux, Documentation/admin-guide/devices.txt.
BLOCK_NAMES = {
    "bcache": ("bcache",),
    "dm-": ("dm_mod",),
    "drbd": ("drbd",),
    "loop": ("loop",),
    "md": ("md_mod", "linear", "raid0", "raid1", "raid10", "raid456"),
    "mmcblk": ("mmc_block",),
    "nbd": ("nbd",),
    "rbd": ("rbd",),
    "sd": ("sd_mod",),
}
#: File systems whose module is not called like them. Source: Linux, ``MODULE_ALIAS_FS`` of each.
FILESYSTEMS = {"ext2": "ext4", "ext3": "ext4", "fuseblk": "fuse", "iso9660": "isofs", "nfs4": "nfs"}
#: Modules that may carry a host of which it cannot be read what carries it.
NET_MODULES = {*NET_KINDS.values(), *NET_UNSAID, "bridge"}
BLOCK_MODULES = {name for names in BLOCK_NAMES.values() for name in names}


def modules_of_net(tree, name, path):
    """Return the modules behind the net device *name*, at *path* in sysfs. Raises: Unreadable."""
    if "/devices/virtual/" not in path:
        return set(drivers_above(tree, path))
    lines = (tree.read_text(f"/sys/class/net/{name}/uevent") or "").splitlines()
    kind = next((line[len("DEVTYPE=") :] for line in lines if line.startswith("DEVTYPE=")), None)
    return set(NET_UNSAID) if kind is None else {canonical(NET_KINDS.get(kind, kind))}


def modules_of_block(tree, name, path):
    """Return the modules behind the block device *name*, at *path* in sysfs. Raises: Unreadable."""
    makers = next((modules for start, modules in BLOCK_NAMES.items() if name.startswith(start)), ())
    return {*makers, *drivers_above(tree, path)}


def module_of_filesystem(fstype):
    """Return the module of a file system."""
    return canonical(FILESYSTEMS.get(fstype, fstype.partition(".")[0]))


def protections_of(carrying, module):
    """Return the protections of *module* in *carrying*; which targets a dm device uses its own module alone knows."""
    return carrying.get("dm_mod" if module.startswith("dm_") else module, [])


def drivers_above(tree, path):
    """Yield the modules that drive the device at *path* and those above it, up to the function. Raises: Unreadable."""
    path = "/sys/devices/" + path.split(" ")[0].partition("/devices/")[2]
    while path.startswith("/sys/devices/") and not functions_in(path.rpartition("/")[2]):
        module = tree.link_name(path + "/driver/module")
        if module:
            yield canonical(module)
        path = path.rpartition("/")[0]
