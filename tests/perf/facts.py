# SPDX-License-Identifier: Apache-2.0
"""What does reading a host cost, beside what Ansible costs to do nothing at all?

Called by `__main__`. Does I/O: writes trees of simulated hosts and runs `ansible-playbook`, and the modules alone.
"""

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from cyborg_reconciler.simulation import large, write_tree
from tests.perf.options import Options
from tests.perf.playbook import run_play, write_inventory, write_play
from tests.perf.process import ANSIBLE_FOLDER, Cost, in_turns, measure
from tests.perf.report import Row

GROUP: Final = "facts"
MODULE: Final = "ansible_collections.openstack.cyborg.plugins.modules.host_facts"

#: The size that the aim is for, and how a host in a pass that reads it may compare with one in a pass that does
#: nothing: controller and module together, without the pass's start, which many hosts share.
AIM_DEVICES: Final = 64
AIM_RATIO: Final = 1.15

#: What the others are compared with.
NO_TASK: Final = "pass, no task"
NOTHING: Final = "pass, empty module"
NOTHING_ALONE: Final = "empty module alone"

#: Hosts of a pass, and how often more than the others it is measured: what is to be told apart here differs by a few
#: parts in a hundred, and short measurements find a quiet moment more easily.
HOSTS: Final = 5
SHORT: Final = 4

#: Repetitions of a module without Ansible in a round: it takes a tenth of a pass.
ALONE: Final = 3


def rows(options: Options, work: Path) -> Iterator[Row]:
    """Yield a row for each pass of Ansible, then one for each module alone."""
    roots = {devices: work / f"tree-{devices}" for devices in options.devices}
    for devices, root in roots.items():
        write_tree(large(devices, f"large-{devices}"), root)
    yield from passes(roots, options, work)
    yield from alone(roots, options, work)


def passes(roots: dict[int, Path], options: Options, work: Path) -> Iterator[Row]:
    """Yield what whole passes cost: without a task, with an empty module, with the facts of so many devices."""
    names = [f"host-{number}" for number in range(min(options.wave, HOSTS))]
    any_root = next(iter(roots.values()))
    empty = write_inventory(work / "empty.json", dict.fromkeys(names, any_root))
    task = {"root": "{{ cyborg_root }}", "connection": "local"}
    no_task = write_play(work / "no_task.yml", [])
    nothing = write_play(work / "nothing.yml", [{"name": "Do nothing", "bench_nothing": task}])
    reading = write_play(work / "reading.yml", [{"name": "Read", "openstack.cyborg.host_facts": task}])
    things = {
        NO_TASK: partial(run_play, str(no_task), empty),
        NOTHING: partial(run_play, str(nothing), empty),
    }
    sizes = {}
    for devices, root in roots.items():
        name = f"pass, {devices} devices"
        inventory = write_inventory(work / f"inventory-{devices}.json", dict.fromkeys(names, root))
        things[name] = partial(run_play, str(reading), inventory)
        sizes[name] = devices
    costs = in_turns(things, options.rounds * SHORT)
    start_s = costs[NO_TASK].cpu_s
    base_s = costs[NOTHING].cpu_s - start_s
    for name, cost in costs.items():
        ratio = (cost.cpu_s - start_s) / base_s
        aimed = sizes.get(name) == AIM_DEVICES
        yield Row(
            group=GROUP,
            name=name,
            cpu_s=cost.cpu_s,
            hosts=len(names),
            memory_mb=cost.peak_mb,
            ratio=None if name == NO_TASK else ratio,
            ratio_to="" if name == NO_TASK else NOTHING,
            aim=f"<= {AIM_RATIO}" if aimed else "",
            within=ratio <= AIM_RATIO if aimed else None,
            detail={"ratio_with_start": cost.cpu_s / costs[NOTHING].cpu_s},
        )


def alone(roots: dict[int, Path], options: Options, work: Path) -> Iterator[Row]:
    """Yield what the modules' own processes cost, run as on a host: one Python, no controller."""
    things = {NOTHING_ALONE: partial(run_module, [str(ANSIBLE_FOLDER / "library/bench_nothing.py")], Path("/"), work)}
    for devices, root in roots.items():
        things[f"module alone, {devices} devices"] = partial(run_module, ["-m", MODULE], root, work)
    costs = in_turns(things, options.rounds * ALONE)
    for name, cost in costs.items():
        yield Row(
            group=GROUP,
            name=name,
            cpu_s=cost.cpu_s,
            hosts=1,
            memory_mb=cost.peak_mb,
            ratio=cost.cpu_s / costs[NOTHING_ALONE].cpu_s,
            ratio_to=NOTHING_ALONE,
        )


def run_module(program: list[str], root: Path, work: Path) -> Cost:
    """Run a module with its arguments in a file, as Ansible's own developers do, and return what it cost."""
    arguments = work / "arguments.json"
    arguments.write_text(
        json.dumps({"ANSIBLE_MODULE_ARGS": {"root": str(root), "connection": "local"}}), encoding="utf-8"
    )
    return measure([sys.executable, *program, str(arguments)], work)
