# SPDX-License-Identifier: Apache-2.0
"""How soon does the API say of a host that it is OutOfSync, once its kernel told of a change made by hand?

Called by `__main__`. Does I/O: tries whether namespaces can be made, then starts a process in some of its own, which
measures. Where they cannot be made, the rows say why.
"""

import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.perf import process
from tests.perf.drift_pass import MOUNT
from tests.perf.options import Options
from tests.perf.report import Row

GROUP: Final = "drift"
ACCEPTED: Final = "event to check-in accepted"
SHOWN: Final = "event to OutOfSync"

#: From the kernel's event to what the API tells.
AIM_S: Final = 2.0

#: A network of its own, into which whoever is root in it may send events of the kernel; nobody else hears them.
APART: Final = ("unshare", "--map-root-user", "--net")


def rows(options: Options, work: Path) -> Iterator[Row]:
    """Yield a row for what the agent does until its check-in is accepted, and one for all of it."""
    why_not = hindrance(work)
    request = {"folder": str(work / "place"), "times": 2 if options.quick else 20}
    found = {"note": why_not} if why_not else process.call("tests.perf.drift_pass", request, work, within=APART)
    if "note" in found:
        for name in (ACCEPTED, SHOWN):
            yield Row(group=GROUP, name=name, cpu_s=0.0, hosts=1, memory_mb=0.0, note=found["note"])
        return
    told, shown = found["told_s"], found["shown_s"]
    yield row(ACCEPTED, found["agent"], told, f"{_seconds(told)} s")
    yield row(SHOWN, found["worker"], shown, f"< {AIM_S:g} s: {_seconds(shown)}", within=max(shown) < AIM_S)


def row(name: str, costs: dict[str, float], took_s: list[float], aim: str, *, within: bool | None = None) -> Row:
    """Return the row of what *took_s* seconds, once for each change, and cost a process so much."""
    detail = {"median_s": statistics.median(took_s), "worst_s": max(took_s)}
    return Row(group=GROUP, name=name, hosts=len(took_s), aim=aim, within=within, detail=detail, **costs)


def _seconds(took_s: list[float]) -> str:
    return f"{statistics.median(took_s):.2f}, most {max(took_s):.2f}"


def hindrance(work: Path) -> str:
    """Return in one line why nothing can be measured here; empty where it can."""
    folder = work / "tried"
    for name in ("sys", "proc"):
        (folder / name).mkdir(parents=True)
    command = [*APART, *MOUNT, str(folder), "ip", "link", "set", "lo", "up"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as exc:
        return f"not measured: {exc.filename}: {exc.strerror}"
    said = " ".join(done.stderr.split()) or f"exit {done.returncode}"
    return f"not measured: {said}" if done.returncode else ""
