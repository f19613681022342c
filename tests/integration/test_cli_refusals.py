# SPDX-License-Identifier: Apache-2.0
"""What is not done, with the reason in words that help: in use, protected, somebody else's, out of reach, too much."""

import json
import re

import pytest

from cyborg_reconciler.simulation import gpu_1, nic_1, qat_1
from tests.integration.console import on_a_terminal, open_console, snapshot

pytestmark = pytest.mark.slow

PCI = "/sys/bus/pci/devices"
QAT, PORT = "0000:6b:00.0", "0000:ca:00.1"
VF = "0000:6b:00.4"
WAITS = re.compile(r"waits: (\w+): ")
CROWD = {"device_selector": {"product_id": "4940"}}


@pytest.fixture
def console(tmp_path):
    with open_console(tmp_path, gpu_1(), qat_1(), nic_1()) as opened:
        yield opened


def make_vfs(host, count):
    """Make VFs by hand, and bind the last one to vfio-pci, as for a guest."""
    host.write(f"{PCI}/{QAT}/sriov_numvfs", count)
    host.run("modprobe", "vfio-pci")
    host.write(f"{PCI}/{VF}/driver_override", "vfio-pci")
    host.write("/sys/bus/pci/drivers_probe", VF)


def give_to_another_controller(host):
    theirs = {"path": ["host", "kernel_args", "quiet"], "before": None, "set": True}
    record = {"version": 1, "controller_id": "another-one", "fencing_token": 3, "fields": [theirs]}
    folder = host.root / "var/lib/cyborg-reconciler"
    folder.mkdir(parents=True)
    (folder / "ownership.json").write_text(json.dumps(record))


def test_what_is_not_done_says_why_and_everything_else_goes_on(console):
    gpu, qat, nic = (console[name] for name in ("gpu-1", "qat-1", "nic-1"))
    give_to_another_controller(gpu)
    make_vfs(qat, 4)
    pid = qat.hold(VF)
    console.add_host("off-1", ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=9)
    console.add_host("bare-1", ansible_connection="local", ansible_python_interpreter="/nonexistent/python3")
    network = {"host_selector": {"groups": ["network"]}, "binding": {"driver": "vfio-pci"}}
    console.declare("disk", **network, device_selector={"addresses": ["0000:02:00.0"]})
    console.declare("route", **network, device_selector={"addresses": ["0000:ca:00.0"]})
    console.declare("many", device_selector={"net_names": ["ens7f1"]}, sriov={"num_vfs": 99})
    console.declare("fewer", **CROWD, sriov={"num_vfs": 2})
    console.declare("quiet", kernel_modules={"blacklist": ["pcspkr"]})
    nobody = {"host_selector": {"names": ["qat-1"]}, "device_selector": {"vendor_id": "ffff"}}
    console.declare("nobody", **nobody, sriov={"num_vfs": 1})
    console.declare_pool(max_unavailable=5)

    before = snapshot(gpu, "/etc", "/var/lib")
    applied = console.type("apply", "--yes")
    assert applied.code == 1, "there is an error among it: not ours to change"
    said = applied.output
    assert "policy nobody selects no host or device here; check its selectors" in said
    assert "Conflicted: the controller another-one owns this host" in said
    assert f"DeviceInUse: VF 3 is held by qemu-system-x86 (pid {pid})" in said
    assert "ProtectedDevice: the device carries the root disk" in said
    assert "ProtectedDevice: the device carries the default route" in said
    assert "Unsupported: num_vfs 99 exceeds the 64 that the device supports" in said
    assert "Unreachable: Failed to connect to the host via ssh" in said
    assert "there is no Python where Ansible looks for it" in said

    left = said.rpartition("applied, OutOfSync\n")[2]
    waits = {block.split()[0]: set(WAITS.findall(block)) for block in left.split("\n\n") if "waits" in block}
    assert waits == {
        "gpu-1": {"Conflicted"},
        "qat-1": {"DeviceInUse"},
        "nic-1": {"ProtectedDevice", "Unsupported"},
        "off-1": {"Unreachable"},
        "bare-1": {"Unknown"},
    }

    assert snapshot(gpu, "/etc", "/var/lib") == before
    assert nic.exists("/etc/modprobe.d/cyborg-pcspkr.conf"), "what may be done on a host is done"
    assert qat.read(f"{PCI}/{QAT}/sriov_numvfs") == "4"
    assert {record["name"]: record["reason"] for record in console.memory("status")}["gpu-1"] == "Conflicted"


def test_a_device_that_is_taken_while_the_operator_thinks_is_refused_by_the_host_itself(console):
    host = console["qat-1"]
    make_vfs(host, 4)
    console.declare("fewer", **CROWD, sriov={"num_vfs": 2})
    with on_a_terminal(console.words("apply", "--limit", "qat-1")) as terminal:
        assert "\x1b[" in terminal.read_until("Apply this? [y/N]:"), "there are colours on a terminal"
        host.hold(VF)
        terminal.type("y\n")
        assert "DeviceInUse: " in terminal.read_to_the_end()
        assert terminal.code == 1
    assert host.read(f"{PCI}/{QAT}/sriov_numvfs") == "4"
    assert console.status("qat-1")["sync"] == "OutOfSync"
    assert console.memory("history")[0]["hosts"] == "qat-1 refused"
