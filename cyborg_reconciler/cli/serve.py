# SPDX-License-Identifier: Apache-2.0
"""`serve`: the REST API under gunicorn, and a worker beside it, in processes that end with this one."""

import functools
import logging
import logging.config
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import click

from cyborg_reconciler.cli.common import with_inventory, with_policies, with_state
from cyborg_reconciler.cli.supervision import Start, start, supervise
from cyborg_reconciler.logs import configuration
from cyborg_reconciler.settings import CHOICES, PREFIX, Settings

#: How gunicorn is to serve; shipped with the API.
CONFIGURATION: Final = "python:cyborg_reconciler_api.gunicorn_conf"

log: Final = logging.getLogger("cyborg_reconciler.serve")


def with_tls(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the files of TLS; the command gets `tls`, those that are given by the names of their settings."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)

    @click.option("--tls-cert", type=file, help="The server's certificate (PEM).  [default: the setting tls_cert]")
    @click.option("--tls-key", type=file, help="Its key (PEM).  [default: the setting tls_key]")
    @click.option("--tls-client-ca", type=file, help="Ask clients for a certificate of this CA (PEM).")
    @functools.wraps(command)
    def wrapped(
        *args: Any,  # noqa: ANN401 - click's own
        tls_cert: Path | None,
        tls_key: Path | None,
        tls_client_ca: Path | None,
        **kwargs: Any,  # noqa: ANN401 - click's own
    ) -> Any:  # noqa: ANN401 - click's own
        given = {"tls_cert": tls_cert, "tls_key": tls_key, "tls_client_ca": tls_client_ca}
        tls = {name: str(path.absolute()) for name, path in given.items() if path is not None}
        return command(*args, tls=tls, **kwargs)

    return wrapped


def with_worker(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what the worker is told; the command gets `worker`: its words, or None where there is to be none."""

    @with_inventory
    @with_policies
    @click.option("--interval", type=click.IntRange(1), help="Seconds between two looks at hosts.  [default: 300]")
    @click.option("--allow-reboot", is_flag=True, help="Reboot hosts where it is needed, whatever the pools say.")
    @click.option("--no-worker", is_flag=True, help="Serve the API alone; hosts are looked at by others.")
    @functools.wraps(command)
    def wrapped(
        *args: Any,  # noqa: ANN401 - click's own
        inventory: tuple[str, ...],
        policies: str | None,
        interval: int | None,
        allow_reboot: bool,
        no_worker: bool,
        **kwargs: Any,  # noqa: ANN401 - click's own
    ) -> Any:  # noqa: ANN401 - click's own
        words = [word for source in inventory for word in ("--inventory", source)]
        words += [] if policies is None else ["--policies", policies]
        words += [] if interval is None else ["--interval", str(interval)]
        words += ["--allow-reboot"] if allow_reboot else []
        return command(*args, worker=None if no_worker else words, **kwargs)

    return wrapped


def with_processes(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how many processes and threads serve; the command gets `processes`: words for gunicorn."""

    @click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes that serve.")
    @click.option("--threads", type=click.IntRange(1, 64), help="Threads of each.  [default: 8]")
    @functools.wraps(command)
    def wrapped(*args: Any, workers: int, threads: int | None, **kwargs: Any) -> Any:  # noqa: ANN401 - click's own
        words = ["--workers", str(workers), *(() if threads is None else ("--threads", str(threads)))]
        return command(*args, processes=words, **kwargs)

    return wrapped


@click.command(short_help="Serve the REST API, and keep the hosts as declared.")
@with_state
@with_tls
@with_worker
@click.option("--bind", metavar="HOST:PORT", default="127.0.0.1:6670", show_default=True, help="Where to listen.")
@click.option("--auth", type=click.Choice(CHOICES["auth"]), help="How users say who they are.  [default: token]")
@click.option(
    "--agents",
    type=click.Choice(CHOICES["agents"][:2]),
    help="Where agents check in: here too, or at servers that `conductor` starts.  [default: here]",
)
@with_processes
def serve(  # noqa: PLR0913 - the options of a command
    *,
    settings: Settings,
    tls: dict[str, str],
    worker: list[str] | None,
    bind: str,
    auth: str | None,
    agents: str | None,
    processes: list[str],
) -> int:
    """Serve the REST API, and keep the hosts as declared, until it is told to stop.

    Beside the server runs a worker, which does what `run` does; it is started again when it ends by itself.

    SIGTERM and SIGINT let requests and the wave that have begun come to their end; a second one breaks the wave off.
    SIGHUP reads settings and certificates anew.

    \b
    Examples:
      cyborg-reconciler serve --auth none --state /tmp/state -i inventory/ -p policies/
      curl http://127.0.0.1:6670/v1/accelerators
      cyborg-reconciler serve --bind 0.0.0.0:6670 --tls-cert api.pem --tls-key api.key
    """
    scheme = auth or settings.auth
    if scheme == "none" and not is_loopback(bind):
        msg = f"--auth none is for loopback alone, and --bind is {bind}: bind to 127.0.0.1, or use --auth token"
        raise click.UsageError(msg, click.get_current_context())
    logging.config.dictConfig(configuration(settings.log_format))
    if scheme == "token":
        _say_how_to_begin(settings)
    given = {**tls, "auth": scheme, "agents": agents or settings.agents}
    work = [sys.executable, "-m", "cyborg_reconciler", "worker", "--state", str(settings.state_dir), *(worker or ())]
    # Not the terminal's Ctrl-C as well: a second signal would break off what the worker is at.
    start_worker = None if worker is None else lambda: start(work, os.environ, alone=True)
    return serve_with(settings, [*processes, "--bind", bind], given, start_worker)


def serve_with(settings: Settings, words: list[str], given: Mapping[str, str], start_worker: Start | None) -> int:
    """Serve as gunicorn's *words* and the settings *given* say, beside a worker if one is to be started."""
    environ = {
        **os.environ,
        f"{PREFIX}STATE_DIR": str(settings.state_dir.absolute()),
        **{f"{PREFIX}{name.upper()}": value for name, value in given.items()},
    }
    command = [sys.executable, "-m", "gunicorn", "-c", CONFIGURATION, *words]
    logging.config.dictConfig(configuration(settings.log_format))
    return supervise(lambda: start(command, environ), start_worker, log.warning)


def _say_how_to_begin(settings: Settings) -> None:
    """Say how to make the first token where nobody has one that is valid; the API serves on, and heeds it at once."""
    from cyborg_reconciler.bootstrap import open_stores  # noqa: PLC0415 - slow to import, and this process lives on

    now = datetime.now(UTC)
    with open_stores(settings) as stores:
        is_open = any(one.status(now) == "valid" for one in stores.credentials.credentials())
    if not is_open:
        command = f"cyborg-reconciler token create NAME --role admin --state {settings.state_dir}"
        log.warning("there is no valid token yet, and nobody can call the API; make one: %s", command)


def is_loopback(bind: str) -> bool:
    """Return whether *bind* is reached from this machine alone: loopback addresses and socket files, between commas.

    >>> is_loopback("127.0.0.1:80"), is_loopback("[::1]:80"), is_loopback("0.0.0.0:80"), is_loopback("unix:/run/x")
    (True, True, False, True)
    >>> is_loopback("unix:/run/x,0.0.0.0:80"), is_loopback(":80"), is_loopback("[::]:80"), is_loopback("localhost.x:80")
    (False, False, False, False)
    """
    if "," in bind:
        return all(map(is_loopback, bind.split(",")))
    if bind.startswith("unix:"):
        return True
    host = bind.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
