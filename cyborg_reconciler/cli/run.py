# SPDX-License-Identifier: Apache-2.0
"""`run`: the loop. Policies are watched, hosts are observed every interval, drift is corrected as the policies say."""

import signal
import threading
from dataclasses import replace
from types import FrameType

import click

from cyborg_reconciler.bootstrap import open_ports
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
from cyborg_reconciler.core.state import Sync
from cyborg_reconciler.errors import AlreadyRunningError, JournalError, NextStep, ReconcilerError
from cyborg_reconciler.phases import put_right
from cyborg_reconciler.reconcile import converge, resume
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.survey import Options, Ports, Survey, survey

#: How often the policies are looked at for a change.
WATCH_S = 1.0


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
    stop = threading.Event()
    options = replace(options_of(settings, limit, consent=yes, allow_reboot=allow_reboot), stop=stop.is_set)
    _stop_on_signals(stop)
    with open_ports(settings, target, exclusive=True) as ports:
        resume(ports)
        while not stop.is_set():
            stamp = _stamp(ports, "")
            code = turn(ports, options)
            if once:
                return code
            waited = 0.0
            while (
                waited < (interval or settings.interval_s) and _stamp(ports, stamp) == stamp and not stop.wait(WATCH_S)
            ):
                waited += WATCH_S
    return DONE


def _stamp(ports: Ports, known: str) -> str:
    """Return the stamp of what is declared; the one that is *known* where it cannot be had just now."""
    try:
        return ports.declarations.stamp()
    except JournalError:
        return known


def _stop_on_signals(stop: threading.Event) -> None:
    """Set *stop* at the first SIGTERM or SIGINT, and break off what runs at the second."""
    signals = (signal.SIGTERM, signal.SIGINT)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            for number in signals:  # what ends the processes of the run must not be broken off in its turn
                signal.signal(number, signal.SIG_IGN)
            raise KeyboardInterrupt
        stop.set()

    for number in signals:
        signal.signal(number, on_signal)


def turn(ports: Ports, options: Options) -> int:
    """Look once and correct what may be, and return the exit code of an apply that came out so.

    Trouble that a next look may not have is said and survived. That another process has begun to change the hosts
    while the journal's server was away will not pass: this one has to end.
    """
    out = errors_console()
    try:
        put_right(ports.journal, ports.clock.now())  # of a turn that lost its journal
        with shown(out, quiet=True) as on_progress:
            seen = survey(ports, options, on_progress)
        _tell(seen)
        with shown(out) as on_progress:
            after = converge(ports, seen, options, on_progress)
        if after is not seen:
            _tell(after)
        return exit_code(after)
    except AlreadyRunningError:
        raise
    except ReconcilerError as exc:
        # Also STALL: a person mends the policies or the inventory while the loop goes on, and nothing was changed.
        tried = "tried again" if exc.next_step is NextStep.RETRY else "looked at again"
        out.print(f"{exc.line()} ({tried} at the next turn)", style="red")
        return FAILED


def _tell(seen: Survey) -> None:
    out = errors_console()
    for view in seen.hosts.values():
        if view.verdict.sync is not Sync.SYNCED:
            wait = next(iter(view.plan.waits), None)
            count = len(view.plan.actions)
            why = f"{wait.reason}: {wait.message}" if wait else f"{count} action{'' if count == 1 else 's'}"
            if view.phase in WAITING:
                why = f"{view.phase}: {why}"
            out.print(f"{view.host.name}: {view.verdict.sync}: {why}")
    out.print(footer(seen))
