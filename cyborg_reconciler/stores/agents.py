# SPDX-License-Identifier: Apache-2.0
"""What the conductor keeps of agents: who they are, what they last said, what they are to do; and how hosts are known.

No I/O in here; the database's adapter fills `AgentStore`, and `adapters/agent_port` fills `AgentPort`.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from cyborg_reconciler.core.accelerators import Unit
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.ports import Event

CommandName = Literal["discover", "send_facts", "rotate_token"]

#: What a driver of an agent says of itself, or its agent of it: it is there, it discovers, it does not answer.
READY: Final = "READY"

IN_PROGRESS: Final = "IN-PROGRESS"

UNREACHABLE: Final = "UNREACHABLE"


@dataclass(frozen=True, slots=True)
class Inventory:
    """By what a host can be known, as its agent or its facts tell: hostname, system uuid, addresses of its NICs."""

    hostname: str = ""
    system_uuid: str | None = None
    macs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The right to look up one host, once. *host*: the inventory's name of it."""

    host: str
    expires_at: datetime
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """The agent of a host.

    Attributes:
        uuid, generation: of the host.
        token_hash: of the token that speaks for the host; empty when it was revoked. next_token_hash: of the one that
            the agent was told to use from now on, until it does.
        approved: an operator agreed to it, or minted its enrolment for just this host.
        epoch, sequence: of the newest check-in that is kept. fingerprint: of the facts that are kept.
        boot_id: of the host, when the agent last checked in.
        drivers: `digest_of` the drivers that it told of last.
        silent: it was not heard for too long. silent_changed_at: when that became so, or ceased to be; None as long as
            it never reported. awaited: it is to do something, see `AgentStore.commands`.
    """

    host: str
    uuid: str
    generation: int = 0
    token_hash: str = ""
    next_token_hash: str = ""
    approved: bool = True
    epoch: int = 0
    sequence: int = 0
    fingerprint: str = ""
    boot_id: str = ""
    endpoint: str = ""
    agent_version: str = ""
    last_seen_at: datetime | None = None
    silent: bool = False
    silent_changed_at: datetime | None = None
    drivers: str = ""
    awaited: bool = False

    @property
    def may_speak(self) -> bool:
        """Say whether it may speak for its host: it was approved, and its token was not revoked."""
        return self.approved and bool(self.token_hash)


@dataclass(frozen=True, slots=True)
class Command:
    """What an agent is to do; *driver* narrows a discovery."""

    id: int
    command: CommandName
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class AgentDriver:
    """A driver that an agent has.

    Attributes:
        type: of the devices that it is for. status: `READY`, `IN_PROGRESS` or `UNREACHABLE`, as was said last.
        endpoint: where it serves on its host; empty where that is not known. Nobody calls it there.
    """

    name: str
    type: str = ""
    status: str = ""
    endpoint: str = ""


def digest_of(drivers: Iterable[AgentDriver]) -> str:
    """Return what is another one when an agent has other *drivers*, or they say something else of themselves."""
    told = sorted((one.name, one.type, one.status, one.endpoint) for one in drivers)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest() if told else ""


@dataclass(frozen=True, slots=True)
class DriverHardware:
    """What the drivers of an agent found that no facts tell of.

    Attributes:
        drivers: the names of all that there are. devices: of those that were heard, by driver and uuid.
        partial: the names of those that have more devices than were told.
    """

    drivers: frozenset[str] = frozenset()
    devices: Mapping[str, Mapping[str, Unit]] = field(default_factory=dict)
    partial: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DesiredDevice:
    """A device of a driver that is to be ready."""

    driver: str
    address: str
    uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckIn:
    """What an agent said that is to be kept.

    Attributes:
        facts, document: what it reports, and the JSON of it; None and empty when nothing changed.
        health: by address, what its drivers say of devices. drivers: those that it has; none where it does not say.
        hardware: what its drivers found besides; None where nothing is said of it.
    """

    host: str
    epoch: int
    sequence: int
    boot_id: str
    fingerprint: str
    agent_version: str
    received_at: datetime
    facts: Facts | None = None
    document: bytes = b""
    health: Mapping[str, str] = field(default_factory=dict)
    drivers: Sequence[AgentDriver] = ()
    hardware: DriverHardware | None = None


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """Where the inventory says that the agent of *host* can be called."""

    host: str
    endpoint: str


class AgentPort(Protocol):
    """What agents answer at their own port."""

    def discover(self, at: AgentAddress, driver: str | None, ready: Sequence[DesiredDevice]) -> None:
        """Have the agent look again, and set up what is to be *ready*.

        Raises:
            ConflictError: it is at it already. NotFoundError: it has no such driver. AgentUnreachableError.
        """

    def hardware(self, at: AgentAddress, driver: str | None = None) -> Mapping[str, Any]:
        """Return what it says of its hardware: ``hardware`` and ``unread``.

        Raises:
            NotFoundError: it has no such driver. AgentUnreachableError.
        """


class AgentStore(Protocol):
    """The agents. Every method raises JournalError (or a subclass) when the database cannot be used."""

    def known_as(self, inventory: Inventory) -> Sequence[str]:
        """Return the hosts that *inventory* is of: by the system uuid, else by its MACs, else by the host name."""

    def claimants(self, inventory: Inventory) -> Sequence[str]:
        """Return the hosts that are known by anything of *inventory*, but its name; none that waits for approval."""

    def mint(self, token_hash: str, enrolment: Enrolment, event: Event) -> None:
        """Keep the right to look up one host; the host is known from now on."""

    def enrolment(self, token_hash: str) -> Enrolment | None:
        """Return the enrolment whose token has this hash."""

    def enrol(self, agent: Agent, enrolment_hash: str, inventory: Inventory, event: Event) -> bool:
        """Keep a new agent, or a new token of one, and use the enrolment up; return False where that was used already.

        *enrolment_hash* is empty where the agent came by the shared secret: then False: the host is no new one.
        """

    def agent(self, host: str) -> Agent | None:
        """Return the agent of *host*."""

    def agent_of(self, token_hash: str) -> Agent | None:
        """Return the agent whose token, or whose next one, has this hash."""

    def agents(self, after: str = "", limit: int = 100) -> Sequence[Agent]:
        """Return agents by the name of their hosts, of those after *after*."""

    def greet(self, host: str, endpoint: str) -> None:
        """Keep where the agent says that it can be reached; nobody calls it there because it says so."""

    def keep(self, check_ins: Sequence[CheckIn]) -> Sequence[bool]:
        """Keep what changed on many hosts, in one transaction; return of each whether it was newer than what is kept.

        Facts, hardware and accelerators follow, and the hosts are looked at next.
        """

    def touch(self, check_ins: Sequence[CheckIn]) -> None:
        """Keep that agents were heard, in one transaction; nothing goes backwards."""

    def set_token(self, seen: Agent, token_hash: str, next_token_hash: str, event: Event | None) -> bool:
        """Put other tokens in the place of those that an agent was *seen* to have; return whether it had them still.

        Without a next one, there is none to be told of any more either. The audit trail never has them.
        """

    def revoke(self, host: str, event: Event) -> bool:
        """Let no token speak for *host* any more, whichever it has, nor enrol it; return whether there was any ever.

        What its agent said of devices' health is forgotten, and the host looked at next where there was something.
        """

    def approve(self, host: str, event: Event) -> bool:
        """Note that an operator agreed to the agent of *host*; return whether there is one."""

    def command(self, hosts: Sequence[str], command: CommandName, driver: str | None, event: Event) -> None:
        """Have the agents of *hosts* do something, and tell of each with *event*, in one transaction.

        One that is to do so already is not told twice.
        """

    def ask_for_discovery(self, hosts: Sequence[str], driver: str | None, event: Event) -> Sequence[str]:
        """Have *hosts*, or all, looked at again: by their agents, or else by the worker, and tell, in one transaction.

        Return those that are not known; then nothing was asked for, and nothing is told.
        """

    def is_news(self, host: str, told: DriverHardware, at: datetime) -> bool:
        """Return whether anything of what its drivers tell of *host* is to be kept."""

    def fares_otherwise(self, host: str, health: Mapping[str, str]) -> bool:
        """Return whether what its agent says of the *health* of devices, by address, is other than what is kept."""

    def endpoint(self, host: str) -> str:
        """Return where the inventory has the agent of *host* called; empty where it does not say."""

    def is_known(self, host: str) -> bool:
        """Return whether there is a host of this name."""

    def drivers(self, host: str) -> Collection[str]:
        """Return the names of the drivers that the agent of *host* told of last."""

    def ready(self, host: str) -> Sequence[DesiredDevice]:
        """Return which devices of the drivers on *host* are to be ready."""

    def commands(self, host: str) -> Sequence[Command]:
        """Return what the agent of *host* is to do, oldest first."""

    def done(self, host: str, commands: Collection[int]) -> None:
        """Forget *commands* of *host*: its agent has carried them out."""

    def fall_silent(self, before: datetime, at: datetime) -> Sequence[str]:
        """Mark the agents that were last heard before *before* as silent, with an event each; return their hosts."""

    def tell(self, event: Event) -> None:
        """Append to the audit trail."""


def every_agent(store: AgentStore, at_once: int = 1000) -> Iterator[Agent]:
    """Yield all agents by the names of their hosts, of which *at_once* are read at a time."""
    after = ""
    while some := store.agents(after, at_once):
        after = some[-1].host
        yield from some
