# SPDX-License-Identifier: Apache-2.0
"""`status`: where every host stands, as the journal has it; nothing is asked of the hosts."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import click
from rich.table import Table
from rich.text import Text

from cyborg_reconciler.bootstrap import open_stores
from cyborg_reconciler.cli.common import DONE, console, put_json, with_output, with_state
from cyborg_reconciler.cli.tables import ago, plain, plain_table
from cyborg_reconciler.core.conditions import Condition, of_agent
from cyborg_reconciler.ports import HostRecord
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.stores.agents import AgentStore, every_agent

_STYLES = {"Synced": "green", "OutOfSync": "yellow", "Unknown": "red"}


@click.command(short_help="Where the hosts stand, and why.")
@with_output
@with_state
@click.argument("hosts", nargs=-1)
def status(*, output: str, settings: Settings, hosts: tuple[str, ...]) -> int:
    """Show where the hosts stand, and why those that wait do; of one host, what is true of it as well.

    \b
    Examples:
      cyborg-reconciler status
      cyborg-reconciler status compute-7 --output json
    """
    with open_stores(settings, writes=False) as stores:
        records = [record for record in stores.journal.hosts() if not hosts or record.name in hosts]
        of_agents = _conditions_of_agents(stores.agents)
    records = [replace(one, conditions=(*one.conditions, *of_agents.get(one.name, ()))) for one in records]
    if missing := [host for host in hosts if host not in {record.name for record in records}]:
        msg = f"no host is called {', '.join(missing)} in {settings.journal}"
        raise click.UsageError(msg, click.get_current_context())
    if output == "json":
        put_json([plain(asdict(record)) for record in records])
    elif not records:
        console().print("nothing yet")
    else:
        console().print(_hosts_table(records))
        if len(hosts) == 1 and records[0].conditions:
            console().print()
            console().print(_conditions_table(records[0].conditions))
    return DONE


def _conditions_of_agents(store: AgentStore) -> dict[str, tuple[Condition]]:
    """Return which agents are silent and which are not, by host, of those that may speak and have reported once."""
    found: dict[str, tuple[Condition]] = {}
    for one in every_agent(store):
        if one.may_speak and one.silent_changed_at is not None:
            silent_after = one.last_seen_at if one.silent else None
            found[one.host] = (of_agent(one.silent_changed_at, one.generation, silent_after),)
    return found


def _hosts_table(records: Sequence[HostRecord]) -> Table:
    table = plain_table("host", "sync", "health", "phase", "generation", "seen", "why")
    for r in records:
        why = ": ".join(part for part in (r.reason, r.message) if part)
        phase = f"{r.phase} ({r.failed_in})" if r.failed_in else str(r.phase)
        cells = (r.name, r.sync, r.health, phase, str(r.generation), ago(r.observed_at), why)
        table.add_row(*(Text(str(c), _STYLES.get(c, "")) if i == 1 else Text(str(c)) for i, c in enumerate(cells)))
    return table


def _conditions_table(conditions: Sequence[Condition]) -> Table:
    table = plain_table("condition", "status", "since", "generation", "reason", "why")
    for c in conditions:
        cells = (c.type, c.status, ago(c.last_transition_time), c.observed_generation, c.reason, c.message)
        table.add_row(*(Text(str(cell)) for cell in cells))
    return table
