# SPDX-License-Identifier: Apache-2.0
"""What does it cost to change a wave of hosts, beside the role of eight tasks that people write for the same?

Called by `__main__`. Does I/O: starts simulated hosts, plans them with the core, runs the collection's playbook on them
and the role on others just like them, and looks that both did what they should.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

# The collection's own reader: the facts that the plan is made from are those that a pass would bring.
from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.core.modules_wanted import modules_of
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.documents.parse import parse_documents
from cyborg_reconciler.documents.plan import PlanDocument, encode
from cyborg_reconciler.saved_plans import plan_document
from cyborg_reconciler.simulation import SimulatedHosts, qat_1
from cyborg_reconciler.survey import Options as Consent
from cyborg_reconciler.survey import survey
from cyborg_reconciler.testing import RecordedObserver, ignore_progress
from tests.fake_ports import fake_ports
from tests.perf.options import Options
from tests.perf.playbook import run_play, write_inventory
from tests.perf.process import ANSIBLE_FOLDER, Cost, least
from tests.perf.report import Row

GROUP: Final = "apply"
AIM_RATIO: Final = 1 / 3

DEVICE: Final = "/sys/bus/pci/devices/0000:6b:00.0"
VFS: Final = 4

#: The same as the role of eight tasks makes.
POLICY: Final = """
api_version: cyborg/v1
kind: AcceleratorPolicy
metadata: {name: wave}
spec:
  host_selector: {groups: [all]}
  device_selector: {vendor_id: "8086", product_id: "4940"}
  kernel_modules: {load: [vfio-pci], options: {vfio-pci: {disable_vga: 1}}}
  sriov: {num_vfs: 4}
"""


def rows(options: Options, work: Path) -> Iterator[Row]:
    """Yield what the role and the plan cost on hosts that are alike, and the plan once more, with nothing to do."""
    by_role, by_plan, again = [], [], []
    for turn in range(options.rounds):
        place = work / f"role-{turn}"
        with wave(place, options.wave) as hosts:
            by_role.append(apply_role(hosts, place))
            check(hosts)
        place = work / f"plan-{turn}"
        with wave(place, options.wave) as hosts:
            document = place / "plan.json"
            document.write_bytes(encode(plan(hosts)))
            by_plan.append(apply_plan(hosts, place, document))
            check(hosts)
            again.append(apply_plan(hosts, place, document))
    base = least(by_role)
    yield row("role of eight tasks", base, base, options.wave)
    yield row("apply, one segment", least(by_plan), base, options.wave, aim=True)
    yield row("apply again, nothing to do", least(again), base, options.wave)


def row(name: str, cost: Cost, base: Cost, hosts: int, *, aim: bool = False) -> Row:
    """Return a row of *cost*, compared with that of the role."""
    ratio = cost.cpu_s / base.cpu_s
    return Row(
        group=GROUP,
        name=name,
        cpu_s=cost.cpu_s,
        hosts=hosts,
        memory_mb=cost.peak_mb,
        ratio=ratio,
        ratio_to="role of eight tasks",
        aim="<= 1/3" if aim else "",
        within=ratio <= AIM_RATIO if aim else None,
    )


def wave(folder: Path, count: int) -> SimulatedHosts:
    """Return *count* hosts with a QAT device each, still to be started."""
    return SimulatedHosts(folder, [replace(qat_1(), name=f"qat-{number}") for number in range(count)])


def check(hosts: SimulatedHosts) -> None:
    """Make sure that every host has its VFs: what did nothing would be cheap."""
    for host in hosts.values():
        found = host.read(f"{DEVICE}/sriov_numvfs")
        if found != str(VFS):
            raise ValueError(f"{host.name} has {found} VFs, and {VFS} are wanted")


def roots(hosts: SimulatedHosts) -> Mapping[str, Path]:
    """Return where the hosts' files lie."""
    return {name: host.root for name, host in hosts.items()}


def apply_role(hosts: SimulatedHosts, place: Path) -> Cost:
    """Run the role of eight tasks."""
    inventory = write_inventory(place / "bench.json", roots(hosts))
    variables = {
        "eight_tasks_device": DEVICE,
        "eight_tasks_num_vfs": VFS,
        "eight_tasks_write": str(ANSIBLE_FOLDER / "write_attribute.py"),
    }
    extra = msgspec.json.encode(variables).decode()
    return run_play(str(ANSIBLE_FOLDER / "eight_tasks.yml"), inventory, "--extra-vars", extra)


def apply_plan(hosts: SimulatedHosts, place: Path, document: Path) -> Cost:
    """Run the collection's playbook with a saved plan."""
    inventory = write_inventory(place / "bench.json", roots(hosts))
    return run_play("openstack.cyborg.apply", inventory, "--extra-vars", f"plan_file={document}")


def plan(hosts: SimulatedHosts) -> PlanDocument:
    """Return the plan that the reconciler makes for *hosts*."""
    parsed = parse_documents(POLICY, "wave.yml")
    declared = Declared(policies=parsed.documents, digest="wave")
    modules = tuple(modules_of(declared))
    facts = {
        name: decode_facts(msgspec.json.encode(gather(Tree(str(host.root)), modules=modules, connection="local")))
        for name, host in hosts.items()
    }
    named = [Host(name, root=str(host.root)) for name, host in hosts.items()]
    ports = fake_ports(declared, named, RecordedObserver(facts))
    seen = survey(ports, Consent(consent=True), ignore_progress)
    document = plan_document(list(seen.hosts.values()), declared, ports, Consent(consent=True))
    for name, of_host in document.hosts.items():
        if [type(segment).__name__ for segment in of_host.segments] != ["ActionsSegment"]:
            raise ValueError(f"{name} is not planned as one segment of actions: {seen.hosts[name].plan}")
    return document
