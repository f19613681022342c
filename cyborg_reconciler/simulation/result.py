# SPDX-License-Identifier: Apache-2.0
"""What came out of a tool of a simulated host? Returned by every tool. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """A tool's exit status and what it printed."""

    rc: int = 0
    stdout: str = ""
    stderr: str = ""


def split_options(words: list[str], with_value: tuple[str, ...] = ()) -> tuple[dict[str, str], list[str]]:
    """Return the options among *words* and the rest. ``--name=value`` and, for those of *with_value*, ``-k value``."""
    options: dict[str, str] = {}
    rest: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        name, equals, value = word.partition("=")
        options[name] = value if equals or name not in with_value or not waiting else waiting.pop(0)
    return options, rest
