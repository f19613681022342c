# SPDX-License-Identifier: Apache-2.0
"""The only place where adapters meet ports. Called by the CLI and by the loop."""

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cyborg_reconciler.adapters.ansible.executor import AnsibleExecutor
from cyborg_reconciler.adapters.ansible.inventory import AnsibleInventory
from cyborg_reconciler.adapters.ansible.observer import AnsibleObserver
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions
from cyborg_reconciler.adapters.database import DatabaseJournal, Fleet, open_journal, open_reader
from cyborg_reconciler.adapters.declarations.catalogue import read_catalogue
from cyborg_reconciler.adapters.declarations.stored import RecordedDeclarations, StoredPolicies
from cyborg_reconciler.adapters.declarations.yaml import YamlDeclarations
from cyborg_reconciler.adapters.relay import Relay
from cyborg_reconciler.adapters.stored.inventory import KnownHosts
from cyborg_reconciler.adapters.stored.observer import FreshestObserver, StoredObserver
from cyborg_reconciler.conductor.admission import Admission
from cyborg_reconciler.conductor.agents import SILENT_AFTER, AgentTerms
from cyborg_reconciler.conductor.discovery import Discovery
from cyborg_reconciler.conductor.implied import WithImplied
from cyborg_reconciler.conductor.modules import Modules
from cyborg_reconciler.conductor.offering import Offering
from cyborg_reconciler.conductor.presence import Identity, SignsOfLife
from cyborg_reconciler.conductor.retention import Forgetting
from cyborg_reconciler.conductor.rules import Rules
from cyborg_reconciler.conductor.settling import Settling
from cyborg_reconciler.conductor.usage import Usage
from cyborg_reconciler.documents.declared import Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.documents.rest.fleet import ServiceType
from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.meters import DEVICE_USAGE, Tallies
from cyborg_reconciler.port_credentials import port_credential, port_digest
from cyborg_reconciler.ports import Declarations, Journal, Source
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.stores.accelerators import AcceleratorStore, HardwareStore
from cyborg_reconciler.stores.agents import AgentPort, AgentStore
from cyborg_reconciler.stores.credentials import CredentialStore
from cyborg_reconciler.stores.work import HostDriverStore, Leases, Passes, Queue
from cyborg_reconciler.survey import Ports, Survey

if TYPE_CHECKING:
    from cyborg_reconciler.adapters.prometheus import PrometheusMeter

log: Final = logging.getLogger(__name__)


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


def recorded_declarations(stores: "Stores") -> Declarations:
    """Return what is declared, for a process that cannot see the tree: as it was when hosts were last looked at."""
    return WithImplied(stores.recorded, stores.drivers, stores.accelerators)


def rules_of(stores: "Stores") -> Rules:
    """Return what policies say that somebody wrote, the tree's as the loop recorded them."""
    return Rules(stores.recorded, stores.fleet.plans)


def _recorded(fleet: Fleet) -> Declarations:
    return RecordedDeclarations(fleet.declared, sources_of(fleet))


def wanted_modules(stores: "Stores") -> Modules:
    """Return what tells of which modules facts are to speak."""
    return Modules(stores.recorded)


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
    with open_journal(settings.state_dir, database=settings.database, exclusive=exclusive) as journal:
        yield _ports(settings, target, journal)


def _ports(settings: Settings, target: Target, journal: DatabaseJournal) -> Ports:
    options = AnsibleOptions(
        inventory=target.inventory,
        runs=(settings.state_dir / "runs").absolute(),  # runs work in folders of their own
        limit=target.limit,
        forks=settings.forks,
        run_timeout_s=settings.run_timeout_s,
    )
    clock = SystemClock()
    others = () if target.policies is None else sources_of(journal.fleet())
    tree = declarations_of(target.policies or "", others)
    declared = tree if target.policies is None else WithImplied(tree, journal.work(), journal.accelerators())
    return Ports(
        declarations=declared,
        inventory=AnsibleInventory(options),
        observer=AnsibleObserver(options, clock),
        executor=AnsibleExecutor(options),
        journal=journal,
        cordon=NoScheduler(),
        clock=clock,
        controller=journal.controller(),
    )


@dataclass(frozen=True, slots=True)
class Site:
    """What the loop keeps as declared.

    Attributes:
        settle: is given the end of each pass, to note what has become of what was asked for.
        mark_silent: marks the agents that were not heard for too long.
        forget: forgets what is old.
    """

    ports: Ports
    queue: Queue
    passes: Passes
    settle: Callable[[Survey], None]
    mark_silent: Callable[[], object] = tuple
    forget: Callable[[], object] = tuple


@contextmanager
def open_site(settings: Settings, target: Target, interval_s: float) -> Iterator[Site]:
    """Yield what the loop works on: hosts whose agents were heard within *interval_s* need not be asked.

    Raises:
        AlreadyRunningError: another process changes hosts with this state folder.
        JournalError: the journal cannot be opened.
    """
    with open_journal(settings.state_dir, database=settings.database, exclusive=True) as journal:
        ports, work = _ports(settings, target, journal), journal.work()
        max_age = timedelta(seconds=min(settings.facts_max_age_s, interval_s))
        stored = StoredObserver(journal, ports.clock, max_age)
        ports = replace(ports, observer=FreshestObserver(stored, ports.observer, journal))
        if not target.limit:
            has_no_inventory = not target.inventory
            known = KnownHosts(ports.inventory, journal, ports.clock, max_age, is_optional=has_no_inventory)
            ports = replace(ports, inventory=known)
        accelerators, fleet = journal.accelerators(), journal.fleet()
        rules = Rules(_recorded(fleet), fleet.plans)
        offering = Offering(accelerators, rules, ports.clock)
        settling = Settling(work, accelerators, rules, ports.clock)

        def settle(seen: Survey) -> None:
            offering.record(seen)
            settling.settle(seen)

        terms = AgentTerms(settings.heartbeat_interval_s, save_out_s=settings.save_out_interval_s)
        admission = Admission(journal.agents(), ports.clock, terms)
        days = settings.events_keep_days, settings.plans_keep_days
        forgetting = Forgetting(journal.fleet().retention, ports.clock, *days)
        yield Site(ports, work, work, settle, admission.mark_silent, forgetting.forget)


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
    """What the API and the conductor keep.

    Attributes:
        recorded: what is declared, of the tree as the loop recorded it; parsed once for all that ask.
    """

    journal: Journal
    accelerators: AcceleratorStore
    hardware: HardwareStore
    agents: AgentStore
    credentials: CredentialStore
    tallies: Tallies
    fleet: Fleet
    recorded: Declarations
    drivers: HostDriverStore
    leases: Leases


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
        fleet = journal.fleet()
        yield Stores(
            journal=journal,
            accelerators=journal.accelerators(),
            hardware=journal.hardware(),
            agents=journal.agents(),
            credentials=journal.credentials(),
            tallies=journal.tallies(),
            fleet=fleet,
            recorded=_recorded(fleet),
            drivers=journal.work(),
            leases=journal.work(),
        )


def agent_port(settings: Settings) -> AgentPort | None:
    """Return how agents are called at their own port; None where there is no secret for that.

    Raises:
        SettingsInvalidError: the secret or a certificate cannot be read.
    """
    if not settings.agent_secret_file:
        return None
    from cyborg_reconciler.adapters.agent_port import HttpAgentPort, Terms, read_agent_secret  # noqa: PLC0415 - slow to import; most commands call none

    given = (settings.agent_ca, settings.agent_cert, settings.agent_key)
    for name in filter(None, given):
        if not Path(name).is_file():
            raise SettingsInvalidError(wanted=f"the file {name}", found="it is not there")
    secret = Path(settings.agent_secret_file)
    read_agent_secret(secret)
    return HttpAgentPort(Terms(secret, *(Path(name) if name else None for name in given)))


def agent_digest(settings: Settings, host: str) -> str:
    """Return what the agent of *host* holds of the credential that opens its port.

    Raises:
        SettingsInvalidError: there is no secret to make it of, or it cannot be read.
    """
    from cyborg_reconciler.adapters.agent_port import read_agent_secret  # noqa: PLC0415 - the same

    if not settings.agent_secret_file:
        raise SettingsInvalidError(wanted="agent_secret_file", found="it is not set")
    return port_digest(port_credential(read_agent_secret(Path(settings.agent_secret_file)), host))


@contextmanager
def open_discovery(settings: Settings) -> Iterator[Discovery]:
    """Yield what operators ask agents at their own ports.

    Raises:
        JournalError: the database cannot be opened. SettingsInvalidError: the secret cannot be read.
    """
    with open_stores(settings, writes=False) as stores:
        yield Discovery(stores.agents, SystemClock(), agent_port(settings))


@contextmanager
def open_admission(settings: Settings) -> Iterator[Admission]:
    """Yield what operators do about agents.

    Raises:
        JournalError: the database cannot be opened.
    """
    with open_stores(settings) as stores:
        yield Admission(stores.agents, SystemClock())


def signs_of_life(settings: Settings, stores: Stores, kind: ServiceType, name: str) -> SignsOfLife:
    """Return what says that this process is up, as a service of its *kind* on this machine that is called *name*."""
    clock = SystemClock()
    return SignsOfLife(
        store=stores.fleet.services,
        clock=clock,
        me=Identity(type=kind, host=socket.gethostname(), name=name, version=version("cyborg-reconciler")),
        every_s=settings.sign_of_life_s,
        started_at=clock.now(),
    )


@contextmanager
def open_usage(settings: Settings, folder: str | None) -> Iterator[Usage]:
    """Yield what is told of devices' usage; processes that share *folder* tell each other."""
    usage = Usage(SILENT_AFTER * settings.heartbeat_interval_s, settings.usage_devices)
    try:
        relay = Relay(Path(folder), usage.take) if folder else None
    except OSError as exc:
        log.warning("the processes of this server cannot tell each other of devices' usage: %s", exc)
        relay = None
    if relay is not None:
        usage.relay = relay.tell
    try:
        yield usage
    finally:
        if relay is not None:
            relay.close()


def open_meter(tallies: Tallies, usage: Usage) -> "PrometheusMeter":
    """Return what counts in this process, and tells that together with what there is by *tallies*, and *usage*."""
    from cyborg_reconciler.adapters.prometheus import PrometheusMeter  # noqa: PLC0415 - slow to import; servers alone count

    return PrometheusMeter(tallies, heard={DEVICE_USAGE: usage.tally})
