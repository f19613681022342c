# SPDX-License-Identifier: Apache-2.0
"""What do resolve, diff and plan cost for a fleet, when all of it is new and when one host in a hundred changed?

Called by `__main__`. Does I/O: records facts of simulated hosts once, then starts a process for each measurement.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
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
        request = {"templates": str(templates), "hosts": hosts, "drift_every": SOME, "whole": False}
        rounds = 1 if hosts > MANY_HOSTS else options.rounds
        yield from of_size(request, rounds, work)


def of_size(request: Mapping[str, Any], rounds: int, work: Path) -> Iterator[Row]:
    """Yield the rows of one size."""
    hosts = request["hosts"]
    aimed = hosts == AIM_HOSTS
    cold = ask({**request, "pass": "cold"}, rounds, work)
    name = f"{hosts} hosts, cold"
    within = cold["cpu_s"] < COLD_AIM_S and cold["memory_mb"] < COLD_AIM_MB if aimed else None
    yield row(name, hosts, cold, aim="< 2 s and 300 MB" if aimed else "", within=within)
    against = {"to": name, "base_s": cold["cpu_s"]}
    if hosts <= MANY_HOSTS:
        found = ask({**request, "pass": "cold", "drift_every": ALL}, rounds, work)
        yield row(f"{hosts} hosts, cold, all out of sync", hosts, found, **against)
    found = ask({**request, "pass": "warm"}, rounds, work)
    within = found["cpu_s"] < WARM_AIM_S if aimed else None
    name = f"{hosts} hosts, warm, 1% changed"
    yield row(name, hosts, found, aim="< 0.1 s" if aimed else "", within=within, **against)
    found = ask({**request, "pass": "warm", "whole": True}, rounds, work)
    yield row(f"{hosts} hosts, warm, whole documents", hosts, found, **against)
    if hosts <= MANY_HOSTS:
        found = ask({**request, "pass": "survey"}, rounds, work)
        yield row(f"{hosts} hosts, survey, all kept", hosts, found, **against)


def ask(request: Mapping[str, Any], rounds: int, work: Path) -> dict[str, float]:
    """Return the medians of what *rounds* processes measured."""
    answers = [process.call("tests.perf.core_pass", request, work) for _ in range(rounds)]
    return {name: median(answer[name] for answer in answers) for name in answers[0]}


def row(  # noqa: PLR0913 - keywords, each a column of the table
    name: str,
    hosts: int,
    found: Mapping[str, float],
    *,
    aim: str = "",
    within: bool | None = None,
    to: str = "",
    base_s: float = 0.0,
) -> Row:
    """Return a row of what was *found*, compared with the row called *to*."""
    return Row(
        group=GROUP,
        name=name,
        cpu_s=found["cpu_s"],
        hosts=hosts,
        memory_mb=found["memory_mb"],
        ratio=found["cpu_s"] / base_s if to else None,
        ratio_to=to,
        aim=aim,
        within=within,
        detail={key: value for key, value in found.items() if key not in {"cpu_s", "memory_mb"}},
    )
