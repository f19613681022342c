# SPDX-License-Identifier: Apache-2.0
"""A process that writes as fast as it can, what it said was on disk, and whether that is so. See `journal_writer`."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.ports import Journal

WRITER = Path(__file__).with_name("journal_writer.py")


class Writer:
    """A process that writes, and what it has said so far."""

    def __init__(self, folder: Path, name: str, database: str) -> None:
        command = [sys.executable, WRITER, folder, name, database]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._said = b""

    def __enter__(self) -> Self:
        self.listen(lines=1)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.__exit__(None, None, None)

    def listen(self, lines: int) -> None:
        """Wait until it has acknowledged so much more."""
        assert self.process.stdout
        self._said += b"".join(self.process.stdout.readline() for _ in range(lines))

    def acknowledged(self) -> list[list[str]]:
        """Return the words of each line that it has said, once it has ended."""
        assert self.process.stdout
        lines = (self._said + self.process.stdout.read()).decode().split("\n")
        assert lines.pop() == "", "a pipe takes a short line whole or not at all"
        return [line.split() for line in lines]


def assert_kept(journal: Journal, acknowledged: Sequence[Sequence[str]]) -> None:
    """See that all that was acknowledged is in the journal."""
    runs = {run.uuid: run for run in journal.runs(limit=100_000)}
    events = {event.message for event in journal.events(limit=100_000)}
    open_ = {run.uuid for run in journal.open_runs()}
    facts = dict(journal.facts([f"compute-{number}" for number in range(7)]))
    newest = {}
    for kind, what, *mark in acknowledged:
        if kind == "facts":
            newest[what] = mark[0]
        elif kind == "run":
            assert what in open_
            assert runs[what].plan_uuid == mark[0]
        elif kind == "outcome":
            assert runs[what].hosts == {mark[0]: "applied"}
        else:
            assert what in events
    assert newest
    for host, mark in newest.items():
        # The very last write may be on disk without having been acknowledged.
        found = decode_facts(facts[host][0]).kernel.boot_id
        assert isinstance(found, str)
        assert order(found) >= order(mark)


def order(mark: str) -> tuple[int, int]:
    """Return when the writer wrote *mark*: its round, and its number in that."""
    name, number = mark.split("-")
    return int(name.removeprefix("round")), int(number)
