# SPDX-License-Identifier: Apache-2.0
"""`conductor`: a server for agents alone, beside the servers of the API; in processes that end with this one."""

import click

from cyborg_reconciler.cli.common import with_state
from cyborg_reconciler.cli.serve import serve_with, with_processes, with_tls
from cyborg_reconciler.settings import Settings


@click.command(short_help="Serve agents alone, beside servers of the API.")
@with_state
@with_tls
@with_processes
@click.option("--bind", metavar="HOST:PORT", default="127.0.0.1:6671", show_default=True, help="Where to listen.")
def conductor(*, settings: Settings, tls: dict[str, str], processes: list[str], bind: str) -> int:
    """Serve what agents call (look-up, hello, check-in), and nothing of what users do, until it is told to stop.

    For a control plane of several: conductors share one database with servers of the API that are started with
    `serve --agents elsewhere`, so that each kind has processes, an address and certificates of its own. Probes, metrics
    and the list of versions are there as well.

    SIGTERM and SIGINT let requests that have begun come to their end. SIGHUP reads settings and certificates anew.

    \b
    Examples:
      cyborg-reconciler conductor --bind 127.0.0.1:6671
      cyborg-reconciler conductor --bind 0.0.0.0:6671 --tls-cert conductor.pem --tls-client-ca agents-ca.pem
    """
    return serve_with(settings, [*processes, "--bind", bind], {**tls, "agents": "only"}, None)
