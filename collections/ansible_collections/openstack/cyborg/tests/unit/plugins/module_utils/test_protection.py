# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import kernel_modules
from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather_devices, gather_drivers
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Host, Refusal
from ansible_collections.openstack.cyborg.tests.unit.host_tree import BRIDGE, GPU, NIC, NVME, HostTree

DISK, PORT, OTHER_PORT, CARD = "0000:02:00.0", "0000:03:00.0", "0000:03:00.1", "0000:3b:00.0"


@pytest.fixture
def host(tmp_path):
    host = HostTree(tmp_path)
    host.function("0000:00:1c.0", BRIDGE)
    host.nvme(0, host.function(DISK, NVME, group=2))
    for number, address in enumerate((PORT, OTHER_PORT)):
        host.net(f"eth{number}", host.function(address, NIC, under=["0000:00:1c.0"], group=10 + number))
    host.function(CARD, GPU, group=5)
    return host


def protected(host, **options):
    """Return ``{address: {reason, …}}`` of the protected devices."""
    devices = gather_devices(host.tree, **dict({"connection": "local"}, **options))
    found = {device["address"]: {entry["reason"] for entry in device["protected"]} for device in devices}
    return {address: reasons for address, reasons in found.items() if reasons}


def via(host, address):
    devices = gather_devices(host.tree, connection="local")
    return [entry["via"] for device in devices if device["address"] == address for entry in device["protected"]]


def modules(host, *names):
    """Return ``{module: what its protection is for}`` of the protected among the modules *names*."""
    found = gather_drivers(host.tree, modules=names)["modules"]
    return {one["name"]: [(p["reason"], p["via"]) for p in one["protected"]] for one in found if one["protected"]}


# ----------------------------------------------------------------------------------------------------------- root disk
def test_a_host_that_runs_from_memory_has_no_root_disk(host):
    assert protected(host) == {}


def test_the_disk_of_the_root_partition_is_protected(host):
    host.mount("/", "259:2", "/dev/nvme0n1p2")
    assert protected(host) == {DISK: {"root_disk"}}
    assert via(host, DISK) == ["nvme0n1p2 carries /"]


def test_the_mounts_of_the_system_count_and_not_those_of_a_service_alone(host):
    host.mount("/", "259:2", "/dev/nvme0n1p2")
    with open(host.real("/proc/self/mountinfo")) as file:
        host.file("/proc/1/mountinfo", file.read())
    host.file("/proc/self/mountinfo", "1 0 0:2 / / rw - tmpfs none rw\n")
    assert via(host, DISK) == ["nvme0n1p2 carries /"]
    host.folder("/proc/2")
    os.replace(host.real("/proc/1/mountinfo"), host.real("/proc/2/mountinfo"))
    host.folder("/proc/1/mountinfo")  # what cannot be read: there is our own view
    assert via(host, DISK) == []


def test_the_root_is_followed_through_lvm_crypt_and_raid(host):
    host.nvme(1, host.function("0000:04:00.0", NVME))
    host.block("md0", "9:0", slaves=["nvme0n1p2", "nvme1n1p2"])
    host.block("dm-0", "254:0", slaves=["md0"])
    host.block("dm-1", "254:1", slaves=["dm-0"])
    host.mount("/", "254:1", "/dev/mapper/vg-root")
    assert protected(host) == {DISK: {"root_disk"}, "0000:04:00.0": {"root_disk"}}


def test_the_root_on_a_partition_of_a_raid_is_followed(host):
    disk = host.block("md0", "9:0", slaves=["nvme0n1"])
    host.block("md0p1", "259:99", disk)
    host.mount("/", "259:99", "/dev/md0p1")
    assert set(protected(host)) == {DISK}


def test_the_root_in_a_file_behind_a_loop_is_followed(host):
    host.mount("/var", "259:1", "/dev/nvme0n1p1")
    host.block("loop0", "7:0")
    host.file("/sys/class/block/loop0/loop/backing_file", "/var/lib/root.img\n")
    host.mount("/", "7:0", "/dev/loop0")
    assert set(protected(host)) == {DISK}


def test_every_disk_of_a_btrfs_root_is_protected(host):
    host.nvme(1, host.function("0000:04:00.0", NVME))
    for name in ("nvme0n1p2", "nvme1n1p2"):
        host.link(f"/sys/fs/btrfs/6c1f-uuid/devices/{name}", f"/sys/class/block/{name}")
    host.mount("/", "0:25", "/dev/nvme0n1p2", "btrfs")
    assert set(protected(host)) == {DISK, "0000:04:00.0"}


@pytest.mark.parametrize(
    ("number", "source", "fstype"),
    [("0:30", "rpool/ROOT/debian", "zfs"), ("0:31", "overlay", "overlay"), ("8:1", "/dev/sda1", "ext4")],
)
def test_a_root_that_cannot_be_followed_protects_all_storage_and_network(host, number, source, fstype):
    host.mount("/", number, source, fstype)
    found = protected(host)
    assert {DISK, PORT, OTHER_PORT} <= set(found)
    assert found[DISK] == {"unknown"}
    assert CARD not in found


def test_mounts_that_cannot_be_read_protect_all_storage(host):
    host.file("/proc/self/mountinfo", "rubbish\n")
    assert protected(host)[DISK] == {"unknown"}


def test_the_last_mount_at_a_place_is_the_one_that_counts(host):
    host.mount("/", "0:31", "overlay", "overlay")
    host.mount("/", "259:2", "/dev/nvme0n1p2")
    assert protected(host) == {DISK: {"root_disk"}}


def test_an_automount_that_nobody_wanted_yet_lies_on_no_disk(host):
    host.mount("/", "259:2", "/dev/nvme0n1p2")
    host.mount("/boot/efi", "0:40", "systemd-1", "autofs")
    assert protected(host) == {DISK: {"root_disk"}}


def test_a_disk_on_another_bus_carries_the_root_without_any_function(host):
    host.block("mmcblk0p1", "179:1", "/sys/devices/platform/soc/mmc0/block/mmcblk0")
    host.mount("/", "179:1", "/dev/mmcblk0p1")
    assert protected(host) == {}


# ------------------------------------------------------------------------------------------------------- default route
def test_the_port_of_the_default_route_and_its_bridge_are_protected(host):
    host.route("eth0")
    assert protected(host) == {PORT: {"default_route"}, "0000:00:1c.0": {"default_route"}}
    assert via(host, "0000:00:1c.0") == ["0000:00:1c.0 is upstream of 0000:03:00.0"]


def test_other_routes_protect_nothing(host):
    host.route("eth0", "0002000A", "00FFFFFF")
    assert protected(host) == {}


def test_the_default_route_of_ipv6_counts_too(host):
    zero = "0" * 32
    host.file("/proc/net/ipv6_route", f"{zero} 00 {zero} 00 {zero} 00000400 00000001 00000000 00000003     eth1\n")
    assert set(protected(host)) == {OTHER_PORT, "0000:00:1c.0"}


def test_the_kernels_own_reject_route_protects_nothing(host):
    zero = "0" * 32
    host.file("/proc/net/ipv6_route", f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n")
    assert protected(host) == {}


def test_a_route_over_a_vlan_on_a_bridge_on_a_bond_protects_both_ports(host):
    host.net("bond0", lower=["eth0", "eth1"])
    host.net("br0", lower=["bond0"])
    host.net("br0.100", lower=["br0"])
    host.route("br0.100")
    assert {PORT, OTHER_PORT} <= set(protected(host))


def test_a_route_over_open_vswitch_protects_every_port_of_it(host):
    host.net("ovs-system")
    host.net("br-ex")
    host.link("/sys/class/net/eth1/master", "/sys/class/net/ovs-system")
    host.route("br-ex")
    found = protected(host)
    assert OTHER_PORT in found
    assert PORT not in found


def test_a_route_over_a_tunnel_protects_every_port(host):
    host.net("ovs-system")
    host.link("/sys/class/net/eth1/master", "/sys/class/net/ovs-system")
    host.net("wg0", uevent="DEVTYPE=wireguard\nINTERFACE=wg0\n")
    host.route("wg0")
    found = protected(host)
    assert found[PORT] == found[OTHER_PORT] == {"unknown"}


def test_routes_that_cannot_be_read_protect_every_port(host):
    host.file("/proc/net/route", "Iface\neth0\tnonsense\n")
    assert protected(host)[PORT] == {"unknown"}


def test_a_route_over_a_vf_protects_the_pf_and_what_shares_its_group(host):
    pf = host.function("0000:6b:00.0", NIC, group=30)
    host.function("0000:6b:00.1", NIC, group=30)
    host.net("vf0", host.vf(pf, 0, "0000:6b:01.0", group=31))
    host.vf(pf, 1, "0000:6b:01.1", group=32)
    host.route("vf0")
    found = set(protected(host))
    assert {"0000:6b:01.0", "0000:6b:00.0", "0000:6b:00.1"} <= found
    assert "0000:6b:01.1" not in found
    assert via(host, "0000:6b:00.1") == ["0000:6b:00.1 is in the IOMMU group of 0000:6b:00.0"]


# ---------------------------------------------------------------------------------------------------- this connection
def test_the_port_that_leads_to_the_peer_is_protected(host):
    host.route("eth0", "0002000A", "00FFFFFF")  # 10.0.2.0/24
    host.route("eth1", "0000000A", "000000FF")  # 10.0.0.0/8
    assert protected(host, connection="ssh", peer="10.0.2.2")[PORT] == {"connection"}
    assert OTHER_PORT not in protected(host, connection="ssh", peer="10.0.2.2")
    assert protected(host, connection="ssh", peer="10.9.9.9")[OTHER_PORT] == {"connection"}


def test_the_port_that_leads_to_a_peer_of_ipv6_is_protected(host):
    network, zero = "fd00" + "0" * 28, "0" * 32
    host.file("/proc/net/ipv6_route", f"{network} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth1\n")
    assert protected(host, peer="fd00::2")[OTHER_PORT] == {"connection"}
    assert protected(host, peer="fe80::1%eth0")[PORT] == {"connection"}


def test_an_ssh_connection_that_cannot_be_found_protects_every_port(host):
    found = protected(host, connection="ssh")
    assert found[PORT] == found[OTHER_PORT] == {"unknown"}
    assert DISK not in found


@pytest.mark.parametrize("peer", ["not-an-address", "203.0.113.9"])
def test_a_peer_that_no_route_leads_to_protects_every_port(host, peer):
    assert protected(host, peer=peer)[PORT] == {"unknown"}


def test_a_peer_on_the_host_itself_needs_no_port(host):
    assert protected(host, connection="ssh", peer="127.0.0.1") == {}
    assert protected(host, connection="ssh", peer="::1") == {}


# ------------------------------------------------------------------------------------- modules that drive no function
@pytest.mark.parametrize(
    ("kind", "module"), [("bond", "bonding"), ("vlan", "8021q"), ("bridge", "bridge"), (None, "team"), (None, "vrf")]
)
def test_what_makes_the_net_device_of_the_default_route_is_neither_unloaded_nor_kept_out(host, kind, module):
    host.net("up0", lower=["eth0"], uevent=f"DEVTYPE={kind}\n" if kind else "INTERFACE=up0\n")
    host.route("up0")
    host.file("/proc/modules", f"{module} 1 0 - Live 0x0\n")
    assert modules(host, module, "bcache") == {module: [("default_route", "up0")]}
    for asked in ({"state": "unloaded"}, {"blacklisted": True}):
        args = {name: option.get("default") for name, option in kernel_modules.ARGUMENTS.items()}
        with pytest.raises(Refusal, match=f"{module} drives what carries the default route") as refused:
            kernel_modules.ensure(Host(host.tree, check=True, link=("local", None)), dict(args, name=module, **asked))
        assert refused.value.reason == "ProtectedDevice"


def test_modules_below_a_vlan_on_a_bond_are_all_protected_and_those_of_other_bridges_are_not(host):
    host.net("bond0", lower=["eth0"], uevent="DEVTYPE=bond\n")
    host.net("bond0.7", lower=["bond0"], uevent="DEVTYPE=vlan\n")
    host.net("br0", lower=["eth1"], uevent="DEVTYPE=bridge\n")
    host.route("bond0.7")
    assert set(modules(host, "bonding", "8021q", "bridge")) == {"bonding", "8021q"}


def test_modules_of_the_root_are_protected_through_its_file_system_dm_and_raid(host):
    disk = "/sys/devices/pci0000:00/" + DISK + "/host0/target0:0:0/0:0:0:0"
    host.block("sda", "8:0", disk + "/block")
    host.link(f"{disk}/driver", host.folder("/sys/bus/scsi/drivers/sd"))
    host.link("/sys/bus/scsi/drivers/sd/module", host.folder("/sys/module/sd_mod"))
    host.block("md0", "9:0", slaves=["sda"])
    host.block("dm-0", "254:0", slaves=["md0"])
    host.mount("/", "254:0", "/dev/mapper/root", "xfs")
    found = modules(host, "xfs", "dm_crypt", "dm-mod", "raid1", "md_mod", "sd_mod", "btrfs", "loop")
    assert set(found) == {"xfs", "dm_crypt", "dm_mod", "raid1", "md_mod", "sd_mod"}
    assert found["xfs"] == [("root_disk", "/ is xfs")]
    assert found["dm_crypt"] == [("root_disk", "dm-0 carries /")]


def test_where_routes_cannot_be_read_what_may_carry_them_is_protected(host):
    host.file("/proc/net/route", "rubbish\nrubbish\n")
    assert modules(host, "bonding")["bonding"][0][0] == "unknown"
