# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
import os

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.ownership import RECORD
from ansible_collections.openstack.cyborg.plugins.module_utils.persistence import device_file, render_device
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree, Unreadable
from ansible_collections.openstack.cyborg.tests.unit.host_tree import BRIDGE, GPU, NIC, HostTree

PORT = "0000:3b:00.0"


@pytest.fixture
def host(tmp_path):
    host = HostTree(tmp_path)
    host.function("0000:00:1c.0", BRIDGE)
    folder = host.function(
        PORT, NIC, under=["0000:00:1c.0"], driver="igb", current_link_width=4, sriov_numvfs=0, sriov_totalvfs=7
    )
    host.net("ens1", folder)
    host.link("/sys/bus/pci/drivers/igb/module", host.folder("/sys/module/igb"))
    host.file("/proc/modules", "igb 253952 0 - Live 0x0\n")
    host.file("/proc/sys/kernel/random/boot_id", "b1\n")
    return host


def fingerprint(host, **options):
    return gather(host.tree, **options)["fingerprint"]


def test_a_host_tells_who_it_is(host):
    host.file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    host.folder("/sys/class/dmi/id/product_uuid")
    document = gather(host.tree)
    assert (document["facts_version"], document["hostname"]) == (1, "compute-1")
    assert document["machine_id"] == "0123456789abcdef0123456789abcdef"
    assert "unknown" in document["system_uuid"]


def test_what_persists_is_told_of_each_device(host):
    host.file(device_file(PORT), render_device(PORT, {}, num_vfs=4, vf_drivers=[{"vfs": "0-3", "driver": "vfio-pci"}]))
    device = gather(host.tree)["devices"][1]
    assert (device["boot_num_vfs"], device["boot_vf_drivers"][0]["vfs"]) == (4, "0-3")
    host.file(device_file(PORT), "{")
    assert "unknown" in gather(host.tree)["devices"][1]["boot_num_vfs"]


def test_an_empty_folder_is_no_host_without_devices(tmp_path):
    with pytest.raises(Unreadable, match="sys/bus: no such folder: this is no tree of a host"):
        gather(Tree(str(tmp_path)))


def test_the_record_of_what_is_owned_is_told(host):
    assert gather(host.tree)["ownership"] is None
    field = {"path": [PORT, "sriov", "num_vfs"], "before": 0, "set": 4, "device": "8086:1521 S1"}
    record = {"version": 1, "controller_id": "c1", "fencing_token": 7, "fields": [field]}
    host.file(RECORD, json.dumps(record))
    found = gather(host.tree)["ownership"]
    assert found == {"controller_id": "c1", "fencing_token": 7, "fields": [field]}


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"version": 2}', '{"version": 1, "fencing_token": "x"}', '{"version": 1, "fields": [{"path": "x"}]}',
     '{"version": 1, "fields": [5]}', '{"version": 1, "controller_id": 5}'],
)  # fmt: skip
def test_a_record_that_makes_no_sense_is_unknown_and_not_empty(host, text):
    host.file(RECORD, text)
    document = gather(host.tree)
    assert document["ownership"] is None
    assert RECORD in document["ownership_unknown"]


def test_a_host_whose_functions_cannot_be_listed_is_not_observed(host):
    os.rename(host.real("/sys/bus/pci/devices"), host.real("/sys/bus/pci/other"))
    host.file("/sys/bus/pci/devices", "not a folder")
    with pytest.raises(Unreadable, match="/sys/bus/pci/devices"):
        gather(host.tree)


def test_reading_twice_gives_the_same_fingerprint(host):
    assert fingerprint(host) == fingerprint(host)


def test_what_is_fleeting_does_not_change_the_fingerprint(host):
    before = fingerprint(host)
    host.route("ens1", "0002000A", "00FFFFFF")  # an address: a holder
    host.file(f"/sys/bus/pci/devices/{PORT}/current_link_width", "8\n")
    host.file("/proc/modules", "igb 253952 3 dca, Live 0x0\n")
    assert fingerprint(host) == before


def test_the_connection_that_was_used_does_not_change_the_fingerprint(host):
    host.route("ens1", "0002000A", "00FFFFFF")
    by_hand = gather(host.tree, connection="local")
    over_ssh = gather(host.tree, connection="ssh", peer="10.0.2.2")
    blindly = gather(host.tree, connection="ssh")
    assert [len(document["devices"][1].get("protected", [])) for document in (by_hand, over_ssh, blindly)] == [0, 1, 1]
    assert by_hand["fingerprint"] == over_ssh["fingerprint"] == blindly["fingerprint"]


def add_a_device(host):
    host.function("0000:3c:00.0", GPU)


def add_vfs(host):
    host.file(f"/sys/bus/pci/devices/{PORT}/sriov_numvfs", "4\n")


def add_an_argument(host):
    host.file("/proc/cmdline", "quiet intel_iommu=on\n")


def boot_again(host):
    host.file("/proc/sys/kernel/random/boot_id", "b2\n")


def route_over_it(host):
    host.route("ens1")


def blacklist(host):
    host.file("/etc/modprobe.d/x.conf", "blacklist nouveau\n")


def make_it_unreadable(host):
    os.unlink(host.real(f"/sys/bus/pci/devices/{PORT}/numa_node"))
    host.folder(f"/sys/bus/pci/devices/{PORT}/numa_node")


@pytest.mark.parametrize(
    "change", [add_a_device, add_vfs, add_an_argument, boot_again, route_over_it, blacklist, make_it_unreadable]
)
def test_what_matters_changes_the_fingerprint(host, change):
    before = fingerprint(host)
    change(host)
    assert fingerprint(host) != before


def test_why_something_is_unknown_does_not_change_the_fingerprint(host):
    make_it_unreadable(host)
    before = fingerprint(host)
    os.rmdir(host.real(f"/sys/bus/pci/devices/{PORT}/numa_node"))
    host.file(f"/sys/bus/pci/devices/{PORT}/numa_node", 'not "a" number\n')
    assert fingerprint(host) == before


def test_nothing_that_is_empty_is_handed_over(host):
    document = gather(host.tree)
    for item in document["devices"] + document["drivers"]["modules"]:
        assert all(value not in (None, [], {}) for value in item.values())
