# SPDX-License-Identifier: Apache-2.0
"""Is the lab what its tests take it for: real hosts, real devices, real refusals of the kernel?"""

import pytest

from tests.lab.connection import CommandFailed, GuestUnreachable
from tests.lab.machine import EDU, NVME, VIRTIO_CRYPTO

IGB = "/sys/bus/pci/devices/0000:01:00.0"
SET_VFS = f"echo {{}} | sudo tee {IGB}/sriov_numvfs"
VF_ADDRESSES = f"for vf in {IGB}/virtfn*; do basename $(readlink $vf); done"
BIND_VFIO = """
modprobe vfio-pci
for vf in {vfs}; do
    echo vfio-pci >/sys/bus/pci/devices/$vf/driver_override
    [ ! -e /sys/bus/pci/devices/$vf/driver ] || echo $vf >/sys/bus/pci/devices/$vf/driver/unbind
    echo $vf >/sys/bus/pci/drivers_probe
done
"""


def test_a_guest_answers_an_ordinary_user_who_may_sudo(guest):
    assert guest.ssh("id -un; sudo id -un; hostname").split() == ["lab", "root", "node1"]


def test_igb_refuses_vfs_as_hardware_does_and_its_vfs_bind_to_vfio(guest):
    assert guest.ssh(f"cat {IGB}/sriov_totalvfs {IGB}/sriov_numvfs").split() == ["7", "0"]
    guest.ssh(SET_VFS.format(4))
    with pytest.raises(CommandFailed, match="Device or resource busy"):
        guest.ssh(SET_VFS.format(6))
    with pytest.raises(CommandFailed, match="Numerical result out of range"):
        guest.ssh(SET_VFS.format(99))

    vfs = guest.ssh(VF_ADDRESSES).split()
    assert len(vfs) == 4
    groups = guest.ssh("".join(f"readlink /sys/bus/pci/devices/{vf}/iommu_group;" for vf in vfs)).split()
    assert len(set(groups)) == 4
    guest.ssh("sudo sh -eu", stdin=BIND_VFIO.format(vfs=" ".join(vfs)))
    drivers = guest.ssh("".join(f"basename $(readlink /sys/bus/pci/devices/{vf}/driver);" for vf in vfs)).split()
    assert drivers == ["vfio-pci"] * 4


def test_hot_plugged_devices_are_there_and_go_again(guest):
    edu = guest.hot_plug(EDU, "rp2")
    crypto = guest.hot_plug(VIRTIO_CRYPTO, "rp3")
    nvme = guest.hot_plug(NVME, "rp4")
    ids = guest.ssh(f"cd /sys/bus/pci/devices; cat {edu}/vendor {edu}/device {crypto}/vendor {crypto}/device").split()
    assert ids == ["0x1234", "0x11e8", "0x1af4", "0x1054"]
    assert guest.ssh(f"udevadm settle; cat /sys/bus/pci/devices/{nvme}/sriov_totalvfs; lsmod").split()[0] == "4"
    virtio = guest.ssh(f"readlink -f /sys/bus/pci/devices/{crypto}/virtio*/driver").strip()
    assert virtio == "/sys/bus/virtio/drivers/virtio_crypto"

    guest.hot_unplug(VIRTIO_CRYPTO)
    with pytest.raises(CommandFailed):
        guest.ssh(f"ls /sys/bus/pci/devices/{crypto}")


def test_two_guests_differ_and_neither_passes_for_the_other(two_guests):
    one, other = two_guests
    identity = "hostname; cat /etc/machine-id; cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2"
    assert not set(one.ssh(identity).split()) & set(other.ssh(identity).split())

    keys = one.known_hosts.read_text().split()[1:]
    other.leave_ssh()
    other.known_hosts.write_text(" ".join([f"[127.0.0.1]:{other.ssh_port}", *keys]))
    with pytest.raises(GuestUnreachable, match="Host key verification failed"):
        other.ssh("true")


def test_an_argument_set_in_grub_runs_after_one_reboot_of_a_guest_with_a_boot_loader(grub_guest):
    before = grub_guest.boot_id()
    assert "BOOT_IMAGE=" in grub_guest.ssh("cat /proc/cmdline")
    edit = "sed -i 's/=\"console/=\"cyborg.lab=1 console/' /etc/default/grub.d/lab.cfg; update-grub"
    grub_guest.ssh("sudo sh -eu", stdin=edit)
    grub_guest.reboot()
    assert "cyborg.lab=1" in grub_guest.ssh("cat /proc/cmdline")
    assert grub_guest.boot_id() != before
    assert grub_guest.reboot_count() == 1


def test_a_guest_booted_by_qemu_has_a_grub_configuration_without_effect(guest):
    assert "BOOT_IMAGE=" not in guest.ssh("cat /proc/cmdline")
    assert "intel_iommu=on" in guest.ssh("sudo grep -h intel_iommu /etc/default/grub.d/lab.cfg /boot/grub/grub.cfg")


def test_a_guest_without_power_is_unreachable_and_comes_back_where_it_was(guest):
    guest.power_off()
    with pytest.raises(GuestUnreachable, match="powered off"):
        guest.ssh("true")
    port = guest.ssh_port
    guest.power_on()
    guest.wait_ssh()
    assert guest.ssh("hostname").strip() == "node1"
    assert guest.ssh_port == port


def test_a_guest_that_hangs_while_it_boots_is_told_of_and_reset_and_that_is_no_reboot(guest, capfd):
    before = guest.boot_id()
    guest.leave_ssh()
    guest.qmp.command("system_reset")
    guest.qmp.command("stop")  # the hang: nothing of it runs any more
    guest.wait_ssh()
    assert guest.boot_id() != before
    assert (guest.hangs, guest.reboot_count()) == (1, 1)
    assert "node1 hangs while it boots, and is reset\nCPU#0" in capfd.readouterr().err
