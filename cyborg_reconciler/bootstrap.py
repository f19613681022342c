# SPDX-License-Identifier: Apache-2.0
"""The only place where adapters meet ports. Called by the CLI and by the loop."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cyborg_reconciler.adapters.ansible.executor import AnsibleExecutor
from cyborg_reconciler.adapters.ansible.inventory import AnsibleInventory
from cyborg_reconciler.adapters.ansible.observer import AnsibleObserver
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions
from cyborg_reconciler.adapters.database import DatabaseStore, open_journal, open_reader
from cyborg_reconciler.adapters.declarations.yaml import YamlDeclarations
from cyborg_reconciler.meters import Tallies
from cyborg_reconciler.ports import Declarations, Journal
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.survey import Ports

if TYPE_CHECKING:
    from cyborg_reconciler.adapters.prometheus import PrometheusMeter


@dataclass(frozen=True, slots=True)
class Target:
    """Which hosts, and by which policies; empty policies serve for what only observes."""

    inventory: tuple[str, ...]
    limit: str
    policies: str


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)


class NoScheduler:
    """The cordon of hosts to which nobody sends work: there is nobody to tell."""

    def cordon(self, host: str) -> bool:
        """Return that *host* is ours to change."""
        return bool(host)

    def uncordon(self, host: str) -> None:
        """Nobody has to be told of *host*."""


def declarations_of(policies: str) -> YamlDeclarations:
    """Return the source of declarations at the path *policies*; the shipped drivers alone when it is empty."""
    return YamlDeclarations([Path(policies)] if policies else [])


@contextmanager
def open_ports(settings: Settings, target: Target, *, exclusive: bool) -> Iterator[Ports]:
    """Yield the ports for *target*; *exclusive* where hosts are changed.

    Raises:
        AlreadyRunningError: another process changes hosts with this state folder.
        JournalError: the journal cannot be opened.
    """
    with ExitStack() as stack:
        journal = stack.enter_context(open_journal(settings.state_dir, exclusive=exclusive))
        options = AnsibleOptions(
            inventory=target.inventory,
            runs=(settings.state_dir / "runs").absolute(),  # runs work in folders of their own
            limit=target.limit,
            forks=settings.forks,
            run_timeout_s=settings.run_timeout_s,
        )
        clock = SystemClock()
        declarations: Declarations = declarations_of(target.policies)
        yield Ports(
            declarations=declarations,
            inventory=AnsibleInventory(options),
            observer=AnsibleObserver(options, clock),
            executor=AnsibleExecutor(options),
            journal=journal,
            cordon=NoScheduler(),
            clock=clock,
            controller=journal.controller(),
        )


@contextmanager
def open_memory(settings: Settings, *, writes: bool = False) -> Iterator[Journal]:
    """Yield the journal alone.

    Raises:
        JournalError: there is none yet, or it cannot be opened.
    """
    opened = open_journal(settings.state_dir, exclusive=False) if writes else open_reader(settings.state_dir)
    with opened as journal:
        yield journal


@contextmanager
def open_stores(settings: Settings) -> Iterator[tuple[Journal, DatabaseStore]]:
    """Yield what the API and the conductor keep; several processes may, beside the one that changes hosts.

    Raises:
        JournalError: the database cannot be opened.
    """
    with open_journal(settings.state_dir, exclusive=False) as journal:
        yield journal, journal.store()


def open_meter(tallies: Tallies) -> "PrometheusMeter":
    """Return what counts in this process, and tells that together with what there is by *tallies*."""
    from cyborg_reconciler.adapters.prometheus import PrometheusMeter  # noqa: PLC0415 - slow to import; servers alone count

    return PrometheusMeter(tallies)
