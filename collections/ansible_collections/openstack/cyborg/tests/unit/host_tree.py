# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What does a host's tree of files look like? Tests write it in a temporary folder, a few files for each story."""

import os
import socket

from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree

RELEASE = "6.1.0-28-amd64"
#: Interface, destination, gateway, flags, refcount, use, metric, mask, MTU, window, IRTT.
ROUTES_HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
NIC = {"vendor": "8086", "product": "1521", "class_id": "020000"}
NVME = {"vendor": "144d", "product": "a80a", "class_id": "010802"}
GPU = {"vendor": "10de", "product": "20b0", "class_id": "030200"}
BRIDGE = {"vendor": "8086", "product": "347a", "class_id": "060400"}


def simulate(root):
    """Let the tree at *root* pass for a simulated host: with a kernel's socket, at which nobody listens."""
    os.makedirs(f"{root}/run", exist_ok=True)
    folder = os.open(f"{root}/run", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as kernel:
        kernel.bind(f"/proc/self/fd/{folder}/kernel.sock")
    os.close(folder)


class HostTree:
    """A host's files below *root*; `tree` reads them."""

    def __init__(self, root):
        self.root = str(root)
        self.routes, self.mounts = [], []
        self.file("/proc/sys/kernel/osrelease", RELEASE + "\n")
        self.file("/proc/sys/kernel/hostname", "compute-1\n")
        self.file("/proc/net/route", ROUTES_HEAD)
        self.file("/proc/self/mountinfo", "1 0 0:2 / / rw - rootfs none rw\n")
        self.file("/proc/cmdline", "quiet\n")
        self.file("/proc/modules")
        for name in ("dep", "alias", "builtin"):
            self.file(f"/lib/modules/{RELEASE}/modules.{name}")
        for folder in ("/boot", "/sys/bus/pci/devices", "/sys/firmware", "/sys/kernel"):
            self.folder(folder)

    @property
    def tree(self):
        """Return a new reader, which knows nothing of earlier links."""
        return Tree(self.root)

    def real(self, path):
        return self.root + path

    def folder(self, path):
        os.makedirs(self.real(path), exist_ok=True)
        return path

    def file(self, path, content=""):
        self.folder(os.path.dirname(path))
        with open(self.real(path), "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
        return path

    def link(self, path, target):
        """Make *path* a link to *target*, as sysfs has them: relative."""
        self.folder(os.path.dirname(path))
        os.symlink(os.path.relpath(target, os.path.dirname(path)), self.real(path))

    # ------------------------------------------------------------------------------------------------------- devices
    def function(self, address, kind, *, under=(), group=None, driver=None, **attributes):
        """Write a PCI function of a *kind* (`NIC`, …) below the bridges *under*; return its folder."""
        folder = self.folder("/".join(["/sys/devices/pci0000:00", *under, address]))
        self.link(f"/sys/bus/pci/devices/{address}", folder)
        vendor, product, class_id = (kind[key].upper() for key in ("vendor", "product", "class_id"))
        ids = f"v0000{vendor}d0000{product}sv0000{vendor}sd00000001"
        modalias = f"pci:{ids}bc{class_id[:2]}sc{class_id[2:4]}i{class_id[4:]}"
        for name, value in dict({"modalias": modalias, "revision": "0x01", "numa_node": "0"}, **attributes).items():
            self.file(f"{folder}/{name}", f"{value}\n")
        if group is not None:
            self.link(f"{folder}/iommu_group", self.folder(f"/sys/kernel/iommu_groups/{group}"))
        if driver:
            self.link(f"{folder}/driver", self.folder(f"/sys/bus/pci/drivers/{driver}"))
        return folder

    def vf(self, pf_folder, index, address, **attributes):
        """Write a VF of the function in *pf_folder*; return its folder."""
        folder = self.function(address, dict(NIC, product="1520"), **attributes)
        self.link(f"{folder}/physfn", pf_folder)
        self.link(f"{pf_folder}/virtfn{index}", folder)
        return folder

    def net(self, name, folder=None, *, lower=(), **attributes):
        """Write a net device on the function in *folder*, or a virtual one on top of *lower*."""
        place = self.folder(f"{folder}/net/{name}" if folder else f"/sys/devices/virtual/net/{name}")
        self.link(f"/sys/class/net/{name}", place)
        self.file(f"{place}/address", attributes.pop("mac", "52:54:00:00:00:01") + "\n")
        self.file(f"{place}/uevent", attributes.pop("uevent", f"INTERFACE={name}\n"))
        for below in lower:
            self.link(f"{place}/lower_{below}", f"/sys/class/net/{below}")
            self.link(
                os.path.realpath(self.real(f"/sys/class/net/{below}"))[len(self.root) :] + f"/upper_{name}", place
            )
        return place

    def block(self, name, number, folder=None, *, slaves=()):
        """Write a block device below *folder*, or a virtual one made of *slaves*."""
        place = self.folder(f"{folder}/{name}" if folder else f"/sys/devices/virtual/block/{name}")
        self.link(f"/sys/class/block/{name}", place)
        self.file(f"{place}/dev", number + "\n")
        self.folder(f"{place}/holders")
        self.folder(f"{place}/slaves")
        for slave in slaves:
            self.link(f"{place}/slaves/{slave}", f"/sys/class/block/{slave}")
            self.link(
                os.path.realpath(self.real(f"/sys/class/block/{slave}"))[len(self.root) :] + f"/holders/{name}", place
            )
        return place

    def nvme(self, index, folder):
        """Write an NVMe controller with one namespace of two partitions on the function in *folder*."""
        disk = self.block(f"nvme{index}n1", f"259:{index * 16}", f"{folder}/nvme/nvme{index}")
        self.link(f"/sys/class/nvme/nvme{index}", f"{folder}/nvme/nvme{index}")
        self.file(f"{folder}/nvme/nvme{index}/serial", "S5XYNX0R000042      \n")
        for part in (1, 2):
            self.block(f"nvme{index}n1p{part}", f"259:{index * 16 + part}", disk)
        return disk

    # ------------------------------------------------------------------------------------------- mounts and routes
    def mount(self, point, number, source, fstype="ext4"):
        self.mounts.append(
            f"{30 + len(self.mounts)} 1 {number} / {point} rw,relatime shared:1 - {fstype} {source} rw\n"
        )
        self.file("/proc/self/mountinfo", "".join(self.mounts))

    def route(self, name, destination="00000000", mask="00000000"):
        """Add a route; addresses are as in /proc/net/route, lowest byte first: 0002000A is 10.0.2.0."""
        self.routes.append(f"{name}\t{destination}\t00000000\t0003\t0\t0\t0\t{mask}\t0\t0\t0\n")
        self.file("/proc/net/route", ROUTES_HEAD + "".join(self.routes))
