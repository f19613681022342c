# SPDX-License-Identifier: Apache-2.0
"""The only place where adapters meet ports. Called by the CLI and by the loop."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cyborg_reconciler.adapters.ansible.executor import AnsibleExecutor
from cyborg_reconciler.adapters.ansible.inventory import AnsibleInventory
from cyborg_reconciler.adapters.ansible.observer import AnsibleObserver
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions
from cyborg_reconciler.adapters.database import Fleet, open_journal, open_reader
from cyborg_reconciler.adapters.declarations.catalogue import read_catalogue
from cyborg_reconciler.adapters.declarations.stored import RecordedDeclarations, StoredPolicies
from cyborg_reconciler.adapters.declarations.yaml import YamlDeclarations
from cyborg_reconciler.agent_stores import AgentStore
from cyborg_reconciler.conductor.agents import Agents, AgentTerms
from cyborg_reconciler.conductor.saving import SaveOut, Saver
from cyborg_reconciler.documents.declared import Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.meters import Tallies
from cyborg_reconciler.ports import Declarations, Journal, Source
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.stores import AcceleratorStore, CredentialStore, HardwareStore
from cyborg_reconciler.survey import Ports

if TYPE_CHECKING:
    from cyborg_reconciler.adapters.prometheus import PrometheusMeter


@dataclass(frozen=True, slots=True)
class Target:
    """Which hosts, and by which policies: a tree's path, or empty: the API's alone. None serves what only observes."""

    inventory: tuple[str, ...]
    limit: str
    policies: str | None


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


def declarations_of(policies: str, others: Sequence[Source] = ()) -> YamlDeclarations:
    """Return what the tree at the path *policies* declares (none where it is empty), shipped drivers, and *others*."""
    return YamlDeclarations([Path(policies)] if policies else [], others)


def sources_of(fleet: Fleet) -> tuple[Source, ...]:
    """Return what is declared beside the tree: whatever is added here is resolved together with it everywhere."""
    return (StoredPolicies(fleet.policies),)


def recorded_declarations(fleet: Fleet) -> RecordedDeclarations:
    """Return what is declared, for a process that cannot see the tree: as it was when hosts were last looked at."""
    return RecordedDeclarations(fleet.declared, sources_of(fleet))


def shipped_drivers() -> Sequence[Located[Driver]]:
    """Return the drivers that this release brings along."""
    return read_catalogue()


@contextmanager
def open_ports(settings: Settings, target: Target, *, exclusive: bool) -> Iterator[Ports]:
    """Yield the ports for *target*; *exclusive* where hosts are changed.

    Raises:
        AlreadyRunningError: another process changes hosts with this state folder.
        JournalError: the journal cannot be opened.
    """
    with ExitStack() as stack:
        journal = stack.enter_context(open_journal(settings.state_dir, database=settings.database, exclusive=exclusive))
        options = AnsibleOptions(
            inventory=target.inventory,
            runs=(settings.state_dir / "runs").absolute(),  # runs work in folders of their own
            limit=target.limit,
            forks=settings.forks,
            run_timeout_s=settings.run_timeout_s,
        )
        clock = SystemClock()
        others = () if target.policies is None else sources_of(journal.fleet())
        declarations: Declarations = declarations_of(target.policies or "", others)
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
    folder, database = settings.state_dir, settings.database
    with (
        open_journal(folder, database=database, exclusive=False)
        if writes
        else open_reader(folder, database=database) as journal
    ):
        yield journal


@dataclass(frozen=True, slots=True)
class Stores:
    """What the API and the conductor keep."""

    journal: Journal
    accelerators: AcceleratorStore
    hardware: HardwareStore
    agents: AgentStore
    credentials: CredentialStore
    tallies: Tallies
    fleet: Fleet


@contextmanager
def open_stores(settings: Settings, *, writes: bool = True) -> Iterator[Stores]:
    """Yield what the API and the conductor keep; several processes may, beside the one that changes hosts.

    Raises:
        JournalError: the database cannot be opened; where nothing *writes*, also when there is none yet.
    """
    folder, database = settings.state_dir, settings.database
    with (
        open_journal(folder, database=database, exclusive=False)
        if writes
        else open_reader(folder, database=database) as journal
    ):
        yield Stores(
            journal=journal,
            accelerators=journal.accelerators(),
            hardware=journal.hardware(),
            agents=journal.agents(),
            credentials=journal.credentials(),
            tallies=journal.tallies(),
            fleet=journal.fleet(),
        )


@contextmanager
def open_agents(settings: Settings) -> Iterator[Agents]:
    """Yield what operators ask of agents.

    Raises:
        JournalError: the database cannot be opened.
    """
    with open_stores(settings) as stores:
        saver = Saver(stores.agents, SaveOut())
        yield Agents(stores.agents, saver, SystemClock(), AgentTerms(settings.heartbeat_interval_s))
        saver.close()


def open_meter(tallies: Tallies) -> "PrometheusMeter":
    """Return what counts in this process, and tells that together with what there is by *tallies*."""
    from cyborg_reconciler.adapters.prometheus import PrometheusMeter  # noqa: PLC0415 - slow to import; servers alone count

    return PrometheusMeter(tallies)
