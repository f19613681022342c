# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What does the script do that makes devices at boot? It runs as the unit runs it, on a host's tree."""

import os
import struct
import subprocess
import sys

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import restore
from ansible_collections.openstack.cyborg.plugins.module_utils.persistence import (
    device_file,
    read_boot_facts,
    read_device,
    render_device,
)
from ansible_collections.openstack.cyborg.tests.unit.host_tree import GPU, NIC, NVME, HostTree

ADDRESS = "0000:3b:00.0"
OTHER = "0000:3b:00.1"
GPU_IDS = {"vendor": "0x10de", "device": "0x20b0", "subsystem_vendor": "0x10de", "subsystem_device": "0x134f"}
NVME_IDS = {"vendor": "0x144d", "device": "0xa80a", "subsystem_vendor": "0x144d", "subsystem_device": "0xa801"}


def config_with(serial):
    """Return a configuration space whose second extended capability is Device Serial Number."""
    head = bytes(256) + struct.pack("<I", 0x0001 | 1 << 16 | 0x140 << 20)
    return head.ljust(0x140, b"\0") + struct.pack("<IQ", 0x0003 | 1 << 16, serial) + bytes(64)


class Subject(HostTree):
    """A host where the device at ADDRESS shall be bound to vfio-pci."""

    def __init__(self, root):
        super().__init__(root)
        self.file("/sys/bus/pci/drivers_probe")
        self.folder("/sys/bus/pci/drivers/vfio-pci")

    def device(self, kind, ids, address=ADDRESS, **more):
        folder = self.function(address, kind, driver="native", driver_override="(null)", **ids, **more)
        self.file("/sys/bus/pci/drivers/native/unbind")
        return folder

    def persist(self, identity):
        self.file(device_file(ADDRESS), render_device(ADDRESS, identity, driver="vfio-pci"))

    def restore(self):
        """Run the script, and return how it ended and what it said."""
        done = subprocess.run(
            [sys.executable, restore.__file__, ADDRESS],
            env=dict(os.environ, CYBORG_ROOT=self.root),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr.strip()

    def is_untouched(self):
        written = [self.tree.read_text("/sys/bus/pci/drivers/native/unbind"), self.tree.read_text(self.override)]
        return written == ["", "(null)"]

    override = f"/sys/bus/pci/devices/{ADDRESS}/driver_override"


@pytest.fixture
def host(tmp_path):
    return Subject(tmp_path)


def test_the_device_that_the_file_is_for_is_bound(host):
    host.device(GPU, GPU_IDS)
    host.persist(GPU_IDS)
    assert host.restore()[0] == 0
    assert host.tree.read_text("/sys/bus/pci/drivers/native/unbind") == ADDRESS
    assert read_boot_facts(host.tree, [ADDRESS])[ADDRESS]["boot_driver"] == "vfio-pci"


def test_another_device_at_the_address_is_left_alone_and_said_so(host):
    host.device(NVME, NVME_IDS)
    host.persist(GPU_IDS)
    status, said = host.restore()
    assert (status, host.is_untouched()) == (1, True)
    differs = f"{device_file(ADDRESS)} is for another device: its device was 0x20b0 and is 0xa80a"
    assert said == f"{ADDRESS}: left alone: {differs}"


def test_what_is_persisted_for_another_device_is_unknown_and_not_obeyed(host):
    host.device(NVME, NVME_IDS)
    host.persist(GPU_IDS)
    facts = read_boot_facts(host.tree, [ADDRESS])[ADDRESS]
    assert "its device was 0x20b0 and is 0xa80a" in facts["boot_driver"]["unknown"]
    assert read_device(host.tree, ADDRESS)["driver"] is None


@pytest.mark.parametrize(("serial", "status"), [(0x42, 0), (0x43, 1)])
def test_one_of_two_cards_alike_is_told_from_the_other_by_its_serial(host, serial, status):
    host.file(f"{host.device(GPU, GPU_IDS)}/config", config_with(serial))
    host.persist(dict(GPU_IDS, serial="%016x" % 0x42))
    assert host.restore()[0] == status
    assert host.is_untouched() == bool(status)


def test_a_file_of_an_earlier_version_is_obeyed(host):
    host.device(GPU, GPU_IDS)
    host.file(device_file(ADDRESS), f'{{"version": 1, "address": "{ADDRESS}", "driver": "vfio-pci"}}')
    assert read_device(host.tree, ADDRESS)["driver"] == "vfio-pci"
    assert host.restore()[0] == 0
    assert not host.is_untouched()


@pytest.mark.parametrize("stack", ["partition", "mapper", "swap", "shared namespace"])
def test_a_disk_in_use_keeps_its_driver(host, stack):
    folder = host.device(NVME, NVME_IDS)
    host.persist(NVME_IDS)
    if stack == "shared namespace":
        host.block("nvme0c0n1", "259:9", f"{folder}/nvme/nvme0")
        host.block("nvme0n1p1", "259:1", host.block("nvme0n1", "259:0"))
    else:
        host.nvme(0, folder)
    if stack == "mapper":
        host.block("dm-0", "253:0", slaves=["nvme0n1p2"])
        host.mount("/", "253:0", "/dev/mapper/vg-root")
    elif stack == "swap":
        host.file("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/nvme0n1p1 partition 1 0 -2\n")
    else:
        host.mount("/", "259:1", "/dev/nvme0n1p1")
    status, said = host.restore()
    assert (status, host.is_untouched()) == (1, True)
    assert said.startswith(f"{ADDRESS}: left alone: ")
    assert said.endswith(" is mounted")


@pytest.mark.parametrize("above", ["", "bond0"])
def test_a_port_that_is_up_with_an_address_keeps_its_driver(host, above):
    folder = host.device(NIC, GPU_IDS)
    host.persist(GPU_IDS)
    host.file(host.net("eno1", folder) + "/flags", "0x1003\n")
    if above:
        host.net(above, lower=["eno1"])
    host.route(above or "eno1", destination="0002000A", mask="00FFFFFF")
    status, said = host.restore()
    assert (status, host.is_untouched()) == (1, True)
    assert said == f"{ADDRESS}: left alone: eno1 is up, with an address"


def test_a_port_that_has_no_address_goes(host):
    folder = host.device(NIC, GPU_IDS)
    host.persist(GPU_IDS)
    host.file(host.net("eno1", folder) + "/flags", "0x1003\n")
    host.file("/proc/net/if_inet6", "fe800000000000005054ff00fea00001 02 40 20 80     eno1\n")
    assert host.restore()[0] == 0
    assert not host.is_untouched()


def test_where_one_of_the_group_is_in_use_none_of_it_goes(host):
    host.device(GPU, GPU_IDS, group=7)
    host.nvme(0, host.device(NVME, NVME_IDS, OTHER, group=7))
    for name in (ADDRESS, OTHER):
        host.link(f"/sys/kernel/iommu_groups/7/devices/{name}", f"/sys/devices/pci0000:00/{name}")
    host.mount("/", "259:1", "/dev/nvme0n1p1")
    host.persist(GPU_IDS)
    assert (host.restore()[0], host.is_untouched()) == (1, True)
