# SPDX-License-Identifier: Apache-2.0
"""`history`: what was run and what came out, and the audit trail, as the journal has them."""

import click
from rich.table import Table
from rich.text import Text

from cyborg_reconciler.bootstrap import open_memory
from cyborg_reconciler.cli.common import DONE, console, put_json, with_output, with_state
from cyborg_reconciler.settings import Settings


@click.command(short_help="Runs, outcomes and the audit trail.")
@with_output
@with_state
@click.option("--events", is_flag=True, help="The audit trail instead of the runs.")
@click.option("--last", default=20, show_default=True, type=click.IntRange(1), help="How many, newest first.")
@click.argument("host", required=False, default="")
def history(*, output: str, settings: Settings, events: bool, last: int, host: str) -> int:
    """Show the runs, newest first, and what came out of each; of HOST alone where one is named.

    A run is `applied` when every step was reported as done, and `failed` when something was refused or failed;
    whether the hosts are as declared was looked at afterwards, and `status` says it.

    \b
    Examples:
      cyborg-reconciler history
      cyborg-reconciler history --events compute-7
    """
    with open_memory(settings) as journal:
        if events:
            rows = [
                {"at": e.at.isoformat(), "kind": e.kind, "host": e.host, "message": e.message}
                for e in journal.events(host, last)
            ]
        else:
            rows = [
                {
                    "at": r.started_at.isoformat(),
                    "run": r.uuid,
                    "status": r.status,
                    "seconds": str(round((r.ended_at - r.started_at).total_seconds())) if r.ended_at else "",
                    "hosts": ", ".join(f"{name} {outcome}" for name, outcome in r.hosts.items()),
                }
                for r in journal.runs(host, last)
            ]
    if output == "json":
        put_json(rows)
        return DONE
    if not rows:
        console().print("nothing yet")
        return DONE
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in rows[0]:
        table.add_column(
            name, no_wrap=name not in {"hosts", "message"}, justify="right" if name == "seconds" else "left"
        )
    for row in rows:
        table.add_row(*(Text(cell[:19].replace("T", " ") if key == "at" else cell) for key, cell in row.items()))
    console().print(table)
    return DONE
