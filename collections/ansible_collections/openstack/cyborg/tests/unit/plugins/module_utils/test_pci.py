# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather_devices
from ansible_collections.openstack.cyborg.plugins.module_utils.pci import read_devices
from ansible_collections.openstack.cyborg.plugins.module_utils.topology import Topology
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from ansible_collections.openstack.cyborg.plugins.module_utils.vpd import parse_vpd
from ansible_collections.openstack.cyborg.tests.unit.host_tree import BRIDGE, GPU, NIC, NVME, RELEASE, HostTree


@pytest.fixture
def host(tmp_path):
    return HostTree(tmp_path)


def devices_of(host):
    return {device["address"]: device for device in gather_devices(host.tree, connection="local")}


def vpd(**keywords):
    section = b"".join(
        key.encode() + bytes([len(value)]) + value.encode() for key, value in dict(keywords, RV="\0").items()
    )
    name = b"Test Adapter"
    return (
        b"\x82"
        + len(name).to_bytes(2, "little")
        + name
        + b"\x90"
        + len(section).to_bytes(2, "little")
        + section
        + b"\x78"
    )


def test_a_host_without_pci_has_no_devices(tmp_path):
    host = HostTree(tmp_path)
    assert devices_of(host) == {}


def test_ids_come_from_the_modalias(host):
    host.function("0000:3b:00.0", NIC, group=7, driver="igb")
    device = devices_of(host)["0000:3b:00.0"]
    assert (device["vendor_id"], device["product_id"], device["class_id"]) == ("8086", "1521", "020000")
    assert (device["subsystem_vendor_id"], device["subsystem_id"], device["revision"]) == ("8086", "0001", "01")
    assert (device["driver"], device["iommu_group"], device["numa_node"]) == ("igb", 7, 0)


def test_without_a_modalias_ids_come_from_their_own_attributes(host):
    folder = host.function("0000:3b:00.0", NIC, vendor="0x8086", device="0x1521", subsystem_vendor="0x8086")
    host.file(f"{folder}/modalias", "")
    host.file(f"{folder}/class", "0x020000\n")
    device = devices_of(host)["0000:3b:00.0"]
    assert (device["vendor_id"], device["product_id"], device["class_id"]) == ("8086", "1521", "020000")
    assert device["subsystem_id"] is None


def test_a_function_whose_ids_are_unreadable_is_protected(host):
    folder = host.function("0000:3b:00.0", NIC, vendor="0x8086", device="rubbish")
    host.file(f"{folder}/modalias", "")
    host.file(f"{folder}/class", "0x120000\n")
    device = devices_of(host)["0000:3b:00.0"]
    assert "rubbish" in device["product_id"]["unknown"]
    assert device["protected"] == [{"reason": "unknown", "via": device["product_id"]["unknown"]}]


def test_a_function_that_cannot_be_looked_into_is_unknown_and_protected_and_the_others_are_read(host):
    host.file("/sys/devices/pci0000:00/file", "in the place of a folder: nobody lists it, root neither")
    host.link("/sys/bus/pci/devices/0000:3b:00.0", "/sys/devices/pci0000:00/file")
    host.nvme(0, host.function("0000:3c:00.0", NVME))
    blind, other = devices_of(host).values()
    why = {"unknown": "/sys/bus/pci/devices/0000:3b:00.0: Not a directory"}
    for fact in ("vendor_id", "class_id", "driver", "num_vfs", "iommu_group", "physfn", "modules", "serial", "holders"):
        assert blind[fact] == why
    assert blind["protected"] == [{"reason": "unknown", "via": why["unknown"]}]
    assert (other["serial"], other["protected"]) == ("S5XYNX0R000042", [])


@pytest.mark.parametrize("fact", ["mdev_types", "nvme_names"])
def test_a_folder_of_a_function_that_cannot_be_listed_is_unknown_for_itself(host, fact):
    folder = host.function("0000:3b:00.0", GPU)
    host.file(f"{folder}/{'nvme' if fact == 'nvme_names' else 'mdev_supported_types'}", "no folder")
    device = devices_of(host)["0000:3b:00.0"]
    assert "Not a directory" in device[fact]["unknown"]
    assert (device["vendor_id"], device["protected"]) == ("10de", [])


def test_a_function_whose_iommu_group_is_unknown_is_protected(host):
    folder = host.function("0000:3b:00.0", NIC)
    host.link(f"{folder}/iommu_group", host.folder("/sys/kernel/iommu_groups/seven"))
    device = devices_of(host)["0000:3b:00.0"]
    assert device["protected"] == [{"reason": "unknown", "via": device["iommu_group"]["unknown"]}]
    assert device["holders"] == device["iommu_group"]


class Unplugging(Tree):
    """The tree of a host from which the function *address* goes while it is read."""

    def __init__(self, root, address):
        super().__init__(root)
        self._address = address

    def open_folder(self, name):
        folder = super().open_folder(name)
        if name.endswith(self._address):
            os.unlink(f"{self.root}/sys/bus/pci/devices/{self._address}")
        return folder


def test_a_function_that_goes_away_while_it_is_read_is_simply_not_there(host):
    folder = host.function("0000:3b:00.0", NIC)
    host.folder(f"{folder}/sriov_numvfs")  # what the kernel says of an attribute that has gone is an error
    host.function("0000:3c:00.0", NIC)
    tree = host.tree
    assert list(read_devices(tree, Topology(tree))) == ["0000:3b:00.0", "0000:3c:00.0"]
    tree = Unplugging(host.root, "0000:3b:00.0")
    assert list(read_devices(tree, Topology(tree))) == ["0000:3c:00.0"]


def test_domains_may_be_longer_than_four_digits(host):
    host.function("10000:e1:00.0", NVME, under=["0000:00:0e.0"])
    assert list(devices_of(host)) == ["10000:e1:00.0"]


def test_a_pf_and_its_vfs_know_each_other(host):
    pf = host.function("0000:6b:00.0", NIC, sriov_totalvfs=8, sriov_numvfs=11)
    for index in range(11):  # ten comes after nine
        host.vf(pf, index, f"0000:6b:0{1 + index // 8}.{index % 8}", group=20 + index)
    found = devices_of(host)
    assert (found["0000:6b:00.0"]["total_vfs"], found["0000:6b:00.0"]["num_vfs"]) == (8, 11)
    assert found["0000:6b:00.0"]["vfs"][:2] == ["0000:6b:01.0", "0000:6b:01.1"]
    assert found["0000:6b:02.2"]["vf_index"] == 10
    assert found["0000:6b:02.2"]["physfn"] == "0000:6b:00.0"
    assert found["0000:6b:00.0"]["vf_index"] is None
    assert found["0000:6b:02.2"]["total_vfs"] is None


@pytest.mark.parametrize(("said", "fact"), [("1", True), ("0", False), (None, None)])
def test_that_drivers_are_kept_from_new_vfs_is_told(host, said, fact):
    host.function("0000:6b:00.0", NIC, **({"sriov_drivers_autoprobe": said} if said else {}))
    assert devices_of(host)["0000:6b:00.0"]["vf_autoprobe"] is fact


def test_all_functions_of_an_iommu_group_are_its_members(host):
    host.function("0000:3b:00.0", GPU, group=5)
    host.function("0000:3b:00.1", dict(GPU, class_id="040300"), group=5)
    host.function("0000:3c:00.0", GPU)
    found = devices_of(host)
    assert found["0000:3b:00.1"]["iommu_members"] == ["0000:3b:00.0", "0000:3b:00.1"]
    assert found["0000:3c:00.0"]["iommu_members"] == []


def test_the_driver_on_the_virtio_bus_is_told_besides_virtio_pci(host):
    kind = {"vendor": "1af4", "product": "1054", "class_id": "108000"}
    folder = host.function("0000:00:05.0", kind, driver="virtio-pci")
    host.file(f"{folder}/virtio3/modalias", "virtio:d00000014v00001AF4\n")
    host.link(f"{folder}/virtio3/driver", host.folder("/sys/bus/virtio/drivers/virtio_crypto"))
    host.file(
        f"/lib/modules/{RELEASE}/modules.alias",
        "# Aliases\nalias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\nalias virtio:d00000014v* virtio_crypto\n",
    )
    device = devices_of(host)["0000:00:05.0"]
    assert (device["driver"], device["function_driver"]) == ("virtio-pci", "virtio_crypto")
    assert device["modules"] == ["virtio_pci", "virtio_crypto"]


def test_the_kernels_word_for_no_override_is_none(host):
    host.function("0000:3b:00.0", NIC, driver_override="(null)")
    host.function("0000:3b:00.1", NIC, driver_override="vfio-pci")
    found = devices_of(host)
    assert [device["driver_override"] for device in found.values()] == [None, "vfio-pci"]


def test_a_node_that_the_firmware_does_not_tell_is_none(host):
    host.function("0000:3b:00.0", NIC, numa_node="-1")
    assert devices_of(host)["0000:3b:00.0"]["numa_node"] is None


def test_a_link_that_the_kernel_does_not_know_is_unknown(host):
    host.function("0000:3b:00.0", NIC, current_link_speed="Unknown", current_link_width=8)
    device = devices_of(host)["0000:3b:00.0"]
    assert "unknown" in device["link_speed"]
    assert (device["link_width"], device["link_speed_max"]) == (8, None)


def test_net_names_macs_and_slot_are_told(host):
    folder = host.function("0000:3b:00.0", NIC)
    host.net("ens1", folder, mac="52:54:00:00:00:99")
    host.file("/sys/class/net/ens1/bonding_slave/perm_hwaddr", "52:54:00:12:34:56\n")
    host.file("/sys/bus/pci/slots/4/address", "0000:3b:00\n")
    device = devices_of(host)["0000:3b:00.0"]
    assert (device["net_names"], device["slot"]) == (["ens1"], "4")
    assert device["macs"] == ["52:54:00:12:34:56"]  # its own, not that of the bond


def test_an_nvme_controller_tells_its_serial_and_its_disks(host):
    host.nvme(0, host.function("0000:02:00.0", NVME))
    device = devices_of(host)["0000:02:00.0"]
    assert device["serial"] == "S5XYNX0R000042"
    assert (device["nvme_names"], device["block_names"]) == (["nvme0"], ["nvme0n1", "nvme0n1p1", "nvme0n1p2"])


def test_a_namespace_with_two_paths_belongs_to_both_controllers(host):
    paths = [host.function(f"0000:0{bus}:00.0", NVME) for bus in (2, 3)]
    host.block("nvme0n1", "259:0", "/sys/devices/virtual/nvme-subsystem/nvme-subsys0")
    host.link("/sys/class/nvme-subsystem/nvme-subsys0", "/sys/devices/virtual/nvme-subsystem/nvme-subsys0")
    for index, path in enumerate(paths):
        controller = host.folder(f"{path}/nvme/nvme{index}")
        host.link(f"/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme{index}", controller)
        host.link(f"/sys/class/block/nvme0c{index}n1", host.folder(f"{controller}/nvme0c{index}n1"))
    assert [device["block_names"] for device in devices_of(host).values()] == [["nvme0n1"], ["nvme0n1"]]


def test_vital_product_data_give_serial_and_part_number(host):
    folder = host.function("0000:3b:00.0", GPU)
    host.file(f"{folder}/vpd", vpd(PN="900-21001", SN="13205\x1b[2J"))
    device = devices_of(host)["0000:3b:00.0"]
    assert (device["part_number"], device["serial"]) == ("900-21001", "13205\\x1b[2J")


def test_vital_product_data_that_are_no_utf_8_are_spelled(host):
    folder = host.function("0000:3b:00.0", GPU)
    host.file(f"{folder}/vpd", vpd(SN="S?1").replace(b"S?1", b"S\xff1"))
    assert devices_of(host)["0000:3b:00.0"]["serial"] == "S\\xff1"


def test_vital_product_data_that_make_no_sense_are_unknown(host):
    folder = host.function("0000:3b:00.0", GPU)
    host.file(f"{folder}/vpd", b"\xff" * 200)
    assert "unknown" in devices_of(host)["0000:3b:00.0"]["serial"]


def test_vital_product_data_of_other_classes_are_left_alone(host):
    folder = host.function("0000:00:1f.0", dict(BRIDGE, class_id="060100"))
    host.file(f"{folder}/vpd", vpd(SN="1"))
    device = devices_of(host)["0000:00:1f.0"]
    assert device["serial"] == device["part_number"]
    assert device["serial"]["unknown"].startswith("/sys/bus/pci/devices/0000:00:1f.0/vpd: not read: ")


def test_without_vital_product_data_there_is_no_serial(host):
    host.function("0000:3b:00.0", GPU)
    host.function("0000:00:1f.0", BRIDGE)
    assert [device["serial"] for device in devices_of(host).values()] == [None, None]


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_vital_product_data_cut_short_never_crash(cut):
    data = vpd(PN="900-21001", SN="13205")[:cut]
    try:
        assert set(parse_vpd(data)) <= {"PN", "SN"}
    except ValueError:
        assert data


def test_mdev_types_say_how_many_are_left(host):
    folder = host.function("0000:3b:00.0", GPU)
    host.file(f"{folder}/mdev_supported_types/nvidia-63/name", "GRID P4-1Q\n")
    host.file(f"{folder}/mdev_supported_types/nvidia-63/available_instances", "8\n")
    found = devices_of(host)["0000:3b:00.0"]["mdev_types"]
    assert found == [{"type_id": "nvidia-63", "name": "GRID P4-1Q", "available": 8}]


def test_what_an_mdev_type_is_called_may_be_unknown(host):
    folder = host.function("0000:3b:00.0", GPU)
    host.folder(f"{folder}/mdev_supported_types/nvidia-63/name")
    assert "Is a directory" in devices_of(host)["0000:3b:00.0"]["mdev_types"][0]["name"]["unknown"]


@pytest.mark.parametrize("name", ["address", "bonding_slave/perm_hwaddr"])
def test_a_mac_that_cannot_be_read_is_unknown(host, name):
    place = host.net("ens1", host.function("0000:3b:00.0", NIC))
    os.unlink(host.real(f"{place}/address"))
    host.folder(f"{place}/{name}")
    assert "Is a directory" in devices_of(host)["0000:3b:00.0"]["macs"]["unknown"]


def test_slots_that_cannot_be_listed_are_unknown(host):
    host.function("0000:3b:00.0", NIC)
    host.file("/sys/bus/pci/slots", "no folder")
    assert "Not a directory" in devices_of(host)["0000:3b:00.0"]["slot"]["unknown"]
