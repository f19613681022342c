# SPDX-License-Identifier: Apache-2.0
"""The adapter on simulated hosts, through the collection as it is: facts, a plan for each host, and facts again."""

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
    before = observe(options)
    assert {name: type(seen) for name, seen in before.items()} == dict.fromkeys(
        ("gpu-1", "qat-1", "nic-1"), Observation
    )
    qat = before["qat-1"]
    assert isinstance(qat, Observation)
    pf = next(device for device in qat.facts.devices if device.total_vfs)
    assert "vfio_pci" in {module.name for module in qat.facts.drivers.modules}

    hosts.power_off("gpu-1")
    step = Step(id="sriov", module="sriov_vfs", args={"address": pf.address, "num_vfs": 4}, observed={"num_vfs": 0})
    load = Step(id="load", module="kernel_module", args={"name": "vfio_pci", "boot": True})
    reboot = RebootSegment(id="reboot", boot_id=qat.facts.kernel.boot_id, timeout_s=60)
    story: list[Progress] = []
    plan = make_plan(
        qat_1=[ActionsSegment(steps=[step]), reboot],
        nic_1=[ActionsSegment(steps=[load])],
        gpu_1=[ActionsSegment(steps=[load])],
    )
    outcomes = AnsibleExecutor(options).apply(plan, story.append)
    assert {host: outcome.status for host, outcome in outcomes.items()} == {
        "qat-1": "applied",
        "nic-1": "applied",
        "gpu-1": "unreachable",
    }, outcomes
    assert [(done.id, done.status) for done in outcomes["qat-1"].steps] == [("sriov", "changed"), ("reboot", "changed")]
    told = [(step.step, step.status) for step in story if step.host == "qat-1"]
    assert told[:4] == [("apply", "started"), ("reboot", "started"), ("reboot", "changed"), ("apply", "changed")]

    after = observe(options)
    assert isinstance(after["qat-1"], Observation)
    device = after["qat-1"].facts.device(pf.address)
    assert device
    assert (device.num_vfs, device.boot_num_vfs) == (4, 4), "they survived the reboot"
    assert after["qat-1"].facts.kernel.boot_id != qat.facts.kernel.boot_id
    assert isinstance(after["gpu-1"], Unobserved)
    assert after["gpu-1"].reason == "Unreachable"

    too_many = Step(id="sriov", module="sriov_vfs", args={"address": pf.address, "num_vfs": 5000})
    outcomes = AnsibleExecutor(options).apply(make_plan(qat_1=[ActionsSegment(steps=[too_many])]), ignore_progress)
    assert outcomes["qat-1"].status == "refused"
    assert outcomes["qat-1"].steps[0].reason == "Unsupported"
