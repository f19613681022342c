# SPDX-License-Identifier: Apache-2.0
"""The main job at the command line: declared, made, kept, and taken away again. Real Ansible, simulated hosts."""

import json
from dataclasses import replace

import pytest

from cyborg_reconciler.simulation import gpu_1, nic_1, qat_1
from tests.integration.console import NOTHING, open_console, snapshot

pytestmark = pytest.mark.slow

PCI = "/sys/bus/pci/devices"
GPU, QAT, PORT = "0000:3b:00.0", "0000:6b:00.0", "0000:ca:00.1"
RECORD = "var/lib/cyborg-reconciler/ownership.json"
#: Where we write, and where what we write has an effect.
PLACES = ("/etc", "/usr", "/boot", "/var/lib")


@pytest.fixture
def console(tmp_path):
    gpu, qat = gpu_1("compute-1"), qat_1()
    card = tuple(function for function in qat.functions if gpu.function(function.address) is None)
    with open_console(tmp_path, replace(gpu, functions=(*gpu.functions, *card)), nic_1()) as opened:
        yield opened


def declare_everything(console):
    gpu = {"device_selector": {"vendor_id": "10de", "product_id": "20b0"}}
    console.declare("gpu", **gpu, kernel_modules={"blacklist": ["nouveau"]}, binding={"driver": "vfio-pci"})
    console.declare("argument", **gpu, kernel_args={"iommu": "pt"})
    console.declare("qat", device_selector={"product_id": "4940"}, sriov={"num_vfs": 8, "vf_driver": "vfio-pci"})
    console.declare("nic", device_selector={"net_names": ["ens7f1"]}, sriov={"num_vfs": 4})
    console.declare_pool(max_unavailable=3, reboot={"allowed": True, "timeout_s": 60})


def boot_id(host):
    return host.read("/proc/sys/kernel/random/boot_id")


def test_what_is_declared_is_made_kept_and_undone_but_for_what_was_there_before(console):
    compute, network = console["compute-1"], console["nic-1"]
    network.write(f"{PCI}/{PORT}/sriov_numvfs", 4)  # by the operator, before he had us
    before = {host.name: snapshot(host, *PLACES) for host in (compute, network)}
    booted = boot_id(network)
    declare_everything(console)

    first = console.must_apply()
    assert first.data["summary"]["synced"] == 2
    assert first.host("compute-1")["outcome"] == {"status": "applied", "message": ""}
    assert "outcome" not in first.host("nic-1"), "what is so already is left alone"
    assert compute.link_name(f"{PCI}/{GPU}/driver") == "vfio-pci"
    assert compute.link_name(f"{PCI}/0000:6b:00.1/driver") == "vfio-pci"
    assert "iommu=pt" in compute.read("/proc/cmdline").split()

    compute.reboot()
    rebooted = boot_id(compute)
    again = console.must_apply()
    assert again.data["summary"]["synced"] == 2, "VFs and bindings survived the reboot"
    assert not any("outcome" in host for host in again.data["hosts"]), "nothing was run"
    assert len(console.memory("history")) == 1
    assert boot_id(compute) == rebooted

    console.undeclare("gpu", "argument", "qat", "nic")
    console.declare("idle", **NOTHING)
    last = console.must_apply()
    assert last.data["summary"]["synced"] == 2
    for host in (compute, network):
        files = snapshot(host, *PLACES)
        record = json.loads(files.pop(RECORD, '{"fields": []}'))
        assert record["fields"] == [], host.name
        assert sorted(files) == sorted(before[host.name]), host.name
        assert [path for path, text in files.items() if before[host.name][path] != text] == [], host.name
    assert compute.link_name(f"{PCI}/{GPU}/driver") == "nouveau"
    assert compute.read(f"{PCI}/{QAT}/sriov_numvfs") == "0"
    assert "iommu=pt" not in compute.read("/proc/cmdline").split()
    assert network.read(f"{PCI}/{PORT}/sriov_numvfs") == "4", "the operator's own are never undone"
    assert boot_id(network) == booted
