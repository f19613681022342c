# SPDX-License-Identifier: Apache-2.0
"""Simulated hosts start, answer, end, and go on where they were."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cyborg_reconciler.simulation import SimulatedHosts, demo_machines, large, qat_1, write_tree

NUM_VFS = "/sys/bus/pci/devices/0000:6b:00.0/sriov_numvfs"
END_TIMEOUT_S = 10


@pytest.fixture
def host(tmp_path):
    with SimulatedHosts(tmp_path, [qat_1()]) as hosts:
        yield hosts["qat-1"]


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    with SimulatedHosts(tmp_path_factory.mktemp("lasting"), [qat_1()]) as hosts:
        yield hosts["qat-1"]


@pytest.fixture
def up(lasting):
    """A host without VFs, for tests that do not end it."""
    lasting.write(NUM_VFS, 0)
    return lasting


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid):
    until = time.monotonic() + END_TIMEOUT_S
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not is_alive(pid)


def test_a_users_write_reaches_the_kernel_and_its_error_the_user(up):
    up.write(NUM_VFS, 4)
    assert up.read(NUM_VFS) == "4"
    with pytest.raises(OSError, match="4 VFs already enabled") as caught:
        up.write(NUM_VFS, 8)
    assert caught.value.errno == errno.EBUSY
    assert caught.value.filename == NUM_VFS


def test_tools_are_programs_in_the_tree(up):
    program = up.root / "usr/sbin/modprobe"
    done = subprocess.run([program, "vfio-pci"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = subprocess.run([up.root / "sbin/rmmod", "vfio"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("rmmod: ERROR: Module vfio is in use by: vfio_iommu_type1 ")
    assert up.run("lsmod").stdout.startswith("Module ")


def test_a_tree_whose_path_is_long_and_has_spaces_works(tmp_path):
    folder = tmp_path / ("deep " * 12).strip() / ("deeper " * 12).strip()
    with SimulatedHosts(folder, [qat_1()]) as hosts:
        host = hosts["qat-1"]
        assert len(str(host.root)) > 108
        host.write(NUM_VFS, 1)
        done = subprocess.run([host.root / "usr/sbin/uname", "-n"], capture_output=True, text=True, check=False)
        assert done.stdout == "qat-1\n"


def test_a_program_holds_a_device_until_it_is_ended(up):
    up.run("modprobe", "vfio-pci")
    up.write(NUM_VFS, 1)
    up.write("/sys/bus/pci/devices/0000:6b:00.1/driver_override", "vfio-pci")
    up.write("/sys/bus/pci/drivers_probe", "0000:6b:00.1")
    assert up.link_name("/sys/bus/pci/devices/0000:6b:00.1/driver") == "vfio-pci"

    pid = up.hold("0000:6b:00.1", "qemu")
    with pytest.raises(OSError, match=f"in use by pid {pid}"):
        up.write(NUM_VFS, 0)
    up.release(pid)
    up.write(NUM_VFS, 0)


def test_a_killed_kernel_goes_on_from_its_tree(host):
    host.write(NUM_VFS, 3)
    os.kill(host.pid, signal.SIGKILL)
    host.power_off()
    with pytest.raises(OSError, match=r"No such file|Connection refused"):
        host.write(NUM_VFS, 0)

    host.power_on()
    assert host.read(NUM_VFS) == "3"
    host.write(NUM_VFS, 0)
    assert not host.exists("/sys/bus/pci/devices/0000:6b:00.1")


def test_a_tool_of_a_host_that_is_off_says_so(host):
    host.power_off()
    done = subprocess.run([host.root / "usr/sbin/modprobe", "vfio"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("modprobe: the simulated host is down: ")


def test_the_same_folder_gives_the_same_hosts_again(tmp_path):
    with SimulatedHosts(tmp_path, [qat_1()]) as hosts:
        hosts["qat-1"].write(NUM_VFS, 2)
        pid = hosts["qat-1"].pid
    assert not is_alive(pid)
    with SimulatedHosts(tmp_path, [qat_1()]) as hosts:
        assert hosts["qat-1"].read(NUM_VFS) == "2"


def test_a_boot_that_was_cut_off_is_done_again_at_the_next_start(tmp_path):
    write_tree(qat_1(), tmp_path / "qat-1")
    (tmp_path / "qat-1/.simulation/booting").touch()
    (tmp_path / "qat-1/proc/cmdline").unlink()
    with SimulatedHosts(tmp_path, [qat_1()]) as hosts:
        assert hosts["qat-1"].read("/proc/cmdline").endswith("ro quiet")


def test_the_processes_end_with_the_one_that_started_them(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from cyborg_reconciler.simulation import SimulatedHosts, qat_1\n"
        "hosts = SimulatedHosts(Path(sys.argv[1]), [qat_1()]).__enter__()\n"
        "print(hosts['qat-1'].pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert wait_until_gone(int(done.stdout))


def test_a_host_that_cannot_start_is_an_error_and_leaves_none_behind(tmp_path):
    (tmp_path / "qat-1/run").mkdir(parents=True)
    with pytest.raises(RuntimeError, match="the kernel of qat-1 did not start"), SimulatedHosts(tmp_path, [qat_1()]):
        pass


def test_a_reboot_through_the_hosts_own_program_returns_when_it_is_up(up):
    before = up.read("/proc/sys/kernel/random/boot_id")
    up.write(NUM_VFS, 4)
    done = subprocess.run([up.root / "usr/sbin/reboot"], check=False)
    assert done.returncode == 0
    assert up.read("/proc/sys/kernel/random/boot_id") != before
    assert up.read(NUM_VFS) == "0"


def test_a_host_without_a_kernel_says_why_it_does_not_boot(host):
    (host.root / "boot/grub/grub.cfg").write_text("", encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"qat-1 does not boot: grub\.cfg holds no kernel"):
        host.reboot()


@pytest.mark.parametrize("request_line", [b"[]\n", b"no json\n", b'{"write": "/sys"}\n', b'{"dance": 1}\n'])
def test_a_request_that_is_none_is_answered_and_harms_nothing(up, request_line):
    assert up.send(request_line)["errno"] == errno.EINVAL
    up.write(NUM_VFS, 1)


def test_the_inventory_lists_groups_labels_and_roots_and_an_off_host_is_out_of_reach(tmp_path):
    with SimulatedHosts(tmp_path, demo_machines()) as hosts:
        inventory = json.loads(hosts.inventory())["all"]
        assert set(inventory["children"]) == {"gpu", "crypto", "network"}
        variables = inventory["hosts"]["nic-1"]
        assert variables["ansible_connection"] == "local"
        assert variables["cyborg_root"] == str(tmp_path / "nic-1")
        assert variables["cyborg_labels"] == {"pool": "network"}

        hosts.power_off("nic-1")
        variables = json.loads(hosts.inventory_path.read_text(encoding="utf-8"))["all"]["hosts"]["nic-1"]
        assert (variables["ansible_connection"], variables["ansible_host"]) == ("ssh", "127.0.0.1")

        hosts.power_on("nic-1")
        assert hosts["nic-1"].read("/proc/sys/kernel/hostname") == "nic-1"
        assert len(hosts) == len(list(hosts)) == 3


def test_a_large_machine_has_as_many_functions_as_were_asked_for(tmp_path):
    write_tree(large(64), tmp_path)
    assert len(list((tmp_path / "sys/bus/pci/devices").iterdir())) == 64
    assert len(list((tmp_path / "sys/bus/pci/drivers/4xxx").glob("*:*"))) == 60
