# SPDX-License-Identifier: Apache-2.0
"""Adopting hosts that exist: `export`, and then there is nothing to do, until something changes."""

import pytest
from ruamel.yaml import YAML

from cyborg_reconciler.simulation import demo_machines
from tests.integration.console import call, open_console

pytestmark = pytest.mark.slow

PCI = "/sys/bus/pci/devices"
GPU, AUDIO, QAT, PORT = "0000:3b:00.0", "0000:3b:00.1", "0000:6b:00.0", "0000:ca:00.1"
ARGS = "intel_iommu=on hugepagesz=2M hugepages=64 hugepagesz=1G hugepages=4"


@pytest.fixture
def console(tmp_path):
    with open_console(tmp_path, *demo_machines()) as opened:
        yield opened


def bind(host, address):
    """Give a device to vfio-pci."""
    host.run("modprobe", "vfio-pci")
    host.write(f"{PCI}/{address}/driver_override", "vfio-pci")
    if host.link_name(f"{PCI}/{address}/driver"):
        host.write(f"{PCI}/{address}/driver/unbind", address)
    host.write("/sys/bus/pci/drivers_probe", address)


def set_up_by_hand(console):
    """Do what operators do without us: VFs, bindings, a blacklist, an option, an argument of the kernel."""
    gpu, qat, nic = (console[name] for name in ("gpu-1", "qat-1", "nic-1"))
    (gpu.root / "etc/modprobe.d/local.conf").write_text("blacklist nouveau\noptions vfio-pci disable_vga=1\n")
    gpu.run("update-initramfs", "-u")
    grub = gpu.root / "etc/default/grub"
    grub.write_text(grub.read_text().replace('GRUB_CMDLINE_LINUX=""', f'GRUB_CMDLINE_LINUX="{ARGS}"'))
    gpu.run("update-grub")
    gpu.reboot()
    bind(gpu, GPU)
    bind(gpu, AUDIO)  # it shares the GPU's IOMMU group
    qat.write(f"{PCI}/{QAT}/sriov_numvfs", 2)
    bind(qat, "0000:6b:00.1")
    bind(qat, "0000:6b:00.2")
    nic.write(f"{PCI}/{PORT}/sriov_numvfs", 4)
    assert gpu.link_name(f"{PCI}/{GPU}/driver") == "vfio-pci"
    assert "intel_iommu=on" in gpu.read("/proc/cmdline")


def test_a_fleet_that_exists_is_adopted_without_a_change_and_kept_from_then_on(console):
    set_up_by_hand(console)
    exported = console.type("export")
    assert exported.code == 0
    assert "gpu-1: hugepages is left out: of several page sizes the order counts" in exported.errors
    (console.policies / "adopted.yml").write_text(exported.output)
    checked = call("validate", console.policies)
    assert checked.code == 0, checked.errors
    assert "warning" not in checked.errors
    specs = [document["spec"] for document in YAML().load_all(exported.output)]
    cards = [(spec["sriov"]["num_vfs"], spec["sriov"]["vf_driver"]) for spec in specs if "sriov" in spec]
    assert sorted(cards) == [(2, "vfio-pci"), (4, "iavf")]
    assert any(spec.get("binding") == {"driver": "vfio-pci"} for spec in specs)
    modules = [spec["kernel_modules"] for spec in specs if "kernel_modules" in spec]
    assert any("nouveau" in module.get("blacklist", []) for module in modules)

    plan = console.plan()
    assert (plan.code, plan.data["summary"]["synced"]) == (0, 3), plan.output
    assert plan.data["unused_policies"] == []

    console["nic-1"].write(f"{PCI}/{PORT}/sriov_numvfs", 0)
    drifted = console.plan("--limit", "nic-1")
    assert drifted.code == 2
    assert [action["drift"] for action in drifted.host("nic-1")["actions"]] == [True]
