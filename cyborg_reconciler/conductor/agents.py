# SPDX-License-Identifier: Apache-2.0
"""What becomes of what agents say: look-up, hello, check-in. Agents have these, and nothing else of the API.

Called by the API. All I/O goes through the store. A look-up is for one host, once; its token speaks for that one alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from cyborg_reconciler.conductor.check_ins import parse_check_in
from cyborg_reconciler.conductor.identities import is_itself
from cyborg_reconciler.conductor.refusals import Refusals
from cyborg_reconciler.conductor.saving import Saver
from cyborg_reconciler.conductor.secrets import AGENT, hash_of, is_same, new_token
from cyborg_reconciler.documents.rest.agent import (
    AgentHost,
    CheckedIn,
    CheckInGiven,
    CommandTold,
    DesiredDeviceTold,
    HelloGiven,
    LookupGiven,
    UsageTold,
)
from cyborg_reconciler.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    StaleCheckInError,
    UnauthenticatedError,
    UnknownFingerprintError,
)
from cyborg_reconciler.ports import Clock, Event
from cyborg_reconciler.stores.agents import Agent, AgentStore, Command, Inventory, digest_of

ROTATE: Final = "rotate_token"

#: Check-ins that may be missed before an agent counts as silent.
SILENT_AFTER: Final = 3


@dataclass(frozen=True, slots=True)
class AgentTerms:
    """On which terms agents are heard.

    Attributes:
        interval_s: between two check-ins. secret_hash: of the shared secret with which unknown hosts register
            themselves, to wait for approval; empty: none do.
        save_out_s: for which it may not be known yet that an agent was heard: `SaveOut.interval_s`.
    """

    interval_s: int = 60
    secret_hash: str = ""
    save_out_s: int = 0

    @property
    def silent_after_s(self) -> int:
        """For how long an agent may not be heard before it counts as silent."""
        return SILENT_AFTER * self.interval_s + self.save_out_s


@dataclass(frozen=True, slots=True)
class Enroller:
    """What lets an agent look itself up: the token of one host, or (without a host) the shared secret."""

    host: str = ""
    token_hash: str = ""


@dataclass(frozen=True, slots=True)
class Agents:
    """What agents ask.

    Attributes:
        refusals: tells of what no agent may. modules: returns of which modules facts are to tell, None: as before.
        usage: takes what each check-in says of how devices are used, which is kept nowhere.
    """

    store: AgentStore
    saver: Saver
    clock: Clock
    terms: AgentTerms = field(default_factory=AgentTerms)
    refusals: Refusals | None = None
    modules: Callable[[], Sequence[str] | None] = lambda: None
    usage: Callable[[str, Sequence[UsageTold]], object] = lambda _host, _usage: None

    def enroller(self, token: str) -> Enroller:
        """Return what *token* lets an agent look up. Asked before anything else that is sent with it is read.

        Raises:
            UnauthenticatedError: it enrols nobody (any more).
        """
        hashed = hash_of(token)
        if is_same(hashed, self.terms.secret_hash):
            return Enroller()
        enrolment = self.store.enrolment(hashed)
        if enrolment is None or enrolment.expires_at <= self.clock.now():
            raise UnauthenticatedError(
                wanted="a look-up",
                found="the enrolment token is not known, or has expired",
                remedy="mint another one: `cyborg-reconciler agents enrol HOST`",
            )
        return Enroller(enrolment.host, hashed)

    def look_up(self, enroller: Enroller, given: LookupGiven) -> tuple[AgentHost, bool]:
        """Return the host that the agent is on, the first time with a token that speaks for it; and whether it is new.

        Who shows a host's token, and is that host by its name or by anything that it is known by, is not shut out by
        what others say of themselves; operators are told of these.

        Raises:
            ForbiddenError: the token is for another host than the inventory's. NotFoundError: no host is known by the
            inventory. ConflictError: more than one is.
        """
        inventory = Inventory(**given.inventory.model_dump())
        if not enroller.host:
            return self._register(inventory, self._matching(inventory), given)
        claimants = self.store.claimants(inventory)
        others = [host for host in claimants if host != enroller.host]
        if is_itself(enroller.host, inventory.hostname, claimants) or self._matching(inventory) == [enroller.host]:
            if others:
                words = f"what its agent says that it is known by is also what {' and '.join(others[:3])} told"
                self._tell("IdentityContested", enroller.host, words)
            return self._enrolled(enroller.host, enroller.token_hash, inventory, given), False
        if hosts := self._matching(inventory):
            self._refuse(enroller.host, f"its enrolment token was sent by {hosts[0]}")
            raise ForbiddenError(
                wanted="a look-up", found="the enrolment token is for another host", remedy="use this host's own"
            )
        raise NotFoundError(
            wanted="a host of this inventory",
            found="there is none",
            remedy="mint a token for the name that the host calls itself, or have it looked at first",
        )

    def _matching(self, inventory: Inventory) -> Sequence[str]:
        """Return the one host that *inventory* is of, or none; told only to who has shown a token."""
        hosts = self.store.known_as(inventory)
        if len(hosts) > 1:
            raise ConflictError(
                wanted="one host of this inventory",
                found=f"{' and '.join(hosts[:3])} match it",
                remedy="remove the record of the host that is gone, or give one of them another uuid",
            )
        return hosts

    def _register(self, inventory: Inventory, hosts: Sequence[str], given: LookupGiven) -> tuple[AgentHost, bool]:
        """Return a host that is new, and waits for an operator's approval; a known one needs a token of its own."""
        if not hosts:
            found = self._enrolled(inventory.hostname, "", inventory, given)
            if found.token is not None:  # else another of this name came just before
                return found, True
        raise ForbiddenError(
            wanted="a look-up by the shared secret",
            found="it registers unknown hosts alone",
            remedy="mint a token for this host: `cyborg-reconciler agents enrol HOST`",
        )

    def _enrolled(self, host: str, enrolment_hash: str, inventory: Inventory, given: LookupGiven) -> AgentHost:
        token = new_token(AGENT)
        agent = Agent(
            host=host,
            uuid="",
            token_hash=hash_of(token),
            approved=bool(enrolment_hash),
            agent_version=given.agent_version,
        )
        words = "" if agent.approved else "; it waits for approval"
        event = Event(self.clock.now(), "AgentEnrolled", host, f"an agent looked itself up{words}")
        is_first = self.store.enrol(agent, enrolment_hash, inventory, event)
        kept = self.store.agent(host)
        return AgentHost(
            host=host,
            uuid=kept.uuid if kept else "",
            heartbeat_interval=self.terms.interval_s,
            token=token if is_first else None,
        )

    def speaker(self, token: str) -> Agent:
        """Return the agent that *token* speaks for. Asked before anything else that is sent with it is read.

        Raises:
            UnauthenticatedError: it is nobody's.
        """
        hashed = hash_of(token)
        agent = self.store.agent_of(hashed)
        if agent is not None and is_same(hashed, agent.next_token_hash):
            event = Event(self.clock.now(), "AgentTokenRotated", agent.host, "its agent uses its new token")
            self.store.set_token(agent, agent.next_token_hash, "", event)
            agent = self.store.agent_of(hashed)  # as it is: somebody may have revoked both, or used it first
        if agent is None or not is_same(hashed, agent.token_hash):
            raise UnauthenticatedError(
                wanted="an agent's token", found="it is not known, or was revoked", remedy="enrol the agent anew"
            )
        return agent

    def hello(self, agent: Agent, given: HelloGiven) -> AgentHost:
        """Note that an agent is ready; where it says that it is, it is not called for that. It is no check-in.

        Raises:
            ForbiddenError: it waits for approval.
        """
        _require_approval(agent)
        self.store.greet(agent.host, given.endpoint)
        return AgentHost(host=agent.host, uuid=agent.uuid, heartbeat_interval=self.terms.interval_s)

    def check_in(self, agent: Agent, host: str, given: CheckInGiven) -> CheckedIn:
        """Take in how *host* is, by the agent that speaks; what changed is on disk when this returns.

        Raises:
            NotFoundError: there is no such host. ForbiddenError: it is another's, or not approved yet.
            UnknownFingerprintError, StaleCheckInError. RequestInvalidError: its facts cannot be read.
        """
        self._require_own(agent, host)
        check_in = parse_check_in(host, given, self.clock.now())
        if check_in.facts is None and given.fingerprint != agent.fingerprint:
            raise UnknownFingerprintError(wanted="the facts of this fingerprint", found="others are kept")
        if (given.epoch, given.sequence) <= (agent.epoch, agent.sequence):
            self._stale(agent, given)
        told = check_in.hardware
        others = bool(check_in.drivers) and digest_of(check_in.drivers) != agent.drivers
        is_news = told is not None and self.store.is_news(host, told, check_in.received_at)
        is_news = is_news or self.store.fares_otherwise(host, check_in.health)
        durable = check_in.facts is not None or others or is_news
        if not durable:
            self.saver.touch(check_in)
        elif not self.saver.keep(check_in):
            self._stale(agent, given)
        self.usage(host, given.usage)
        modules = self.modules()
        return CheckedIn(
            heartbeat_interval=self.terms.interval_s,
            generation=agent.generation,
            durable=durable,
            commands=self._commands(agent, given.done) if agent.awaited else [],
            modules=None if modules is None else list(modules),
            ready=None if told is None else [DesiredDeviceTold(**asdict(one)) for one in self.store.ready(host)],
        )

    def _commands(self, agent: Agent, done: Sequence[int] | None) -> list[CommandTold]:
        """Return what the agent is to do: all that it has not *done* yet, again and again, for an answer may be lost.

        One that says nothing of that is of a release that does not, and is told once.
        """
        if done:
            self.store.done(agent.host, done)
        waiting = self.store.commands(agent.host)
        told = [one for command in waiting for one in self._told(agent, command)]
        if done is None and told:
            self.store.done(agent.host, [one.id for one in told])
        return told

    def _require_own(self, agent: Agent, host: str) -> None:
        """Raise where *agent* does not speak for *host*."""
        if agent.host != host:
            self._refuse(agent.host, f"its agent spoke for {host}")
            if self.store.agent(host) is None:
                raise NotFoundError(wanted=f"a check-in of {host}", found="there is no such host")
            raise ForbiddenError(wanted=f"a check-in of {host}", found="the token is another host's")
        _require_approval(agent)

    def _told(self, agent: Agent, command: Command) -> Iterator[CommandTold]:
        """Yield a command as it is told; a token to use from now on is made at that moment, unless it has others now.

        It is made anew until it is used, and told of in the audit trail once.
        """
        token = None
        if command.command == ROTATE:
            token = new_token(AGENT)
            event = Event(self.clock.now(), "AgentTokenTold", agent.host, "its agent was told a new token")
            is_first = not agent.next_token_hash
            if not self.store.set_token(agent, agent.token_hash, hash_of(token), event if is_first else None):
                return
        yield CommandTold(id=command.id, command=command.command, driver=command.driver, token=token)

    def _stale(self, agent: Agent, given: CheckInGiven) -> None:
        """Refuse what is older than what is kept; two agents of one host take turns at that, and an event tells."""
        if given.boot_id != agent.boot_id:
            self._refuse(agent.host, "two agents speak for it: one of another boot checked in with older numbers")
        raise StaleCheckInError(
            wanted=f"a check-in of {agent.host} after epoch {agent.epoch}, sequence {agent.sequence}",
            found=f"epoch {given.epoch}, sequence {given.sequence}",
        )

    def _refuse(self, host: str, message: str) -> None:
        self._tell("AgentRefused", host, message)

    def _tell(self, kind: str, host: str, message: str) -> None:
        tell = self.refusals.tell if self.refusals is not None else self.store.tell
        tell(Event(self.clock.now(), kind, host, message))


def _require_approval(agent: Agent) -> None:
    if not agent.approved:
        raise ForbiddenError(
            wanted=f"to hear the agent of {agent.host}",
            found="it registered itself, and waits for approval",
            remedy=f"`cyborg-reconciler agents approve {agent.host}`",
        )
