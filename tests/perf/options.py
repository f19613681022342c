# SPDX-License-Identifier: Apache-2.0
"""What is measured in a run of the bench, and how often? Read from the command line by `__main__`. Pure."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GROUPS: Final = ("core", "facts", "apply", "api", "drift")


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured.

    Attributes:
        sizes: hosts of the core's passes. devices: PCI functions of the trees whose facts are read.
        wave: hosts of one wave, and of each pass of Ansible. rounds: how often each is measured; the least counts.
    """

    groups: tuple[str, ...]
    sizes: tuple[int, ...]
    devices: tuple[int, ...]
    wave: int
    rounds: int
    quick: bool
    output: Path
    page: Path | None


def parse(arguments: Sequence[str]) -> Options:
    """Return what the command line *arguments* ask for. Exits with an explanation where they are wrong."""
    parser = argparse.ArgumentParser("python -m tests.perf", description=__doc__.partition("?")[0] + ".")
    parser.add_argument("--quick", action="store_true", help="leave out 100,000 hosts, and measure less often")
    parser.add_argument("--rows", action="append", choices=GROUPS, help="measure these only; may be given again")
    parser.add_argument("--sizes", type=numbers, help="numbers of hosts that are planned for, e.g. 1000,10000")
    parser.add_argument("--devices", type=numbers, help="numbers of PCI functions of a host, e.g. 64,512")
    parser.add_argument("--wave", type=positive, help="hosts of a wave, and of a pass of Ansible")
    parser.add_argument("--rounds", type=positive, help="how often each is measured")
    parser.add_argument("--output", type=Path, default=Path(".bench/bench.json"), help="where the JSON goes")
    parser.add_argument("--page", type=Path, help="also write the run as a page of the reference")
    asked = parser.parse_args(arguments)
    quick = asked.quick
    return Options(
        groups=tuple(asked.rows or GROUPS),
        sizes=asked.sizes or ((1_000, 10_000) if quick else (1_000, 10_000, 100_000)),
        devices=asked.devices or (64, 512),
        wave=asked.wave or 10,
        rounds=asked.rounds or (1 if quick else 3),
        quick=quick,
        output=asked.output,
        page=asked.page,
    )


def numbers(text: str) -> tuple[int, ...]:
    """Return the whole numbers of *text*, which commas separate."""
    return tuple(positive(word) for word in text.split(","))


def positive(text: str) -> int:
    """Return the whole number above zero that *text* is. Raises: ValueError."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
