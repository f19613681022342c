# SPDX-License-Identifier: Apache-2.0
"""The simulated host boots from what lies on its disk, and forgets the rest."""

import json
import os
import threading
from dataclasses import replace

import pytest

from cyborg_reconciler.simulation import gpu_1, nic_1, qat_1, rocky, write_tree
from cyborg_reconciler.simulation.boot import MARK, is_interrupted
from cyborg_reconciler.simulation.kernel import Kernel
from cyborg_reconciler.simulation.tools import run
from cyborg_reconciler.simulation.tree import Tree

PF = "/sys/bus/pci/devices/0000:6b:00.0"
DROP_IN = "/etc/default/grub.d/zz-cyborg-reconciler.cfg"


def boot(machine, folder):
    write_tree(machine, folder)
    return Kernel(Tree(folder))


@pytest.fixture
def qat(tmp_path):
    return boot(qat_1(), tmp_path)


def running(kernel):
    return kernel.tree.text("/proc/cmdline").split()


# ---------------------------------------------------------------------------------------------------------- boot loader
def test_an_argument_runs_after_update_grub_and_a_reboot_and_not_before(qat):
    qat.tree.write(DROP_IN, 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX intel_iommu=on iommu=pt"\n')
    assert "intel_iommu=on" not in qat.tree.text("/boot/grub/grub.cfg")

    result = run(qat, ["update-grub"])
    assert result.rc == 0
    assert "Found linux image: /boot/vmlinuz-6.1.0-28-amd64" in result.stderr
    assert "ro intel_iommu=on iommu=pt quiet\n" in qat.tree.text("/boot/grub/grub.cfg")
    assert "intel_iommu=on" not in running(qat)

    run(qat, ["reboot"])
    assert {"intel_iommu=on", "iommu=pt", "quiet"} <= set(running(qat))


def test_without_update_grub_a_reboot_brings_nothing(qat):
    qat.tree.write(DROP_IN, 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX intel_iommu=on"\n')
    run(qat, ["reboot"])
    assert "intel_iommu=on" not in running(qat)


def test_fixed_arguments_never_change(tmp_path):
    kernel = boot(replace(qat_1(), boot_args_fixed=True), tmp_path)
    before = running(kernel)
    kernel.tree.write(DROP_IN, 'GRUB_CMDLINE_LINUX="intel_iommu=on"\n')
    run(kernel, ["update-grub"])
    run(kernel, ["reboot"])
    assert running(kernel) == before


def test_settings_that_are_no_shell_leave_the_menu_alone(qat):
    before = qat.tree.text("/boot/grub/grub.cfg")
    qat.tree.write(DROP_IN, 'GRUB_CMDLINE_LINUX="quiet\n')
    result = run(qat, ["update-grub"])
    assert result.rc == 1
    assert "zz-cyborg-reconciler.cfg" in result.stderr
    assert qat.tree.root not in result.stderr
    assert qat.tree.text("/boot/grub/grub.cfg") == before


def test_a_menu_without_a_kernel_does_not_boot(qat):
    qat.tree.replace("/boot/grub/grub.cfg", "# nothing\n")
    assert run(qat, ["reboot"]).stderr == "grub.cfg holds no kernel\n"


def test_the_newest_kernel_boots_unless_another_is_the_default(tmp_path):
    kernel = boot(replace(qat_1(), kernels=("6.1.0-30-amd64", "6.1.0-9-amd64")), tmp_path)
    assert run(kernel, ["uname", "-r"]).stdout == "6.1.0-30-amd64\n"

    kernel.tree.write(DROP_IN, "GRUB_DEFAULT=2\n")  # after it and its recovery mode
    run(kernel, ["update-grub"])
    run(kernel, ["reboot"])
    assert run(kernel, ["uname", "-r"]).stdout == "6.1.0-9-amd64\n"
    assert kernel.modules.is_loaded("qat_4xxx")


def test_on_the_red_hat_family_grubby_changes_the_entries(tmp_path):
    kernel = boot(rocky(qat_1()), tmp_path)
    result = run(kernel, ["grubby", "--update-kernel=ALL", "--args=intel_iommu=on iommu=pt"])
    assert result.rc == 0
    assert 'args="ro intel_iommu=on iommu=pt"' in run(kernel, ["grubby", "--info=DEFAULT"]).stdout
    run(kernel, ["reboot"])
    assert running(kernel)[-2:] == ["intel_iommu=on", "iommu=pt"]

    run(kernel, ["grubby", "--update-kernel", "ALL", "--remove-args", "iommu", "--args", "intel_iommu=off"])
    info = run(kernel, ["grubby", "--info", run(kernel, ["grubby", "--default-kernel"]).stdout.strip()]).stdout
    assert 'args="ro intel_iommu=off"' in info
    assert run(kernel, ["grubby", "--info=/boot/vmlinuz-5.10"]).rc == 1

    words = 'hugepagesz=2M hugepagesz=1G dyndbg="file a.c +p"'
    run(kernel, ["grubby", "--update-kernel=DEFAULT", f"--args={words}"])
    run(kernel, ["grubby", "--update-kernel=DEFAULT", "--remove-args=hugepagesz=2M"])
    run(kernel, ["reboot"])
    assert kernel.tree.text("/proc/cmdline").endswith(' ro intel_iommu=off hugepagesz=1G dyndbg="file a.c +p"')


@pytest.mark.parametrize(
    ("file", "is_older", "words"),
    [("root=a ro b=1\n", False, "root=a ro b=1"), ("root=a ro b=1\n", True, "ro c=2"), (None, False, "ro")],
)
def test_a_new_kernel_takes_its_arguments_from_a_file_unless_the_settings_are_newer(tmp_path, file, is_older, words):
    kernel = boot(rocky(qat_1()), tmp_path)
    run(kernel, ["grubby", "--update-kernel=ALL", "--args=a=0"])  # entries that exist do not count
    kernel.tree.replace("/etc/default/grub", 'GRUB_CMDLINE_LINUX="c=2"\n')
    path = tmp_path / "etc/kernel/cmdline"
    path.unlink()
    if file is not None:
        path.write_text(file)
        os.utime(path, ns=(0, 0)) if is_older else os.utime(tmp_path / "etc/default/grub", ns=(0, 0))
    assert run(kernel, ["kernel-install", "add", "5.14.0-999.el9.x86_64"]).rc == 0
    entry = f"/boot/loader/entries/{kernel.tree.text('/etc/machine-id')}-5.14.0-999.el9.x86_64.conf"
    options = next(line for line in kernel.tree.text(entry).splitlines() if line.startswith("options "))
    assert options.endswith(f" {words}")


# --------------------------------------------------------------------------------------------------------------- reboot
def test_a_reboot_forgets_vfs_overrides_processes_and_the_boot_id(qat):
    run(qat, ["modprobe", "vfio-pci"])
    qat.write(f"{PF}/sriov_numvfs", "2")
    qat.write("/sys/bus/pci/devices/0000:6b:00.1/driver_override", "vfio-pci")
    qat.write("/sys/bus/pci/drivers_probe", "0000:6b:00.1")
    qat.write("/sys/bus/pci/drivers/vfio-pci/new_id", "8086 4941")
    pid = qat.hold("0000:6b:00.1", "qemu")
    boot_id = qat.tree.text("/proc/sys/kernel/random/boot_id")

    assert run(qat, ["reboot"]).rc == 0

    assert qat.tree.text(f"{PF}/sriov_numvfs") == "0"
    assert not qat.tree.exists("/sys/bus/pci/devices/0000:6b:00.1")
    assert not qat.tree.exists(f"/proc/{pid}")
    assert not qat.modules.is_loaded("vfio_pci")
    assert qat.tree.text("/proc/sys/kernel/random/boot_id") != boot_id
    run(qat, ["modprobe", "vfio-pci"])
    qat.write(f"{PF}/sriov_numvfs", "2")
    assert qat.pci.driver("0000:6b:00.1") is None


def test_modules_load_d_loads_unless_blacklisted(qat):
    qat.tree.write("/etc/modules-load.d/cyborg-vfio_pci.conf", "# for VFs\nvfio-pci\n")
    run(qat, ["reboot"])
    assert qat.modules.is_loaded("vfio_pci")

    qat.tree.write("/etc/modprobe.d/cyborg-vfio_pci.conf", "blacklist vfio_pci\n")
    run(qat, ["reboot"])
    assert not qat.modules.is_loaded("vfio_pci")


def test_a_blacklist_that_the_initramfs_does_not_know_is_no_use_against_what_it_loads(tmp_path):
    kernel = boot(gpu_1(), tmp_path)
    kernel.tree.write("/etc/modprobe.d/cyborg-nouveau.conf", "blacklist nouveau\n")
    run(kernel, ["reboot"])
    assert kernel.modules.is_loaded("nouveau")
    assert "/nouveau.ko\n" in run(kernel, ["lsinitramfs", "/boot/initrd.img-6.1.0-28-amd64"]).stdout

    assert run(kernel, ["update-initramfs", "-u", "-k", "6.1.0-28-amd64"]).rc == 0
    run(kernel, ["reboot"])
    assert not kernel.modules.is_loaded("nouveau")
    assert kernel.pci.driver("0000:3b:00.0") == "nvidia"


def test_arguments_blacklist_and_set_options_too(tmp_path):
    args = "modprobe.blacklist=nouveau snd_hda_intel.power_save=0"
    kernel = boot(replace(gpu_1(), grub_args=args), tmp_path)
    assert not kernel.modules.is_loaded("nouveau")
    assert kernel.tree.text("/sys/module/snd_hda_intel/parameters/power_save") == "0"


def test_an_iommu_that_needs_its_argument_makes_groups_only_with_it(tmp_path):
    kernel = boot(replace(qat_1(), iommu="argument"), tmp_path)
    assert kernel.tree.names("/sys/kernel/iommu_groups") == []
    kernel.tree.write(DROP_IN, 'GRUB_CMDLINE_LINUX="intel_iommu=on"\n')
    run(kernel, ["update-grub"])
    run(kernel, ["reboot"])
    assert len(kernel.tree.names("/sys/kernel/iommu_groups")) == len(kernel.machine.functions)


def test_a_boot_that_was_cut_off_is_seen(qat):
    assert not is_interrupted(qat.tree)
    qat.tree.write(MARK, "")
    assert is_interrupted(qat.tree)
    qat.boot()
    assert not is_interrupted(qat.tree)


def test_the_disk_and_who_the_host_is_outlive_a_reboot(qat):
    identity = [qat.tree.text(name) for name in ("/etc/machine-id", "/sys/class/dmi/id/product_uuid")]
    qat.tree.write("/var/lib/cyborg-reconciler/ownership.json", "{}")
    qat.tree.write("/run/cyborg-reconciler/lock", "")
    run(qat, ["reboot"])
    assert [qat.tree.text(name) for name in ("/etc/machine-id", "/sys/class/dmi/id/product_uuid")] == identity
    assert qat.tree.text("/var/lib/cyborg-reconciler/ownership.json") == "{}"
    assert not qat.tree.exists("/run/cyborg-reconciler/lock")
    assert qat.tree.exists("/run/udev/control")


# --------------------------------------------------------------------------------------------------------- udev, units
RULE = (
    'ACTION=="add|bind", SUBSYSTEM=="pci", KERNEL=="0000:6b:00.0", TAG+="systemd", \\\n'
    'ENV{SYSTEMD_WANTS}+="cyborg-device@%k.service"\n'
)
UNIT = """[Unit]
Description=State of %I
ConditionPathExists=/etc/cyborg-reconciler/devices/%i.json
[Service]
Type=oneshot
Environment=ANSWER=42
ExecStart=/usr/local/bin/note %i
"""
NOTE = '#!/bin/sh\necho "$1 $ANSWER" >> "$CYBORG_ROOT/var/notes"\ntest "$1" != fails\n'


@pytest.fixture
def ruled(qat):
    qat.tree.write("/etc/udev/rules.d/71-cyborg-0000:6b:00.0.rules", RULE)
    qat.tree.write("/etc/systemd/system/cyborg-device@.service", UNIT)
    qat.tree.write("/usr/local/bin/note", NOTE, 0o755)
    qat.tree.write("/etc/cyborg-reconciler/devices/0000:6b:00.0.json", "{}")
    return qat


def test_a_rule_starts_its_unit_once_at_boot(ruled):
    run(ruled, ["reboot"])
    assert ruled.tree.text("/var/notes") == "0000:6b:00.0 42"
    assert run(ruled, ["systemctl", "is-active", "cyborg-device@0000:6b:00.0"]).stdout == "active\n"


def test_a_rule_starts_its_unit_when_the_driver_comes_back(ruled):
    run(ruled, ["modprobe", "-r", "qat_4xxx"])
    assert not ruled.tree.exists("/var/notes")
    run(ruled, ["modprobe", "qat_4xxx"])
    run(ruled, ["udevadm", "settle"])
    assert ruled.tree.text("/var/notes") == "0000:6b:00.0 42"


def test_a_unit_whose_condition_does_not_hold_is_skipped(ruled):
    ruled.tree.remove("/etc/cyborg-reconciler/devices/0000:6b:00.0.json")
    run(ruled, ["reboot"])
    assert not ruled.tree.exists("/var/notes")


def test_trigger_sends_the_events_again(ruled):
    run(ruled, ["udevadm", "trigger", "--action=add", "--sysname-match=0000:6b:00.0"])
    run(ruled, ["udevadm", "settle"])
    assert ruled.tree.text("/var/notes") == "0000:6b:00.0 42"
    run(ruled, ["udevadm", "trigger", "-c", "change"])
    run(ruled, ["udevadm", "settle"])
    assert ruled.tree.text("/var/notes") == "0000:6b:00.0 42"
    assert run(ruled, ["udevadm", "frobnicate"]).rc == 1


def test_systemctl_starts_enables_and_says_what_failed(ruled):
    ruled.tree.write("/etc/cyborg-reconciler/devices/fails.json", "{}")
    unit = "cyborg-device@fails.service"
    result = run(ruled, ["systemctl", "start", unit])
    assert result.rc == 1
    assert f"Job for {unit} failed" in result.stderr
    assert run(ruled, ["systemctl", "is-active", unit]).stdout == "failed\n"
    assert run(ruled, ["systemctl", "stop", unit]).rc == 0
    assert run(ruled, ["systemctl", "is-active", unit]).stdout == "inactive\n"
    assert run(ruled, ["systemctl", "start", "no-such"]).rc == 5

    assert run(ruled, ["systemctl", "is-enabled", unit]).rc == 1
    run(ruled, ["systemctl", "enable", unit])
    assert run(ruled, ["systemctl", "is-enabled", unit]).stdout == "enabled\n"
    run(ruled, ["systemctl", "disable", unit])
    assert run(ruled, ["systemctl", "is-enabled", unit]).rc == 1
    assert run(ruled, ["systemctl", "daemon-reload"]).rc == 0


def test_writers_at_once_do_not_get_in_each_others_way(tmp_path):
    kernel = boot(nic_1(), tmp_path)
    ports = [f"/sys/bus/pci/devices/0000:ca:00.{n}/sriov_numvfs" for n in (0, 1)]
    threads = [threading.Thread(target=kernel.write, args=(port, "8")) for port in ports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [kernel.tree.text(port) for port in ports] == ["8", "8"]
    groups = kernel.tree.names("/sys/kernel/iommu_groups")
    members = [kernel.tree.names(f"/sys/kernel/iommu_groups/{group}/devices") for group in groups]
    assert len(members) == len(kernel.machine.functions) + 16
    assert all(len(each) == 1 for each in members)


def test_the_machine_is_kept_beside_the_tree(qat):
    assert json.loads(qat.tree.text("/.simulation/machine.json"))["name"] == "qat-1"
    assert qat.machine == replace(qat_1(), modules=())
