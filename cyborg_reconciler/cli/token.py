# SPDX-License-Identifier: Apache-2.0
"""`token`: who may use the REST API. Works on the database itself: the first token must come from somewhere."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import get_args

import click
from rich.table import Table
from rich.text import Text

from cyborg_reconciler.bootstrap import SystemClock, open_stores
from cyborg_reconciler.cli.common import DONE, console, errors_console, put_json, with_output, with_state
from cyborg_reconciler.cli.operators import Duration, operator
from cyborg_reconciler.cli.tables import plain, plain_table
from cyborg_reconciler.conductor.credentials import Credentials, check_name
from cyborg_reconciler.errors import RequestInvalidError
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.stores.credentials import Credential, RoleName


def name_of(_context: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return what a token, or a project, is called."""
    try:
        return None if value is None else check_name(value)
    except RequestInvalidError as exc:
        raise click.BadParameter(exc.problems[0].message) from exc


@click.group(no_args_is_help=False, short_help="Who may use the REST API.")
def token() -> None:
    """Make, list and revoke the tokens by which users of the REST API say who they are.

    The commands work on the database of --state, beside a server that runs: a new token can be used at once, and one
    that is revoked stops working within `token_cache_s` seconds, which is a setting.
    """


@token.command(short_help="Make a token, and print it once.")
@with_output
@with_state
@click.option("--role", type=click.Choice(get_args(RoleName)), required=True, help="What it opens.")
@click.option("--project", metavar="ID", callback=name_of, help="Whose accelerators a member may change.")
@click.option("--expires", type=Duration(), help="How long it can be used: 90d, 12h.  [default: for ever]")
@click.argument("name", callback=name_of)
def create(  # noqa: PLR0913 - the options of a command
    *, output: str, settings: Settings, role: RoleName, project: str | None, expires: timedelta | None, name: str
) -> int:
    """Make a token called NAME, and print it, and nothing else, to the standard output. It cannot be shown again.

    A reader sees everything; a member attaches and detaches; a manager sets accelerators ready and has drivers
    installed; an admin does everything. Each role includes the ones before.

    \b
    Examples:
      cyborg-reconciler token create ci --role member --project 5f1c --expires 90d > ci.token
      cyborg-reconciler token create grafana --role reader --output json
    """
    with open_stores(settings) as stores:
        one, text = Credentials(stores.credentials, SystemClock()).create(operator(), name, role, project, expires)
    if output == "json":
        put_json({**_told(one), "token": text})
        return DONE
    until = f"until {one.expires_at:%Y-%m-%d %H:%M} UTC" if one.expires_at else "until it is revoked"
    errors_console().print(f"{name} is {role} {until}; the token is shown this once:")
    click.echo(text)
    return DONE


@token.command("list", short_help="Which tokens there are.")
@with_output
@with_state
def list_(*, output: str, settings: Settings) -> int:
    """Show which tokens there are, what they open, and when they were used last (to within some minutes).

    \b
    Examples:
      cyborg-reconciler token list
      cyborg-reconciler token list --output json
    """
    with open_stores(settings, writes=False) as stores:
        rows = [_told(one) for one in stores.credentials.credentials()]
    if output == "json":
        put_json(rows)
    elif not rows:
        console().print("no tokens yet")
    else:
        console().print(_table(rows))
    return DONE


@token.command(short_help="Have a token open nothing any more.")
@with_state
@click.argument("name")
def revoke(*, settings: Settings, name: str) -> int:
    """Have the token called NAME open nothing any more. Its name stays taken: the audit trail has it.

    \b
    Example:
      cyborg-reconciler token revoke ci
    """
    with open_stores(settings) as stores:
        Credentials(stores.credentials, SystemClock()).revoke(operator(), name)
    console().print(f"{name} is revoked; servers that run heed it within {settings.token_cache_s} s")
    return DONE


def _told(one: Credential) -> dict[str, str | None]:
    """Return what may be told of a credential, as JSON has it."""
    told = {key: plain(value) for key, value in asdict(one).items() if key != "digest"}
    return {**told, "status": one.status(datetime.now(UTC))}


def _table(rows: list[dict[str, str | None]]) -> Table:
    table = plain_table("name", "role", "project", "status", "created", "expires", "last used")
    for row in rows:
        cells = [row["name"], row["role"], row["project_id"], row["status"]]
        times = [row["created_at"], row["expires_at"], row["last_used_at"]]
        cells += [time[:16].replace("T", " ") if time else "never" for time in times]
        table.add_row(*(Text(cell or "") for cell in cells))
    return table
