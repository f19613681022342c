# SPDX-License-Identifier: Apache-2.0
"""What do resolve, diff and plan cost for a fleet, when all of it is new and when one host in a hundred changed?

Called by `__main__`. Does I/O: records facts of simulated hosts once, then starts a process for each measurement.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.perf import fleet, process
from tests.perf.options import Options
from tests.perf.report import Row

GROUP: Final = "core"

#: The size that the aims are for.
AIM_HOSTS: Final = 10_000
COLD_AIM_S: Final = 2.0
COLD_AIM_MB: Final = 300.0
WARM_AIM_S: Final = 0.1

COLD: Final = "cold"
WARM: Final = "warm, 1% changed"
AIMS: Final = {COLD: "< 2 s and 300 MB", WARM: "< 0.1 s"}

#: One host in so many is not as declared, or no longer; and one in one.
SOME: Final = 100
ALL: Final = 1

#: Above this many hosts a pass takes so long that one says enough, and keeping every host's facts is not tried.
MANY_HOSTS: Final = 20_000


def rows(options: Options, work: Path) -> Iterator[Row]:
    """Yield the rows of each size, as they are measured."""
    templates = work / "templates"
    templates.mkdir()
    fleet.write_templates(templates, work / "hosts")
    for hosts in options.sizes:
        rounds = 1 if hosts > MANY_HOSTS else options.rounds
        found = measure(requests_for(hosts, str(templates)), rounds, work)
        base = found[COLD]
        for name, costs in found.items():
            within = None
            if hosts == AIM_HOSTS and name == COLD:
                within = costs["cpu_s"] < COLD_AIM_S and costs["memory_mb"] < COLD_AIM_MB
            elif hosts == AIM_HOSTS and name == WARM:
                within = costs["cpu_s"] < WARM_AIM_S
            yield Row(
                group=GROUP,
                name=f"{hosts} hosts, {name}",
                cpu_s=costs["cpu_s"],
                hosts=hosts,
                memory_mb=costs["memory_mb"],
                ratio=costs["cpu_s"] / base["cpu_s"],
                ratio_to=f"{hosts} hosts, {COLD}",
                aim="" if within is None else AIMS[name],
                within=within,
                detail={key: value for key, value in costs.items() if key not in {"cpu_s", "memory_mb"}},
            )


def requests_for(hosts: int, templates: str) -> dict[str, dict[str, Any]]:
    """Return what is asked of the processes for one size, by the name of the row."""
    shared = {"templates": templates, "hosts": hosts, "drift_every": SOME, "whole": False, "layouts": fleet.LAYOUTS}
    requests = {
        COLD: {**shared, "pass": "cold"},
        WARM: {**shared, "pass": "warm"},
        "warm, whole documents": {**shared, "pass": "warm", "whole": True},
    }
    if hosts <= MANY_HOSTS:
        requests["cold, all out of sync"] = {**shared, "pass": "cold", "drift_every": ALL}
        requests["cold, no two alike"] = {**shared, "pass": "cold", "layouts": hosts}
        requests["survey, all kept"] = {**shared, "pass": "survey"}
    return requests


def measure(requests: Mapping[str, Mapping[str, Any]], rounds: int, work: Path) -> dict[str, dict[str, float]]:
    """Ask each of *requests* once a round, in turns, and return the least figures of each."""
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in requests}
    for _ in range(rounds):
        for name, request in requests.items():
            answers[name].append(process.call("tests.perf.core_pass", request, work))
    return {name: {key: min(each[key] for each in several) for key in several[0]} for name, several in answers.items()}
