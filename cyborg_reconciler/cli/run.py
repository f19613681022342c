# SPDX-License-Identifier: Apache-2.0
"""`run` and `worker`: the loop, by itself and under a server. Does I/O on the terminal; the loop is `worker`'s."""

import logging
import logging.config
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Final

import click

from cyborg_reconciler.bootstrap import Site, SystemClock, Target, open_site, open_stores, signs_of_life
from cyborg_reconciler.cli.apply import exit_code
from cyborg_reconciler.cli.common import (
    DONE,
    FAILED,
    errors_console,
    options_of,
    target_of,
    with_hosts,
    with_policies,
    with_state,
)
from cyborg_reconciler.cli.progress import shown
from cyborg_reconciler.cli.render import WAITING, footer
from cyborg_reconciler.conductor.leasing import Leaseholder
from cyborg_reconciler.core.state import Sync
from cyborg_reconciler.errors import AlreadyRunningError
from cyborg_reconciler.logs import configuration
from cyborg_reconciler.ports import OnProgress, Progress
from cyborg_reconciler.reconcile import resume
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.survey import HostView, Survey
from cyborg_reconciler.worker import Loop

#: The lease of the one worker that looks at hosts and changes them.
LEASE: Final = "worker"

#: How often a worker that stands by looks whether it is its turn.
STAND_BY_S: Final = 1.0

log = logging.getLogger("cyborg_reconciler.worker")


class Lines:
    """Who is told what the loop does: whoever reads standard error."""

    def __init__(self) -> None:
        self._out = errors_console()

    def watching(self, *, quiet: bool) -> AbstractContextManager[OnProgress]:
        """Show a run's progress, unless it is to be *quiet*."""
        return shown(self._out, quiet=quiet)

    def tell(self, seen: Survey) -> None:
        """Say which hosts are not as declared, and why; and how many are."""
        for view in seen.hosts.values():
            if view.verdict.sync is not Sync.SYNCED:
                self._out.print(f"{view.host.name}: {view.verdict.sync}: {why_of(view)}")
        self._out.print(footer(seen))

    def say(self, line: str) -> None:
        """Say what went wrong."""
        self._out.print(line, style="red")


class Log:
    """Who is told what the loop does: whoever reads the log of a server."""

    @contextmanager
    def watching(self, *, quiet: bool) -> Iterator[OnProgress]:
        """Log what a run does, unless it is to be *quiet*."""

        def note(progress: Progress) -> None:
            if not quiet and progress.status != "started":
                fields = {"host": progress.host, "step": progress.step, "status": progress.status}
                log.info(progress.message or "done", extra={"fields": fields})

        yield note

    def tell(self, seen: Survey) -> None:
        """Log which hosts are not as declared, and why; and how many are."""
        for view in seen.hosts.values():
            if view.verdict.sync is not Sync.SYNCED:
                fields = {"host": view.host.name, "sync": str(view.verdict.sync), "phase": str(view.phase)}
                log.info(why_of(view), extra={"fields": fields})
        log.info("%s", footer(seen))

    def say(self, line: str) -> None:
        """Log what went wrong."""
        log.warning("%s", line)


def why_of(view: HostView) -> str:
    """Return in one line why a host is not as declared."""
    wait = next(iter(view.plan.waits), None)
    count = len(view.plan.actions)
    why = f"{wait.reason}: {wait.message}" if wait else f"{count} action{'' if count == 1 else 's'}"
    return f"{view.phase}: {why}" if view.phase in WAITING else why


@click.command(short_help="The loop: keep the hosts as declared.")
@with_hosts
@with_policies
@with_state
@click.option("--interval", type=click.IntRange(1), help="Seconds between two looks at the hosts.  [default: 300]")
@click.option("--allow-reboot", is_flag=True, help="Reboot hosts where it is needed, whatever the pools say.")
@click.option("-y", "--yes", is_flag=True, help="Approve every plan: pools with manual approval do not wait.")
@click.option("--once", is_flag=True, help="One pass, then exit.")
def run(  # noqa: PLR0913 - the options of a command
    *,
    inventory: tuple[str, ...],
    limit: str,
    policies: str | None,
    settings: Settings,
    interval: int | None,
    allow_reboot: bool,
    yes: bool,
    once: bool,
) -> int:
    """Keep the hosts as declared until it is told to stop.

    Hosts of a pool with `approval: automatic` are corrected at once; others wait for `approve`, or for --yes.

    SIGTERM or SIGINT lets the wave that runs come to its end, and its hosts be looked at; a second one breaks it off.

    \b
    Exits with 0 when it was told to stop, and with 130 when something was broken off. With --once, as `apply` does:
    with 0 when every host is verified, with 2 when some wait, and with 1 when something failed or was refused.

    \b
    Example:
      cyborg-reconciler run -i inventory/ -p policies/ --interval 60
    """
    target = target_of(settings, inventory, limit, policies)
    stop = stop_on_signals()
    options = replace(options_of(settings, limit, consent=yes, allow_reboot=allow_reboot), stop=stop.is_set)
    interval_s = interval or settings.interval_s
    with _opened(settings, target, interval_s) as site:
        loop = Loop(site, options, interval_s, Lines())
        if once:
            after = loop.look_at_all()
            return FAILED if after is None else exit_code(after)
        with (
            open_stores(settings) as stores,
            signs_of_life(settings, stores, "worker", str(settings.state_dir.absolute())).given(),
        ):
            loop.run(stop.wait)
    return DONE


@click.command(short_help="The loop, under a server: what `serve` starts.")
@with_hosts
@with_policies
@with_state
@click.option("--interval", type=click.IntRange(1), help="Seconds between two looks at the hosts.  [default: 300]")
@click.option("--allow-reboot", is_flag=True, help="Reboot hosts where it is needed, whatever the pools say.")
def worker(  # noqa: PLR0913 - the options of a command
    *,
    inventory: tuple[str, ...],
    limit: str,
    policies: str | None,
    settings: Settings,
    interval: int | None,
    allow_reboot: bool,
) -> int:
    """Keep the hosts as declared, in files and over the API, until it is told to stop.

    It is what `serve` starts beside the server. Of several workers one works, as long as it holds a lease; the others
    stand by, and one of them goes on when it ends. Without --policies nothing is undone that policies of files had set.

    SIGTERM or SIGINT lets the wave that runs come to its end, and its hosts be looked at; a second one breaks it off.

    \b
    Example:
      cyborg-reconciler worker -i inventory/ -p policies/
    """
    chosen = settings.policies if policies is None else policies
    target = Target(inventory or settings.inventory, limit, chosen)
    logging.config.dictConfig(configuration(settings.log_format))
    stop, audience = stop_on_signals(), Log()
    options = options_of(settings, limit, allow_reboot=allow_reboot)
    interval_s = interval or settings.interval_s
    with ExitStack() as stack:
        stores = stack.enter_context(open_stores(settings))
        lease = Leaseholder(stores.leases, LEASE, f"{socket.gethostname()}:{os.getpid()}", SystemClock())
        options = replace(options, stop=lambda: stop.is_set() or not lease.holds())
        waiter = Waiter(stop, audience)
        alive = signs_of_life(settings, stores, "worker", str(settings.state_dir.absolute()))
        alive = replace(alive, message=lambda: "at work" if lease.holds() else "standing by")
        stack.enter_context(alive.given())
        while not stop.is_set():
            if not lease.take():
                waiter.stand_by("another worker is at work")
                continue
            with lease.kept():
                while not options.stop():
                    try:
                        with _opened(settings, target, interval_s) as site:
                            waiter.said = ""
                            log.info("at work")
                            Loop(site, options, interval_s, audience).run(stop.wait)
                    except AlreadyRunningError as exc:
                        waiter.stand_by(exc.line())
    return DONE


@dataclass
class Waiter:
    """Who stands by, and says once why."""

    stop: threading.Event
    audience: Log
    said: str = ""

    def stand_by(self, why: str) -> None:
        """Wait a moment, since *why* it is somebody else's turn."""
        if why != self.said:
            self.audience.say(f"{why}; standing by")
        self.said = why
        self.stop.wait(STAND_BY_S)


@contextmanager
def _opened(settings: Settings, target: Target, interval_s: float) -> Iterator[Site]:
    """Give what the loop works on, once what an earlier process left open is closed."""
    with open_site(settings, target, interval_s) as site:
        resume(site.ports)
        yield site


def stop_on_signals() -> threading.Event:
    """Return an event that the first SIGTERM or SIGINT sets; the second one breaks off what runs."""
    signals, stop = (signal.SIGTERM, signal.SIGINT), threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            for number in signals:  # what ends the processes of the run must not be broken off in its turn
                signal.signal(number, signal.SIG_IGN)
            raise KeyboardInterrupt
        stop.set()

    for number in signals:
        signal.signal(number, on_signal)
    return stop
