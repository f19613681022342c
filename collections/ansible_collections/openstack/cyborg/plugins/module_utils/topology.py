# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which PCI function does a net device, a disk or a device node sit on, and what lies above and below it?

The readers of devices, holders and protections share one `Topology` of a host, read once. Does I/O.
"""

from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable

PCI_DEVICES = "/sys/bus/pci/devices"


def functions_in(path):
    """Return the addresses in a path of sysfs: the upstream bridges in order, and last the function itself.

    A domain has four digits or more (VMD, 32-bit domains), the rest is ``:3b:00.0``.
    """
    return [part for part in path.split("/") if part[-2:-1] == "." and part[-5:-4] == ":" == part[-8:-7]]


class Topology:
    """The paths of a host's functions, net devices, block devices and device nodes.

    Attributes:
        functions, nets, blocks: ``{name: path in sysfs}``.
        block_numbers: ``{"259:1": "nvme0n1p1"}``.
    """

    def __init__(self, tree):
        self.tree = tree
        if not tree.exists("/sys/bus"):  # a folder that nothing is mounted on, not a host without devices
            raise Unreadable(f"{tree.root.rstrip('/')}/sys/bus: no such folder: this is no tree of a host")
        self.functions = tree.read_links(PCI_DEVICES)
        self.nets = tree.read_links("/sys/class/net")
        self.blocks = tree.read_links("/sys/class/block")
        self._join_nvme_paths()
        numbers = ((tree.read_text(f"/sys/class/block/{name}/dev"), name) for name in self.blocks)
        self.block_numbers = {number: name for number, name in numbers if number}

    def carriers(self, path):
        """Return the addresses of the functions that *path* hangs on: none, one, or those of a multipath device."""
        last = (addresses[-1] for addresses in map(functions_in, path.split(" ")) if addresses)
        return [address for address in last if address in self.functions]

    def upstream_of(self, address):
        """Return the bridges (and VMD controllers) between the root and the function, the topmost first."""
        return [bridge for bridge in functions_in(self.functions[address]) if bridge != address]

    def on(self, paths):
        """Return ``{address: [names]}`` of those of *paths* (``nets``, ``blocks``) that hang on a function."""
        found = {}
        for name, path in paths.items():
            for address in self.carriers(path):
                found.setdefault(address, []).append(name)
        return found

    def lower_nets(self, name):
        """Return the net devices that *name* (a bond, a bridge, a VLAN) lies on. Raises: Unreadable."""
        return [entry[6:] for entry in self.tree.listdir(f"/sys/class/net/{name}") or () if entry.startswith("lower_")]

    def upper_nets(self, name):
        """Return the net devices that lie on *name*, its master among them. Raises: Unreadable."""
        return [entry[6:] for entry in self.tree.listdir(f"/sys/class/net/{name}") or () if entry.startswith("upper_")]

    def nodes(self):
        """Return ``{"226:0": path in sysfs}`` of all character devices. Raises: Unreadable."""
        return self.tree.read_links("/sys/dev/char")

    def _join_nvme_paths(self):
        # With native multipath a namespace hangs on a virtual subsystem, which links to its controllers, and each
        # controller has a hidden disk of its own. Source: Linux, drivers/nvme/host/multipath.c.
        for name, path in list(self.blocks.items()):
            if name.startswith("nvme") and "c" in name:
                del self.blocks[name]
            elif "/nvme-subsystem/" in path:
                subsystem = path.split("/nvme-subsystem/")[1].split("/")[0]
                links = self.tree.read_links(f"/sys/class/nvme-subsystem/{subsystem}")
                controllers = [target for entry, target in links.items() if entry[4:].isdigit()]
                self.blocks[name] = " ".join([path, *controllers])
