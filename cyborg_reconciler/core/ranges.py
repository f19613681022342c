# SPDX-License-Identifier: Apache-2.0
"""Ranges of VF indexes as text: ``5``, ``0-3``; ``4-*`` is from 4 to whatever there is, ``*`` is all. Pure."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, TypeVar

#: The end of a range that goes on to whatever VFs there are.
OPEN: Final = "*"

#: No range of VFs is longer than ``65535-65535``.
LONGEST: Final = 12

T = TypeVar("T")


@lru_cache(maxsize=4096)
def parse_range(text: str) -> tuple[int, int | None]:
    """Return the first index of a range and the one after its last; None where it is open.

    >>> parse_range("0-3"), parse_range("5"), parse_range("4-*"), parse_range("*")
    ((0, 4), (5, 6), (4, None), (0, None))
    """
    if text == OPEN:
        return 0, None
    first, _, last = text.partition("-")
    return int(first), None if last == OPEN else int(last or first) + 1


def is_range(text: str) -> bool:
    """Return whether *text* is a closed range, as a host's record has it."""
    first, _, last = text.partition("-")
    return first.isdecimal() and (not last or last.isdecimal()) and len(text) < LONGEST


def expand(text: str, count: int) -> range:
    """Return the indexes of a range; an open one ends at *count*."""
    first, stop = parse_range(text)
    return range(first, count if stop is None else stop)


def within(text: str, index: int) -> bool:
    """Return whether *index* is in a range."""
    first, stop = parse_range(text)
    return first <= index and (stop is None or index < stop)


def open_from(first: int) -> str:
    """Return the open range that begins at *first*."""
    return f"{first}-{OPEN}" if first else OPEN


def compress(values: Mapping[int, T]) -> Iterable[tuple[str, T]]:
    """Return values by index as ranges of neighbours with the same value.

    >>> list(compress({0: "a", 1: "a", 2: "b", 5: "b"}))
    [('0-1', 'a'), ('2', 'b'), ('5', 'b')]
    """
    first: int | None = None
    for index in sorted(values):
        if first is None:
            first = index
        if index + 1 not in values or values[index + 1] != values[index]:
            yield (f"{first}-{index}" if index > first else str(index)), values[index]
            first = None
