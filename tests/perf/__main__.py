# SPDX-License-Identifier: Apache-2.0
"""What does it all cost? ``make bench``, or ``python -m tests.perf --help``.

Prints a table as it is measured and writes the same as JSON. Nothing passes or fails by what is measured: every
comparison is a ratio inside one run, and an aim that is missed is said to be.
"""

import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.perf import api, apply, core, drift, facts, report
from tests.perf.options import Options, parse
from tests.perf.page import page
from tests.perf.process import CommandFailedError

MEASURES: Final[dict[str, Callable[[Options, Path], Iterator[report.Row]]]] = {
    "core": core.rows,
    "facts": facts.rows,
    "apply": apply.rows,
    "api": api.rows,
    "drift": drift.rows,
}


def main(arguments: list[str]) -> int:
    """Measure what is asked for; return 0 when all of it could be measured."""
    signal.signal(signal.SIGTERM, lambda *_signal: sys.exit(128 + signal.SIGTERM))  # servers end with who started them
    options = parse(arguments)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    machine = report.describe_machine()
    print(report.machine_line(machine), flush=True)
    print(f"\n{report.heading()}", flush=True)
    try:
        rows = measure(options)
    except CommandFailedError as exc:
        print(f"nothing to measure: {exc}", file=sys.stderr)
        return 1
    document = report.as_document(rows, machine, quick=options.quick, rounds=options.rounds)
    options.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if options.page:
        options.page.write_text(page(document), encoding="utf-8")
    print(f"{len(rows)} rows, as JSON in {options.output}")
    return 0


def measure(options: Options) -> list[report.Row]:
    """Return all rows; each is shown as soon as it is there. Raises: CommandFailedError."""
    rows: list[report.Row] = []
    for group in options.groups:
        with tempfile.TemporaryDirectory(prefix="bench-") as work:
            for row in MEASURES[group](options, Path(work)):
                rows.append(row)
                print(report.line(report.cells(row)), flush=True)
        print()
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
