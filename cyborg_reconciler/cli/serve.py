# SPDX-License-Identifier: Apache-2.0
"""`serve`: the REST API, under gunicorn, in processes that end with this one."""

import ctypes
import os
import signal
import subprocess
import sys
from ipaddress import ip_address
from types import FrameType
from typing import Final

import click

from cyborg_reconciler.cli.common import with_state
from cyborg_reconciler.settings import CHOICES, PREFIX, Settings

#: How gunicorn is to serve; shipped with the API.
CONFIGURATION: Final = "python:cyborg_reconciler_api.gunicorn_conf"

#: A process asks by this for a signal when its parent ends. Source: prctl(2).
PR_SET_PDEATHSIG: Final = 1


@click.command(short_help="Serve the REST API.")
@with_state
@click.option("--bind", metavar="HOST:PORT", default="127.0.0.1:8778", show_default=True, help="Where to listen.")
@click.option("--auth", type=click.Choice(CHOICES["auth"]), help="How users say who they are.  [default: token]")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes that serve.")
@click.option("--threads", type=click.IntRange(1, 64), help="Threads of each.  [default: 4]")
def serve(*, settings: Settings, bind: str, auth: str | None, workers: int, threads: int | None) -> int:
    """Serve the REST API until it is told to stop.

    SIGTERM and SIGINT let requests that have begun come to their end; SIGHUP reads settings and certificates anew.

    \b
    Example:
      cyborg-reconciler serve --bind 127.0.0.1:8778 --auth none --state /tmp/state
      curl http://127.0.0.1:8778/v1/accelerators
    """
    scheme = auth or settings.auth
    if scheme == "none" and not is_loopback(bind):
        msg = f"--auth none is for loopback alone, and --bind is {bind}: bind to 127.0.0.1, or use --auth token"
        raise click.UsageError(msg, click.get_current_context())
    environ = {
        **os.environ,
        f"{PREFIX}STATE_DIR": str(settings.state_dir.absolute()),
        f"{PREFIX}AUTH": scheme,
    }
    command = [sys.executable, "-m", "gunicorn", "-c", CONFIGURATION, "--bind", bind]
    command += ["--workers", str(workers), "--threads", str(threads or settings.threads)]
    # A process of gunicorn's own, that goes when this one is killed.
    server = subprocess.Popen(command, env=environ, preexec_fn=_end_with_parent)  # noqa: PLW1509 - no threads here yet
    _pass_on(server, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    return server.wait()


def is_loopback(bind: str) -> bool:
    """Return whether *bind* is reached from this machine alone: a loopback address, or a socket file.

    >>> is_loopback("127.0.0.1:80"), is_loopback("[::1]:80"), is_loopback("0.0.0.0:80"), is_loopback("unix:/run/x")
    (True, True, False, True)
    """
    if bind.startswith("unix:"):
        return True
    host = bind.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent does, by whatever means."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _pass_on(server: subprocess.Popen[bytes], *numbers: signal.Signals) -> None:
    """Have the signals *numbers* go to *server*."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        server.send_signal(number)

    for number in numbers:
        signal.signal(number, on_signal)
