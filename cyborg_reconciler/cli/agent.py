# SPDX-License-Identifier: Apache-2.0
"""`agent`: the resident agent of a compute host. Imports nothing that the agent's small install lacks."""

from pathlib import Path

import click

from cyborg_reconciler.agent.process import run
from cyborg_reconciler.agent.settings import read_agent_settings
from cyborg_reconciler.cli.plain import DONE


@click.command(short_help="The agent of a compute host.")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The agent's settings, as TOML.  [default: /etc/cyborg-agent/agent.toml]",
)
@click.option("--debug", is_flag=True, hidden=True)
def agent(*, config: Path | None, debug: bool) -> int:
    """Observe the host that this runs on, and report to the conductor.

    What its drivers alone know of, and those that register with it, they set up where it is wanted ready. It changes
    nothing else: that is done by Ansible.

    Looks itself up at the conductor, then checks in: at once when something changes, else at the interval that the
    conductor asks for. Answers the internal API on port 1337. SIGHUP makes it look at once and read its
    certificate anew, SIGTERM ends it.

    \b
    Example:
      cyborg-reconciler agent --config /etc/cyborg-agent/agent.toml
    """
    run(read_agent_settings(path=config), debug=debug)
    return DONE
