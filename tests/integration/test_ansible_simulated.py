# SPDX-License-Identifier: Apache-2.0
"""The adapter on simulated hosts, through the collection as it is: a plan for each host, and then facts of all."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyborg_reconciler.adapters.ansible.executor import AnsibleExecutor
from cyborg_reconciler.adapters.ansible.inventory import AnsibleInventory
from cyborg_reconciler.adapters.ansible.observer import AnsibleObserver
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions
from cyborg_reconciler.documents.plan import ActionsSegment, HostPlan, PlanDocument, RebootSegment, Step
from cyborg_reconciler.ports import Observation, Progress, Unobserved
from cyborg_reconciler.simulation import SimulatedHosts, demo_machines
from cyborg_reconciler.testing import FixedClock, ignore_progress

QAT, PORT = "0000:6b:00.0", "0000:ca:00.1"


@pytest.fixture
def hosts() -> Iterator[SimulatedHosts]:
    with (
        tempfile.TemporaryDirectory(prefix="cyborg-") as folder,  # short: sockets lie in it
        SimulatedHosts(Path(folder) / "hosts", demo_machines()) as simulated,
    ):
        yield simulated


def make_options(hosts: SimulatedHosts, folder: Path) -> AnsibleOptions:
    return AnsibleOptions(inventory=(str(hosts.inventory_path),), runs=folder / "runs", folder=folder)


def observe(options: AnsibleOptions) -> dict[str, Observation | Unobserved]:
    return dict(
        AnsibleObserver(options, FixedClock()).observe(
            AnsibleInventory(options).hosts(), ("vfio_pci",), ignore_progress
        )
    )


def make_plan(**segments: list[ActionsSegment | RebootSegment]) -> PlanDocument:
    return PlanDocument(
        plan_version=1,
        uuid="11111111-1111-4111-8111-111111111111",
        created_at="2026-01-05T12:00:00Z",
        controller_id="c",
        fencing_token=1,
        hosts={
            host.replace("_", "-"): HostPlan(generation=1, digest="d", fingerprint="f", segments=of_host)
            for host, of_host in segments.items()
        },
    )


def test_each_host_gets_its_own_plan_one_that_is_off_is_unreachable_and_a_refusal_comes_back_with_its_reason(
    hosts: SimulatedHosts, tmp_path: Path
) -> None:
    options = make_options(hosts, tmp_path)
    hosts.power_off("gpu-1")
    boot_id = hosts["qat-1"].read("/proc/sys/kernel/random/boot_id")
    step = Step(id="sriov", module="sriov_vfs", args={"address": QAT, "num_vfs": 4}, observed={"num_vfs": 0})
    load = Step(id="load", module="kernel_module", args={"name": "vfio_pci", "boot": True})
    too_many = Step(id="sriov", module="sriov_vfs", args={"address": PORT, "num_vfs": 5000})
    reboot = RebootSegment(id="reboot", boot_id=boot_id, timeout_s=60)
    story: list[Progress] = []
    plan = make_plan(
        qat_1=[ActionsSegment(steps=[step]), reboot],
        nic_1=[ActionsSegment(steps=[load, too_many])],
        gpu_1=[ActionsSegment(steps=[load])],
    )
    outcomes = AnsibleExecutor(options).apply(plan, story.append)
    assert {host: outcome.status for host, outcome in outcomes.items()} == {
        "qat-1": "applied",
        "nic-1": "refused",
        "gpu-1": "unreachable",
    }, outcomes
    assert [(done.id, done.status) for done in outcomes["qat-1"].steps] == [("sriov", "changed"), ("reboot", "changed")]
    assert [(done.status, done.reason) for done in outcomes["nic-1"].steps] == [
        ("changed", ""),
        ("refused", "Unsupported"),
    ]
    told = [(step.step, step.status) for step in story if step.host == "qat-1"]
    assert told[:4] == [("apply", "started"), ("reboot", "started"), ("reboot", "changed"), ("apply", "changed")]

    after = observe(options)
    qat, nic, gpu = (after[name] for name in ("qat-1", "nic-1", "gpu-1"))
    assert isinstance(qat, Observation)
    assert isinstance(nic, Observation)
    device = qat.facts.device(QAT)
    assert device
    assert (device.num_vfs, device.boot_num_vfs) == (4, 4), "they survived the reboot"
    assert qat.facts.kernel.boot_id != boot_id
    assert "vfio_pci" in {module.name for module in qat.facts.drivers.modules}
    assert isinstance(gpu, Unobserved)
    assert gpu.reason == "Unreachable"
