# SPDX-License-Identifier: Apache-2.0
"""`status`: where every host stands, as the journal has it; nothing is asked of the hosts."""

from dataclasses import asdict
from datetime import UTC, datetime

import click
from rich.table import Table
from rich.text import Text

from cyborg_reconciler.bootstrap import open_memory
from cyborg_reconciler.cli.common import DONE, console, put_json, with_output, with_state
from cyborg_reconciler.settings import Settings

_STYLES = {"Synced": "green", "OutOfSync": "yellow", "Unknown": "red"}


@click.command(short_help="Where the hosts stand, and why.")
@with_output
@with_state
@click.argument("hosts", nargs=-1)
def status(*, output: str, settings: Settings, hosts: tuple[str, ...]) -> int:
    """Show where the hosts stand, and why those that wait do.

    \b
    Examples:
      cyborg-reconciler status
      cyborg-reconciler status compute-7 --output json
    """
    with open_memory(settings) as journal:
        records = [record for record in journal.hosts() if not hosts or record.name in hosts]
    if missing := [host for host in hosts if host not in {record.name for record in records}]:
        msg = f"no host is called {', '.join(missing)} in {settings.state_dir}"
        raise click.UsageError(msg, click.get_current_context())
    if output == "json":
        put_json([{**asdict(r), "observed_at": _iso(r.observed_at), "changed_at": _iso(r.changed_at)} for r in records])
        return DONE
    if not records:
        console().print("nothing yet")
        return DONE
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("host", "sync", "health", "phase", "generation", "seen", "why"):
        table.add_column(name, no_wrap=name != "why", justify="right" if name == "generation" else "left")
    for r in records:
        why = ": ".join(part for part in (r.reason, r.message) if part)
        cells = (r.name, r.sync, r.health, r.phase, str(r.generation), _ago(r.observed_at), why)
        table.add_row(*(Text(str(c), _STYLES.get(c, "")) if i == 1 else Text(str(c)) for i, c in enumerate(cells)))
    console().print(table)
    return DONE


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _ago(at: datetime | None) -> str:
    """Return how long ago *at* was, in words."""
    if at is None:
        return "never"
    seconds = int((datetime.now(UTC) - at).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
