# SPDX-License-Identifier: Apache-2.0
"""The main job on real kernels: declared, applied over SSH, verified, kept over a reboot, and taken away again."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.openstack.cyborg.plugins.action.apply_plan import BOOT_ENDED
from tests.lab.console import Console
from tests.lab.guest import Guest
from tests.lab.machine import VIRTIO_CRYPTO

IGB = "0000:01:00.0"
PCI = "/sys/bus/pci/devices"
PF = {"device_selector": {"vendor_id": "8086", "product_id": "10c9"}}
FOUR_VFS = {**PF, "sriov": {"num_vfs": 4, "vf_driver": "vfio-pci"}}

#: What the VFs of the igb are bound to, in their order.
VF_DRIVERS = f"""
for vf in $(ls -d {PCI}/{IGB}/virtfn* | sort -V); do
    basename $(readlink $(readlink -f $vf)/driver || echo none)
done 2>/dev/null
"""


@pytest.fixture
def console(tmp_path: Path) -> Callable[..., Console]:
    return lambda *guests: Console(tmp_path / "operator", guests)


def vf_drivers(guest: Guest) -> list[str]:
    return guest.ssh(VF_DRIVERS).split()


def vf_count(guest: Guest) -> int:
    return int(guest.ssh(f"cat {PCI}/{IGB}/sriov_numvfs"))


@pytest.mark.slow
def test_vfs_appear_survive_a_reboot_grow_and_go_when_undeclared(guest, console):
    at = console(guest)
    at.declare("vfs", **FOUR_VFS)
    plan = at.plan()
    assert plan.code == 2, plan.errors
    assert guest.ssh("sudo stat -c '%U %a' /root/.cache/openstack.cyborg").split() == ["root", "700"]
    at.must_apply()
    assert vf_drivers(guest) == ["vfio-pci"] * 4

    again = at.must_apply()
    assert again.data["summary"]["hosts_changing"] == 0
    assert "outcome" not in again.host("node1")

    guest.reboot()
    guest.ssh("sudo sh", stdin=BOOT_ENDED)
    assert vf_drivers(guest) == ["vfio-pci"] * 4
    assert at.plan().code == 0

    at.declare("vfs", **PF, sriov={"num_vfs": 6, "vf_driver": "vfio-pci"})
    at.must_apply()
    assert vf_drivers(guest) == ["vfio-pci"] * 6

    at.undeclare("vfs")
    at.declare("idle", device_selector={"vendor_id": "ffff"}, sriov={"num_vfs": 1})
    at.must_apply()
    assert vf_count(guest) == 0
    left = guest.ssh("sudo find /etc /usr/local/lib -name '*cyborg*' -o -path '*cyborg-reconciler/*' -type f")
    assert left.split() == []


@pytest.mark.slow
def test_a_vf_in_use_is_refused_and_its_holder_named(guest, console):
    at = console(guest)
    at.declare("vfs", **FOUR_VFS)
    at.must_apply()
    group = guest.ssh(f"basename $(readlink $(readlink -f {PCI}/{IGB}/virtfn3)/iommu_group)").strip()
    guest.ssh(f"sudo systemd-run -q --unit=holder sh -c 'exec sleep 10000 <>/dev/vfio/{group}'")
    at.declare("vfs", **PF, sriov={"num_vfs": 2, "vf_driver": "vfio-pci"})
    answer = at.apply()
    assert answer.code == 2
    assert "VF 3 is held by sleep" in answer.waits("node1")["DeviceInUse"]
    assert vf_count(guest) == 4

    guest.ssh("sudo systemctl stop holder")
    at.must_apply()
    assert vf_count(guest) == 2


def test_virtio_crypto_is_unbound_and_bound_back(guest, console):
    address = guest.hot_plug(VIRTIO_CRYPTO, "rp3")
    driver = f"basename $(readlink {PCI}/{address}/driver || echo none)"
    at = console(guest)
    at.declare("crypto", device_selector={"addresses": [address]}, binding={"driver": "vfio-pci"})
    at.must_apply()
    assert guest.ssh(driver).strip() == "vfio-pci"
    at.declare("crypto", device_selector={"addresses": [address]}, driver={"name": "virtio-crypto"})
    at.must_apply()
    assert guest.ssh(driver).strip() == "virtio-pci"
    assert guest.ssh(f"basename $(readlink -f {PCI}/{address}/virtio*/driver)").strip() == "virtio_crypto"


def test_a_module_is_blacklisted_and_unloaded_once_nobody_holds_it(guest, console):
    guest.ssh("sudo modprobe loop && sudo truncate -s 1M /var/tmp/image && sudo losetup /dev/loop0 /var/tmp/image")
    at = console(guest)
    at.declare("no-loop", kernel_modules={"blacklist": ["loop"]})
    answer = at.apply()
    assert answer.code == 2
    assert "loop" in answer.waits("node1")["ModuleInUse"]
    guest.ssh("sudo losetup -d /dev/loop0")
    at.must_apply()
    assert "loop" not in guest.ssh("lsmod").split()
    assert "blacklist loop" in guest.ssh("cat /etc/modprobe.d/cyborg-loop.conf")


def test_the_management_nic_and_the_root_disk_are_refused(guest, console):
    at = console(guest)
    at.declare("nic", device_selector={"addresses": ["0000:00:05.0"]}, binding={"driver": "vfio-pci"})
    at.declare("disk", device_selector={"addresses": ["0000:00:04.0"]}, binding={"driver": "vfio-pci"})
    answer = at.apply()
    assert answer.code == 2
    waiting = {(wait["target"], wait["reason"]) for wait in answer.host("node1")["waits"]}
    assert waiting == {("0000:00:05.0", "ProtectedDevice"), ("0000:00:04.0", "ProtectedDevice")}
    messages = " ".join(wait["message"] for wait in answer.host("node1")["waits"])
    assert "connection" in messages
    assert "root disk" in messages


def test_a_host_whose_key_is_not_the_known_one_is_unreachable(guest, console):
    """Nothing but our own setting has the key checked here: the inventory says nothing of it."""
    at = console(guest)
    inventory = at.inventory
    inventory["all"]["hosts"]["node1"]["ansible_ssh_common_args"] = f"-o UserKnownHostsFile={at.folder / 'known_hosts'}"
    at.write_inventory(inventory)
    at.declare("vfs", **FOUR_VFS)
    answer = at.apply()
    assert answer.code == 2
    assert "Host key verification failed" in answer.waits("node1")["Unreachable"]
    assert vf_count(guest) == 0


def test_kill_9_in_the_middle_of_an_apply_and_the_next_one_converges(guest, console):
    at = console(guest)
    at.declare("vfs", **FOUR_VFS)
    running = at.start("apply", "--yes")
    assert running.stdout is not None
    # "Observed in …" ends the look; what follows is the run that changes the host.
    for line in running.stdout:
        if line.startswith("Plan:"):
            break
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    running.stdout.close()
    at.must_apply()
    assert vf_drivers(guest) == ["vfio-pci"] * 4
    at.must_apply()


def test_a_guest_without_power_is_unreachable_and_the_other_goes_on(two_guests, console):
    on, off = two_guests
    at = console(on, off)
    at.declare("vfs", **FOUR_VFS)
    off.power_off()
    answer = at.apply()
    assert answer.code == 2
    assert list(answer.waits(off.name)) == ["Unreachable"]
    assert answer.host(on.name)["sync"] == "Synced"
    assert vf_drivers(on) == ["vfio-pci"] * 4
