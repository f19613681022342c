# SPDX-License-Identifier: Apache-2.0
"""A driver from a source tree on the controller: built by DKMS in a real guest, judged by fresh facts, taken away."""

from pathlib import Path

import pytest

from tests.lab.console import Console
from tests.lab.machine import EDU

SOURCE = Path(__file__).parent / "edu"


@pytest.mark.slow
def test_a_dkms_driver_is_installed_bound_verified_and_taken_away(guest, tmp_path):
    address = guest.hot_plug(EDU, "rp2")
    at = Console(tmp_path / "operator", [guest])
    at.declare_driver(
        "edu-lab",
        device_type="PROCESSING",
        match=[{"vendor_id": "1234", "product_id": ["11e8"]}],
        kernel_module="edu_lab",
        version="1.0",
        roles=dict.fromkeys(("install", "verify", "uninstall"), "openstack.cyborg.driver_dkms"),
        dkms={"path": str(SOURCE), "package": "edu_lab"},
    )
    at.declare("edu", device_selector={"vendor_id": "1234"}, driver={"name": "edu-lab", "version": "1.0"})
    at.must_apply()
    assert guest.ssh(f"basename $(readlink /sys/bus/pci/devices/{address}/driver)").strip() == "edu_lab"
    assert guest.ssh("cat /dev/edu_lab 2>/dev/null || sudo cat /dev/edu_lab").strip() == "010000ed"
    assert at.must_apply().data["summary"]["hosts_changing"] == 0

    guest.ssh("sudo systemd-run -q --unit=holder sh -c 'exec sleep 10000 </dev/edu_lab'")
    at.declare("edu", device_selector={"vendor_id": "1234"}, driver={"name": "edu-lab", "state": "absent"})
    held = at.apply()
    assert held.code == 2
    assert "sleep" in held.waits("node1")["ModuleInUse"]
    guest.ssh("sudo systemctl stop holder")

    at.must_apply()
    assert "edu_lab" not in guest.ssh("lsmod; sudo dkms status; ls /usr/src")
