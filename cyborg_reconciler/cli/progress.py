# SPDX-License-Identifier: Apache-2.0
"""What a run shows while it goes on: hosts by steps on a terminal, one line an event elsewhere.

Used by the commands that run something. Writes to the console that it is given.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cyborg_reconciler.ports import OnProgress, Progress

#: Rows of the live table; hosts beyond them are counted in its last line.
MOST_ROWS = 20

_SIGNS = {"started": "…", "ok": "ok", "changed": "changed", "failed": "FAILED", "unreachable": "UNREACHABLE"}
_STYLES = {"changed": "yellow", "failed": "red", "unreachable": "red", "ok": "green"}


class Board:
    """Hosts by steps, filled as events come."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.hosts: dict[str, dict[str, str]] = {}
        self.began = time.monotonic()

    def note(self, progress: Progress) -> None:
        """Enter one event."""
        if progress.step not in self.steps:
            self.steps.append(progress.step)
        self.hosts.setdefault(progress.host, {})[progress.step] = progress.status

    def __rich__(self) -> Table:
        """Return the board as a table; hosts that are at work come first."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("host", *self.steps):
            table.add_column(Text(name))
        busy = sorted(self.hosts.items(), key=lambda item: "started" not in item[1].values())
        for host, steps in busy[:MOST_ROWS]:
            states = [steps.get(step, "") for step in self.steps]
            table.add_row(Text(host), *(Text(_SIGNS.get(s, s), _STYLES.get(s, "")) for s in states))
        if len(busy) > MOST_ROWS:
            table.add_row(f"… {len(busy) - MOST_ROWS} more")
        table.caption = f"{int(time.monotonic() - self.began)} s"
        table.caption_justify = "left"
        return table


@contextmanager
def shown(console: Console, *, quiet: bool = False) -> Iterator[OnProgress]:
    """Yield the function that shows what happens, for as long as something does."""
    if quiet:
        yield lambda _progress: None
    elif console.is_terminal:
        board = Board()
        with Live(board, console=console, transient=True, refresh_per_second=4):
            yield board.note
    else:

        def write(progress: Progress) -> None:
            if progress.status != "started":
                words = f"{progress.host}: {progress.step}: {_SIGNS.get(progress.status, progress.status)}"
                console.print(Text(f"{words}: {progress.message}" if progress.message else words))

        yield write
