# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import errno
import fcntl
import json
import os
import socketserver
import subprocess
import sys
import threading

import pytest

from ansible_collections.openstack.cyborg.tests.unit.host_tree import NIC, RELEASE, HostTree, simulate

MODULES = "ansible_collections.openstack.cyborg.plugins.modules"
PF = "0000:3b:00.0"
STATE_MODULES = {
    "sriov_vfs": {"address": PF, "num_vfs": 2},
    "device_binding": {"address": PF, "driver": "vfio-pci"},
    "kernel_module": {"name": "vfio-pci", "boot": True},
    "kernel_args": {"args": {"iommu": "pt"}},
}


class Kernel(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers writes to attributes as a kernel does that makes VFs, or as one that says *refusal*."""

    daemon_threads = True

    def __init__(self, host, refusal=0):
        self.host, self.refusal, self.written = host, refusal, []
        folder = os.open(host.real(host.folder("/run")), os.O_RDONLY)
        try:
            super().__init__(f"/proc/self/fd/{folder}/kernel.sock", Asked)
        finally:
            os.close(folder)

    def write(self, name, value):
        self.written.append((name.rpartition("/")[2], value))
        if self.refusal:
            return {"errno": self.refusal}
        self.host.file(name, value + "\n")
        if name.endswith("sriov_numvfs"):
            for index in range(int(value)):
                self.host.vf(os.path.dirname(name), index, f"0000:3b:00.{index + 1}")
        return {"errno": 0}


class Asked(socketserver.StreamRequestHandler):
    def handle(self):
        request = json.loads(self.rfile.readline())
        self.wfile.write(json.dumps(self.server.write(request["write"], request["value"])).encode() + b"\n")


@pytest.fixture
def host(tmp_path):
    host = HostTree(tmp_path / "host")
    host.function(PF, NIC, driver="igb", sriov_totalvfs=8, sriov_numvfs=0, sriov_drivers_autoprobe=1)
    host.function("0000:01:00.0", NIC, driver="igb", sriov_totalvfs=8, sriov_numvfs=0)
    host.block("vda", "252:0", host.function("0000:02:00.0", NIC, driver="virtio-pci"))
    host.mount("/", "252:0", "/dev/vda")
    host.net("eno1", "/sys/devices/pci0000:00/0000:01:00.0")
    host.route("eno1")
    return host


@pytest.fixture
def kernel_of():
    """Start the kernel of a host."""
    running = []

    def start(host, **answers):
        kernel = Kernel(host, **answers)
        running.append(kernel)
        threading.Thread(target=kernel.serve_forever, args=(0.05,), daemon=True).start()
        return kernel

    yield start
    for kernel in running:
        kernel.shutdown()
        kernel.server_close()


def run(module, options=None, **more):
    """Run a module as Ansible does: a process of its own that prints JSON."""
    done = subprocess.run(
        [sys.executable, "-m", f"{MODULES}.{module}"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": dict(options or {}, connection="local", **more)}),
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return json.loads(done.stdout)


def files_of(host):
    found = (os.path.join(folder, name) for folder, _folders, names in os.walk(host.root) for name in names)
    return {path[len(host.root) :] for path in found if "/run/" not in path}


def test_vfs_are_made_and_told_of(host, kernel_of):
    kernel = kernel_of(host)
    result = run("sriov_vfs", root=host.root, address=PF, num_vfs=2)
    assert result["changed"]
    assert result["before"] == {"num_vfs": 0, "vf_drivers": [], "boot_num_vfs": None, "boot_vf_drivers": []}
    assert result["after"] == {"num_vfs": 2, "vf_drivers": [], "boot_num_vfs": 2, "boot_vf_drivers": []}
    assert result["diff"] == {"before": result["before"], "after": result["after"]}
    assert kernel.written == [("sriov_numvfs", "2")]
    assert not run("sriov_vfs", root=host.root, address=PF, num_vfs=2)["changed"]


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (errno.EBUSY, f"{PF}: sriov_numvfs: 2: Device or resource busy (EBUSY): VFs are there already, or "),
        (errno.ENOENT, f"{PF}: sriov_numvfs: 2: No such file or directory (ENOENT): the driver that is bound makes "),
        (errno.ERANGE, f"{PF}: sriov_numvfs: 2: Numerical result out of range (ERANGE): more than the device supports"),
        (errno.EIO, f"{PF}: sriov_numvfs: 2: Input/output error (EIO)"),
    ],
)
def test_the_kernels_own_error_is_told_with_device_and_file(host, kernel_of, refusal, words):
    kernel_of(host, refusal=refusal)
    result = run("sriov_vfs", root=host.root, address=PF, num_vfs=2)
    assert result["failed"]
    assert result["msg"].startswith(words)
    assert not os.path.exists(host.real("/etc/cyborg-reconciler"))


def test_a_protected_device_is_refused_and_the_kernel_is_not_asked(host, kernel_of):
    kernel = kernel_of(host)
    result = run("sriov_vfs", root=host.root, address="0000:01:00.0", num_vfs=2)
    assert (result["failed"], result["reason"], result["holders"]) == (True, "ProtectedDevice", [])
    assert result["msg"] == "0000:01:00.0: it carries the default route (eno1)"
    assert kernel.written == []


def test_where_it_cannot_be_told_what_is_protected_nothing_is_touched(host, kernel_of):
    kernel = kernel_of(host)
    os.unlink(host.real("/proc/net/route"))
    host.folder("/proc/net/route")
    result = run("sriov_vfs", root=host.root, address=PF, num_vfs=2)
    assert result["reason"] == "ProtectedDevice"
    assert "whether it is protected is not known" in result["msg"]
    assert kernel.written == []


@pytest.mark.parametrize("name", sorted(STATE_MODULES))
def test_check_mode_leaves_no_file_behind(host, name):
    for tool in ("modprobe", "update-grub"):
        host.file(f"/usr/sbin/{tool}", "#!/bin/sh\nexit 1\n")
        os.chmod(host.real(f"/usr/sbin/{tool}"), 0o700)
    host.folder("/sys/kernel/iommu_groups/1")
    host.file("/etc/default/grub", 'GRUB_CMDLINE_LINUX=""\n')
    host.file("/boot/grub/grub.cfg", f"menuentry 'Linux' {{\n\tlinux /boot/vmlinuz-{RELEASE} ro\n}}\n")
    before = files_of(host)
    result = run(name, STATE_MODULES[name], root=host.root, _ansible_check_mode=True)
    assert result["changed"], result
    assert files_of(host) == before


def test_a_tool_that_another_root_lacks_is_named_and_never_taken_from_the_system(host):
    simulate(host.root)
    host.file(f"/lib/modules/{RELEASE}/modules.dep", "kernel/vfio-pci.ko:\n")
    result = run("kernel_module", {"name": "vfio-pci", "state": "loaded"}, root=host.root)
    assert result["failed"]
    assert result["msg"].startswith("modprobe is not installed: ")
    assert host.root in result["msg"]


def test_a_tree_that_is_no_host_is_not_changed(host):
    result = run("kernel_module", {"name": "nouveau", "blacklisted": True}, root=host.root)
    assert result["failed"]
    assert "it can be read, not changed" in result["msg"]
    assert not host.tree.exists("/etc/modprobe.d")


@pytest.mark.parametrize("name", [*sorted(STATE_MODULES), "apply_actions"])
def test_a_root_that_does_not_exist_is_said_and_not_made(tmp_path, name):
    options = STATE_MODULES.get(name, {"steps": [], "controller_id": "one", "fencing_token": 1})
    root = tmp_path / "nowhere"
    result = run(name, options, root=str(root))
    assert result["failed"]
    assert result["msg"].endswith("nowhere: there is no such folder")
    assert not root.exists()


def test_steps_are_checked_as_the_modules_check_their_parameters(host):
    step = {"id": "sriov", "module": "sriov_vfs", "args": {"address": PF, "num_vfs": "many", "shell": "id"}}
    result = run("apply_actions", root=host.root, steps=[step], controller_id="one", fencing_token=1)
    assert result["cyborg_outcome"]["status"] == "failed"
    assert "shell" in result["msg"]
    assert "num_vfs" in result["msg"]


def test_whoever_holds_the_lock_is_named(host):
    path = host.real(host.file("/run/cyborg-reconciler/lock", "4711\n"))
    with open(path, "r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        result = run("kernel_module", STATE_MODULES["kernel_module"], root=host.root, lock_timeout_s=0)
    assert result["msg"] == "/run/cyborg-reconciler/lock is held by pid 4711, and was not free within 0 s"
