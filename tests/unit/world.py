# SPDX-License-Identifier: Apache-2.0
"""Hosts with a QAT card that obey, and everything around them, over the fakes."""

import msgspec

from cyborg_reconciler.core.state import Host, Reason
from cyborg_reconciler.documents.base import Metadata, Selector
from cyborg_reconciler.documents.declared import Declared, Located
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.plan import (
    ActionsSegment,
    RebootSegment,
    Segment,
    StepOutcome,
)
from cyborg_reconciler.documents.pool import PoolSpec, RolloutPool
from cyborg_reconciler.reconcile import converge
from cyborg_reconciler.survey import Options, survey
from cyborg_reconciler.testing import FakeExecutor, FixedClock, RecordedObserver, ignore_progress
from tests.fake_ports import fake_ports
from tests.scenarios.story import facts_of, policy_of

ADDRESS = "0000:6b:00.0"
VFS = policy_of({"name": "qat", "sriov": {"num_vfs": 4}}, 1)
ARGS = policy_of({"name": "args", "kernel_args": {"iommu": "pt"}}, 1)
YES = Options(consent=True)


def obey(facts: Facts, segment: Segment) -> tuple[list[StepOutcome], Facts]:
    """Do to the facts what sriov_vfs, kernel_args and a reboot do to a host."""
    if isinstance(segment, RebootSegment):
        kernel = msgspec.structs.replace(facts.kernel, boot_id="boot-2", args_running=facts.kernel.args_next_boot)
        return [StepOutcome(id=segment.id, status="changed")], msgspec.structs.replace(facts, kernel=kernel)
    assert isinstance(segment, ActionsSegment)
    for step in segment.steps:
        if step.module == "sriov_vfs":
            count = step.args["num_vfs"]
            made = facts_of({"device": {"vf_devices": [{}] * count, "boot_num_vfs": count}})
            facts = msgspec.structs.replace(facts, devices=made.devices)
        if step.module == "kernel_args":
            words = [f"{name}={value}" for name, value in step.args["args"].items()]
            kernel = msgspec.structs.replace(facts.kernel, args_next_boot=words)
            facts = msgspec.structs.replace(facts, kernel=kernel)
    return [StepOutcome(id=step.id, status="changed") for step in segment.steps], facts


def pool_of(name: str = "p", hosts=(), **spec) -> Located[RolloutPool]:
    selector = Selector(names=tuple(hosts)) if hosts else Selector(groups=("all",))
    whole = PoolSpec(host_selector=selector, **spec)
    document = RolloutPool(api_version="cyborg/v1", kind="RolloutPool", metadata=Metadata(name=name), spec=whole)
    return Located(document, "pool.yml", {})


class World:
    """Hosts that report a QAT card without VFs, and everything around them."""

    def __init__(self, *names: str, policies=(VFS,), pools=(), react=obey) -> None:
        clock = FixedClock()
        self.observer = RecordedObserver({name: facts_of({"hostname": name}) for name in names}, clock=clock)
        self.executor = FakeExecutor(self.observer, react)
        declared = Declared(policies=tuple(policies), pools=tuple(pools), digest="d")
        self.ports = fake_ports(declared, [Host(name) for name in names], self.observer, self.executor)
        self.journal, self.cordon, self.declarations = self.ports.journal, self.ports.cordon, self.ports.declarations

    def look(self, options: Options = YES):
        return survey(self.ports, options, ignore_progress)

    def converge(self, options: Options = YES):
        return converge(self.ports, self.look(options), options, ignore_progress)


def waits_of(seen, name: str) -> list[Reason]:
    return [wait.reason for wait in seen.hosts[name].plan.waits]
