# SPDX-License-Identifier: Apache-2.0
"""How the commands lay out their tables, and the times in them."""

from datetime import UTC, datetime
from typing import Any

from rich.table import Table


def plain_table(*names: str) -> Table:
    """Return a table without lines; the column *why* alone may break its lines, and numbers stand to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, no_wrap=name != "why", justify="right" if name == "generation" else "left")
    return table


def ago(at: datetime | None) -> str:
    """Return how long ago *at* was, in words."""
    if at is None:
        return "never"
    seconds = int((datetime.now(UTC) - at).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def plain(value: Any) -> Any:  # noqa: ANN401 - any field of a record
    """Return *value* as JSON can hold it."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else value
