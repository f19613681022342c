# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.persistence import (
    collapse,
    device_file,
    expand,
    parse_device,
    read_boot_facts,
    read_device,
    render_device,
)
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable
from ansible_collections.openstack.cyborg.tests.unit.host_tree import HostTree

ADDRESS = "0000:6b:00.0"


def test_what_is_written_down_is_read_back(tmp_path):
    host = HostTree(tmp_path)
    ranges = [{"vfs": "0-3", "driver": "vfio-pci"}, {"vfs": "5", "driver": "igbvf"}]
    host.file(device_file(ADDRESS), render_device(ADDRESS, {}, num_vfs=8, vf_drivers=ranges))
    assert read_device(host.tree, ADDRESS) == {"num_vfs": 8, "vf_drivers": ranges, "driver": None}
    assert read_boot_facts(host.tree, [ADDRESS, "0000:6b:00.1"]) == {
        ADDRESS: {"boot_num_vfs": 8, "boot_vf_drivers": ranges, "boot_driver": None}
    }


@pytest.mark.parametrize(
    "text", ["", "[]", '{"version": 2}', '{"version": 1, "num_vfs": -1}', '{"version": 1, "driver": 5}']
)
def test_a_file_that_is_not_ours_is_unknown_and_not_nothing(tmp_path, text):
    host = HostTree(tmp_path)
    host.file(device_file(ADDRESS), text)
    with pytest.raises(Unreadable, match=r"0000:6b:00\.0\.json"):
        read_device(host.tree, ADDRESS)
    assert "unknown" in read_boot_facts(host.tree, [ADDRESS])[ADDRESS]["boot_num_vfs"]


def test_nothing_is_persisted_for_a_device_without_a_file(tmp_path):
    assert read_device(HostTree(tmp_path).tree, ADDRESS) == {"num_vfs": None, "vf_drivers": [], "driver": None}


def test_neighbouring_ranges_of_one_driver_have_one_spelling():
    text = render_device(ADDRESS, {}, vf_drivers=[{"vfs": "2-3", "driver": "a"}, {"vfs": "0-1", "driver": "a"}])
    assert parse_device(text)["vf_drivers"] == [{"vfs": "0-3", "driver": "a"}]


def test_vfs_without_a_driver_interrupt_a_range():
    assert collapse({0: "a", 1: None, 2: "a"}) == [{"vfs": "0", "driver": "a"}, {"vfs": "2", "driver": "a"}]


@pytest.mark.parametrize("vfs", ["3-1", "-1", "a", "", "0-999999999"])
def test_what_is_no_range_of_vfs_is_refused(vfs):
    with pytest.raises(ValueError, match=r"."):
        expand([{"vfs": vfs, "driver": "a"}])


def test_a_vf_has_one_driver():
    with pytest.raises(ValueError, match="VF 1 is given twice"):
        expand([{"vfs": "0-1", "driver": "a"}, {"vfs": "1-2", "driver": "b"}])
