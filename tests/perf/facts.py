# SPDX-License-Identifier: Apache-2.0
"""What does reading a host cost, beside what Ansible costs to do nothing at all?

Called by `__main__`. Does I/O: writes trees of simulated hosts and runs `ansible-playbook`, and the modules alone.
"""

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from cyborg_reconciler.simulation import large, write_tree
from tests.perf.options import Options
from tests.perf.playbook import keep_payload, run_play, write_inventory, write_play
from tests.perf.process import Cost, in_turns, measure
from tests.perf.report import Row

GROUP: Final = "facts"

#: The size that the aim is for, and how a host in a pass that reads it may compare with one in a pass that does
#: nothing: controller and module together, without what a pass does once for all its hosts.
AIM_DEVICES: Final = 64
AIM_RATIO: Final = 1.15

#: What the others are compared with, and what they are called.
NOTHING: Final = "empty module"
PASS, FIRST, ALONE = "pass", "one host", "alone"

#: Hosts of a pass, and how often more than the others it is measured: what is to be told apart here differs by a few
#: parts in a hundred, and short measurements find a quiet moment more easily.
HOSTS: Final = 9
SHORT: Final = 4

#: Repetitions of a module without Ansible in a round: it takes a tenth of a pass.
MODULE_ROUNDS: Final = 4


def rows(options: Options, work: Path) -> Iterator[Row]:
    """Yield a row for each pass of Ansible, then one for each module alone."""
    roots = {devices: work / f"tree-{devices}" for devices in options.devices}
    for devices, root in roots.items():
        write_tree(large(devices, f"large-{devices}"), root)
    task = {"root": "{{ cyborg_root }}", "connection": "local"}
    nothing = write_play(work / "nothing.yml", [{"name": "Do nothing", "bench_nothing": task}])
    reading = write_play(work / "reading.yml", [{"name": "Read", "openstack.cyborg.host_facts": task}])
    # What is run, and on what: by the name that the rows have of it.
    plays = {NOTHING: (nothing, next(iter(roots.values())))}
    plays |= {f"{devices} devices": (reading, root) for devices, root in roots.items()}
    yield from passes(plays, options, work)
    yield from alone(plays, options, work)


def passes(plays: dict[str, tuple[Path, Path]], options: Options, work: Path) -> Iterator[Row]:
    """Yield what passes cost, over one host and over several; what is compared is what each further host adds."""
    numbers = {FIRST: 1, PASS: max(2, min(options.wave, HOSTS))}
    things = {}
    for what, (play, root) in plays.items():
        for kind, number in numbers.items():
            hosts = dict.fromkeys((f"host-{index}" for index in range(number)), root)
            inventory = write_inventory(work / f"{kind}-{what}.json", hosts)
            things[f"{kind}, {what}"] = partial(run_play, str(play), inventory)
    costs = in_turns(things, options.rounds * SHORT)
    further = numbers[PASS] - 1
    added_s = {what: (costs[f"{PASS}, {what}"].cpu_s - costs[f"{FIRST}, {what}"].cpu_s) / further for what in plays}
    for kind, number in numbers.items():
        for what in plays:
            cost, base = costs[f"{kind}, {what}"], f"{kind}, {NOTHING}"
            whole = cost.cpu_s / costs[base].cpu_s
            ratio = added_s[what] / added_s[NOTHING] if kind == PASS else whole
            aimed = kind == PASS and what == f"{AIM_DEVICES} devices"
            yield Row(
                group=GROUP,
                name=f"{kind}, {what}",
                cpu_s=cost.cpu_s,
                hosts=number,
                memory_mb=cost.peak_mb,
                ratio=ratio,
                ratio_to=base,
                aim=f"<= {AIM_RATIO}" if aimed else "",
                within=ratio <= AIM_RATIO if aimed else None,
                detail={"ratio_of_whole_pass": whole, "added_ms_per_host": added_s[what] * 1000},
            )


def alone(plays: dict[str, tuple[Path, Path]], options: Options, work: Path) -> Iterator[Row]:
    """Yield what is left to the hosts: the very file that Ansible sends there, run by Python and nothing else."""
    things = {
        f"{ALONE}, {what}": partial(run_payload, keep_payload(str(play), work / f"payload-{index}", root), work)
        for index, (what, (play, root)) in enumerate(plays.items())
    }
    first = f"{ALONE}, {AIM_DEVICES} devices"
    if first in things:
        things[f"{first}, first look"] = partial(things[first], {"PYTHONDONTWRITEBYTECODE": "1"})
    costs = in_turns(things, options.rounds * MODULE_ROUNDS)
    base = f"{ALONE}, {NOTHING}"
    for name, cost in costs.items():
        yield Row(
            group=GROUP,
            name=name,
            cpu_s=cost.cpu_s,
            hosts=1,
            memory_mb=cost.peak_mb,
            ratio=cost.cpu_s / costs[base].cpu_s,
            ratio_to=base,
        )


def run_payload(payload: Path, work: Path, extra: Mapping[str, str] | None = None) -> Cost:
    """Run the file that Ansible sends, and return what it cost."""
    return measure([sys.executable, str(payload)], work, extra)
