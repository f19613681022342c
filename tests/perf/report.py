# SPDX-License-Identifier: Apache-2.0
"""How is a run of the bench shown and kept: a table for people, JSON for programs, and the machine that it ran on.

Called by `__main__`. `describe_machine` reads /proc and package versions; the rest is pure.
"""

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

#: Rises when the shape of the JSON changes.
REPORT_VERSION: Final = 2

#: The widths of the table's columns, wide enough for every row, so that each can be shown when it is measured.
WIDTHS: Final = (34, 8, 9, 7, 7, 22, 22, 6)
WORDS: Final = frozenset({0, 5, 6, 7})

#: What the rows say of these is part of what was measured.
PACKAGES: Final = ("ansible-core", "msgspec", "pydantic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        group: ``core``, ``facts``, ``apply``, ``api`` or ``drift``.
        cpu_s: CPU seconds of everything that the row does.
        hosts: how many hosts that is for; of the API, how many requests; of drift, how many changes.
        memory_mb: how far the memory of the process rose (core), or the largest process's peak (the others).
        ratio: CPU of this row over that of the row called *ratio_to*, of the same run and for as many hosts.
        aim: what was hoped for, in words. within: whether it was so; None where there is no aim.
        detail: further figures, by name with unit.
        note: why there are no figures, in one line; empty where there are.
    """

    group: str
    name: str
    cpu_s: float
    hosts: int
    memory_mb: float
    ratio: float | None = None
    ratio_to: str = ""
    aim: str = ""
    within: bool | None = None
    detail: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def cpu_ms_per_host(self) -> float:
        """The row's CPU shared among its hosts."""
        return self.cpu_s / self.hosts * 1000


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    cpus = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpus[0].partition(":")[2].strip() if cpus else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "load_before": round(os.getloadavg()[0], 2),
    }


def as_document(rows: Iterable[Row], machine: dict[str, Any], *, quick: bool, rounds: int) -> dict[str, Any]:
    """Return a run as the JSON document that is kept."""
    return {
        "report_version": REPORT_VERSION,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "rounds": rounds,
        "machine": machine,
        "rows": [asdict(row) | {"cpu_ms_per_host": row.cpu_ms_per_host} for row in rows],
    }


def heading() -> str:
    """Return the names of the columns."""
    return line(("", "CPU s", "ms/host", "MB", "ratio", "to", "aim", ""))


def line(cells: Sequence[str]) -> str:
    """Return *cells* in their columns: words to the left, numbers to the right."""
    texts = [
        text.ljust(width) if column in WORDS else text.rjust(width)
        for column, (text, width) in enumerate(zip(cells, WIDTHS, strict=True))
    ]
    return " ".join(texts).rstrip()


def cells(row: Row) -> tuple[str, ...]:
    """Return what the table shows of *row*."""
    if row.note:
        return (row.name, "", "", "", "", "", row.note, "")
    return (
        row.name,
        f"{row.cpu_s:.3f}",
        f"{row.cpu_ms_per_host:.3f}",
        f"{row.memory_mb:.1f}",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        row.ratio_to,
        row.aim,
        {None: "", True: "kept", False: "missed"}[row.within],
    )


def machine_line(machine: dict[str, Any]) -> str:
    """Return *machine* in one line."""
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, Linux {machine['kernel']}, "
        f"Python {machine['python']}, {packages}; load before: {machine['load_before']}"
    )
