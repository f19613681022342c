# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import guards
from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather_devices
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Host, Refusal
from ansible_collections.openstack.cyborg.tests.unit.host_tree import BRIDGE, GPU, NIC, NVME, HostTree

CARD = "0000:3b:00.0"


@pytest.fixture
def host(tmp_path):
    return HostTree(tmp_path)


def holders(host, address=CARD):
    devices = gather_devices(host.tree, connection="local")
    return next(device["holders"] for device in devices if device["address"] == address)


def open_file(host, pid, name, *targets):
    host.file(f"/proc/{pid}/comm", name + "\n")
    for number, target in enumerate(targets):
        host.folder(f"/proc/{pid}/fd")
        os.symlink(target, host.real(f"/proc/{pid}/fd/{number}"))


def test_a_device_that_nobody_uses_has_no_holders(host):
    host.net("ens1", host.function(CARD, NIC))
    assert holders(host) == []


def test_a_virtual_machine_holds_every_function_of_its_vfio_group(host):
    for function in (0, 1):
        host.function(f"0000:3b:00.{function}", GPU, group=12, driver="vfio-pci")
    host.link("/sys/dev/char/511:0", host.folder("/sys/devices/virtual/vfio/12"))
    open_file(host, 4711, "qemu-system-x86", "/dev/vfio/vfio", "/dev/vfio/12")
    held = {"kind": "process", "name": "qemu-system-x86", "pid": 4711, "detail": "/dev/vfio/12"}
    assert holders(host) == [held]
    assert holders(host, "0000:3b:00.1") == [held]


def test_a_virtual_machine_with_a_mediated_device_holds_the_function_that_it_is_made_of(host):
    mdev = host.folder(host.function(CARD, GPU, group=12, driver="nvidia") + "/4b20d080-1b54-4048-85b3-a6a62d165c01")
    host.link("/sys/kernel/iommu_groups/77/devices/4b20d080-1b54-4048-85b3-a6a62d165c01", mdev)
    host.link("/sys/dev/char/511:0", host.folder("/sys/devices/virtual/vfio/77"))
    open_file(host, 4711, "qemu-system-x86", "/dev/vfio/77")
    assert [(one["pid"], one["detail"]) for one in holders(host)] == [(4711, "/dev/vfio/77")]


def test_a_terminal_is_not_taken_for_a_vfio_group_of_the_same_number(host):
    host.function(CARD, GPU, group=12, driver="vfio-pci")
    host.link("/sys/dev/char/511:0", host.folder("/sys/devices/virtual/vfio/12"))
    open_file(host, 17, "bash", "/dev/pts/12")
    assert holders(host) == []


def test_who_has_a_render_node_open_holds_the_gpu(host):
    folder = host.function(CARD, GPU, driver="amdgpu")
    host.link("/sys/dev/char/226:128", host.folder(f"{folder}/drm/renderD128"))
    open_file(host, 99, "trainer\x1b[2J", "/dev/null", "socket:[123]", "/dev/dri/renderD128")
    assert [(entry["name"], entry["pid"]) for entry in holders(host)] == [("trainer\\x1b[2J", 99)]


def test_a_process_whose_name_is_no_utf_8_is_told(host):
    folder = host.function(CARD, GPU, driver="amdgpu")
    host.link("/sys/dev/char/226:128", host.folder(f"{folder}/drm/renderD128"))
    open_file(host, 99, "caf\udce9", "/dev/dri/renderD128")
    assert [entry["name"] for entry in holders(host)] == ["caf\\xe9"]


def test_a_process_with_many_descriptors_of_a_node_is_told_once(host):
    folder = host.function(CARD, GPU, driver="amdgpu")
    host.link("/sys/dev/char/226:0", host.folder(f"{folder}/drm/card0"))
    open_file(host, 99, "X", *["/dev/dri/card0"] * 3)
    assert len(holders(host)) == 1


@pytest.mark.parametrize("path", ["/proc/98/fd", "/proc/98/fd/0"])
def test_a_process_that_cannot_be_looked_at_makes_the_holders_unknown(host, path):
    folder = host.function(CARD, GPU, driver="amdgpu")
    host.link("/sys/dev/char/226:128", host.folder(f"{folder}/drm/renderD128"))
    host.file(path)  # ENOTDIR, EINVAL: errors that root too can be given, and that do not mean that the process ended
    assert holders(host)["unknown"].startswith("/proc/98/fd: who has device nodes open is not shown: ")


def test_a_process_that_ends_while_it_is_looked_at_holds_nothing(host):
    folder = host.function(CARD, GPU, driver="amdgpu")
    host.link("/sys/dev/char/226:128", host.folder(f"{folder}/drm/renderD128"))
    host.folder("/proc/98")
    open_file(host, 99, "trainer", "/dev/dri/renderD128")
    assert [entry["pid"] for entry in holders(host)] == [99]


def test_the_nodes_of_nvidias_driver_are_found_by_its_own_word(host):
    host.function(CARD, GPU, driver="nvidia")
    host.file(f"/proc/driver/nvidia/gpus/{CARD}/information", "Model: \t\t A100\nDevice Minor: \t 3\n")
    open_file(host, 1234, "python3", "/dev/nvidiactl", "/dev/nvidia3")
    assert [entry["detail"] for entry in holders(host)] == ["/dev/nvidia3"]


@pytest.mark.parametrize("name", ["config", "resource0", "resource2_wc"])
@pytest.mark.parametrize("mount", ["/sys", ""])
def test_who_has_the_registers_of_a_function_open_holds_it_and_no_other(host, name, mount):
    folder = host.function(CARD, NIC, under=["0000:00:1c.0"], driver="uio_pci_generic")
    host.function("0000:00:1c.0", BRIDGE)
    open_file(host, 4711, "testpmd", f"{mount}{folder[len('/sys') :]}/{name}")
    detail = f"{mount}{folder[len('/sys') :]}/{name}"
    assert holders(host) == [{"kind": "process", "name": "testpmd", "pid": 4711, "detail": detail}]
    assert holders(host, "0000:00:1c.0") == []


@pytest.mark.parametrize(
    "target",
    [
        f"/sys/devices/pci0000:00/{CARD}/resource",
        f"/sys/devices/pci0000:00/{CARD}/uevent",
        f"/sys/devices/pci0000:01/{CARD}/resource0",
        f"/home/eve/devices/pci0000:00/{CARD}/resource0",
        f"/sys/devices/{CARD}/resource0",
        f"/home/eve/{CARD}/resource0",
        "/sys/devices/virtual/net/lo/config",
    ],
)
def test_other_files_of_a_function_and_of_those_who_pretend_hold_nothing(host, target):
    host.function(CARD, NIC)
    open_file(host, 4711, "udevd", target)
    assert holders(host) == []


def guard(host):
    guards.refuse(Host(host.tree, link=("local", None)), protected=[CARD], held=[CARD])


@pytest.mark.parametrize("path", [f"/sys/devices/pci0000:00/{CARD}/resource0", "/dev/dri/renderD128"])
def test_what_a_process_has_mapped_is_looked_at_right_before_a_change(host, path):
    folder = host.function(CARD, GPU, driver="amdgpu")
    host.link("/sys/dev/char/226:128", host.folder(f"{folder}/drm/renderD128"))
    host.file("/proc/4711/comm", "trainer\n")
    host.file(
        "/proc/4711/maps",
        "5562d2e00000-5562d2e21000 rw-p 00000000 00:00 0                          [heap]\n"
        "7f3a00000000-7f3a00004000 r--p 00000000 fe:01 131 /usr/share/x/resources.pak\n"
        f"7f3a10000000-7f3a10100000 rw-s 00000000 00:15 2211                       {path}\n",
    )
    assert holders(host) == []  # not in the facts: it takes too long
    with pytest.raises(Refusal, match=r"is held by trainer \(pid 4711\) on " + path) as caught:
        guard(host)
    assert caught.value.reason == "DeviceInUse"


def test_mappings_that_are_not_shown_keep_a_device_from_being_changed(host):
    host.function(CARD, NIC)
    host.folder("/proc/4711/maps")
    with pytest.raises(Refusal, match="/proc/4711/maps: what is mapped of devices is not shown: Is a directory"):
        guard(host)


def test_a_process_that_ends_before_its_mappings_are_read_holds_nothing(host):
    host.function(CARD, NIC)
    host.folder("/proc/4711")
    guard(host)


def test_a_raw_disk_that_a_process_has_open_is_held(host):
    host.nvme(1, host.function(CARD, NVME))
    open_file(host, 4711, "qemu-system-x86", "/dev/nvme1n1")
    assert [entry["name"] for entry in holders(host)] == ["qemu-system-x86"]


def test_mounts_swap_and_members_of_others_hold_a_disk(host):
    host.nvme(1, host.function(CARD, NVME))
    host.block("dm-3", "254:3", slaves=["nvme1n1"])
    host.mount("/srv/my\\040data", "259:17", "/dev/nvme1n1p1")
    host.file("/proc/swaps", "Filename Type Size Used Priority\n/dev/nvme1n1p2 partition 8388604 0 -2\n")
    assert {(entry["kind"], entry["name"], entry["detail"]) for entry in holders(host)} == {
        ("block", "/srv/my data", "/dev/nvme1n1p1"),
        ("block", "swap", "/dev/nvme1n1p2"),
        ("block", "dm-3", "/dev/nvme1n1"),
    }


def test_mounts_that_cannot_be_read_make_the_holders_of_disks_unknown(host):
    host.nvme(1, host.function(CARD, NVME))
    host.net("ens1", host.function("0000:03:00.0", NIC))
    host.file("/proc/self/mountinfo", "rubbish\n")
    assert "unknown" in holders(host)
    assert holders(host, "0000:03:00.0") == []


def test_a_net_device_with_an_address_is_held(host):
    host.net("ens1", host.function(CARD, NIC))
    host.route("ens1", "0002000A", "00FFFFFF")
    host.file("/proc/net/if_inet6", "fd000000000000000000000000000002 02 40 00 80     ens1\n")
    assert [(entry["kind"], entry["name"]) for entry in holders(host)] == [("net", "ens1")] * 2
    assert holders(host)[1]["detail"] == "fd00::2"


def test_a_link_local_address_alone_holds_nothing(host):
    host.net("ens1", host.function(CARD, NIC))
    host.file("/proc/net/if_inet6", "fe80000000000000505400fffe000001 02 40 20 80     ens1\n")
    assert holders(host) == []


def test_what_lies_on_top_of_a_net_device_holds_it(host):
    host.net("ens1", host.function(CARD, NIC))
    host.net("bond0", lower=["ens1"])
    assert holders(host) == [{"kind": "net", "name": "bond0", "pid": None, "detail": "ens1"}]


@pytest.mark.parametrize("below", ["", "/virtio0"])
def test_a_net_device_in_another_namespace_holds_its_function(host, below):
    folder = host.function(CARD, NIC, driver="igb")
    host.folder(f"{folder}{below}/net")  # sysfs shows the folder, and nothing in it
    assert [entry["kind"] for entry in holders(host)] == ["namespace"]


def test_a_nic_that_is_bound_to_vfio_is_in_no_namespace(host):
    host.function(CARD, NIC, driver="vfio-pci")
    assert holders(host) == []
