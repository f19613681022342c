# SPDX-License-Identifier: Apache-2.0
"""`agents`: which agents there are, and who may become one."""

from dataclasses import asdict
from datetime import timedelta
from typing import Final

import click
from rich.text import Text

from cyborg_reconciler.bootstrap import agent_digest, open_admission, open_discovery, open_stores
from cyborg_reconciler.cli.common import DONE, console, put_json, with_output, with_state
from cyborg_reconciler.cli.operators import Duration, operator
from cyborg_reconciler.cli.tables import ago, plain, plain_table
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.stores.agents import Agent, every_agent

#: What nobody outside of the database is told.
HIDDEN: Final = {"token_hash", "next_token_hash"}


@click.group(short_help="Which agents there are, and who may become one.")
def agents() -> None:
    """Enrol agents, list them, let them in and shut them out.

    An agent looks itself up with an enrolment token, which is for one host and works once; the host's own token, which
    it gets for that, speaks for that host alone.

    \b
    Examples:
      cyborg-reconciler agents enrol compute-7 --valid 30m > compute-7.token
      cyborg-reconciler agents list
      cyborg-reconciler agents hardware compute-7
      cyborg-reconciler agents revoke compute-7
    """


@agents.command(short_help="Mint the token with which the agent of a host looks itself up.")
@click.argument("host")
@click.option("--valid", type=Duration(), default="1h", show_default=True, help="How long it can be used.")
@click.option("--new", is_flag=True, help="Nobody has looked at HOST yet: its agent is to be the first to tell of it.")
@with_output
@with_state
def enrol(*, host: str, valid: timedelta, new: bool, output: str, settings: Settings) -> int:
    """Mint an enrolment token for HOST, as the inventory calls it, and print it: it is shown this once.

    A name that no host has that was looked at is refused, since it may be misspelt. With --new a host of that name is
    known from then on; one that no inventory has is observed, and not changed.

    \b
    Example:
      cyborg-reconciler agents enrol compute-7 --valid 30m > compute-7.token
    """
    with open_admission(settings) as service:
        if not new:
            service.check_known(host)
        token = service.enrol(operator(), host, valid)
    if output == "json":
        put_json({"host": host, "token": token, "valid_s": int(valid.total_seconds())})
    else:
        click.echo(token)
    return DONE


@agents.command(short_help="By what the agent of a host knows the conductor at its own port.")
@click.argument("host")
@with_output
@with_state
def digest(*, host: str, output: str, settings: Settings) -> int:
    """Print what the agent of HOST, as the inventory calls it, is to have in its conductor_digest_file.

    Its port opens to a credential of its own, which the conductor makes of its secret (agent_secret_file) and the
    host's name. The digest tells who shows that, and opens nothing. The role openstack.cyborg.agent makes it by itself.

    \b
    Example:
      cyborg-reconciler agents digest compute-7 > conductor_digest
    """
    found = agent_digest(settings, host)
    if output == "json":
        put_json({"host": host, "digest": found})
    else:
        click.echo(found)
    return DONE


@agents.command("list", short_help="The agents, and when they were last heard.")
@with_output
@with_state
def list_(*, output: str, settings: Settings) -> int:
    """List the agents, and when they were last heard.

    \b
    Example:
      cyborg-reconciler agents list
    """
    with open_stores(settings, writes=False) as stores:
        found = list(every_agent(stores.agents))
    if output == "json":
        put_json([{key: plain(value) for key, value in asdict(one).items() if key not in HIDDEN} for one in found])
    elif not found:
        console().print("no agents yet")
    else:
        table = plain_table("host", "status", "seen", "release", "epoch", "sequence")
        for one in found:
            cells = (one.host, _status(one), ago(one.last_seen_at), one.agent_version, one.epoch, one.sequence)
            table.add_row(*(Text(str(cell)) for cell in cells))
        console().print(table)
    return DONE


def _status(one: Agent) -> str:
    if not one.token_hash:
        return "revoked"
    if not one.approved:
        return "waits for approval"
    return "silent" if one.silent else "heard" if one.last_seen_at else "enrolled"


@agents.command(short_help="What an agent says of its hardware just now.")
@click.argument("host")
@click.option("--driver", metavar="NAME", help="Only what this driver of the agent found.")
@with_output
@with_state
def hardware(*, host: str, driver: str | None, output: str, settings: Settings) -> int:
    """Ask the agent of HOST at its own port what hardware there is.

    It is called where the inventory says (cyborg_agent_endpoint), with a credential of its own, made of the secret that
    the settings name (agent_secret_file): this shows too whether the conductor reaches it.

    \b
    Example:
      cyborg-reconciler agents hardware compute-7
    """
    with open_discovery(settings) as service:
        found = service.hardware(host, driver)
    if output == "json":
        put_json(found)
        return DONE
    table = plain_table("address", "ids", "type", "uuid", "set up", "reboot")
    for one in found["hardware"]:
        status, specs = one["acc_status"], one["acc_specs"]
        ids = (specs.get("vendor_id"), specs.get("product_id"))
        cells = (
            one["address"],
            ":".join(map(str, ids)) if all(ids) else "",
            specs.get("device_type", ""),
            one["uuid"],
            "required" if status["setup_required"] else "",
            "required" if status["reboot_required"] else "",
        )
        table.add_row(*(Text(str(cell)) for cell in cells))
    console().print(table)
    for line in found["unread"]:
        console().print(Text(f"not read: {line}"))
    return DONE


@agents.command(short_help="Let in an agent that registered itself.")
@click.argument("host")
@with_state
def approve(*, host: str, settings: Settings) -> int:
    """Let in the agent of HOST, which registered itself by the shared secret.

    \b
    Example:
      cyborg-reconciler agents approve compute-7
    """
    with open_admission(settings) as service:
        service.approve(operator(), host)
    return DONE


@agents.command(short_help="Shut an agent out.")
@click.argument("host")
@with_state
def revoke(*, host: str, settings: Settings) -> int:
    """Let no token speak for HOST any more; `agents enrol` lets its agent in again.

    Tokens to enrol it that were minted before and not used open nothing either. What its agent said of the health of
    devices is forgotten.

    \b
    Example:
      cyborg-reconciler agents revoke compute-7
    """
    with open_admission(settings) as service:
        service.revoke(operator(), host)
    return DONE


@agents.command(short_help="Have an agent use another token.")
@click.argument("host")
@with_state
def rotate(*, host: str, settings: Settings) -> int:
    """Have the agent of HOST use another token, which its next check-in is answered with.

    \b
    Example:
      cyborg-reconciler agents rotate compute-7
    """
    with open_admission(settings) as service:
        service.ask(operator(), [host], "rotate_token")
    return DONE
