# SPDX-License-Identifier: Apache-2.0
"""Which agents are let in, what do operators ask of them, and which have fallen silent? `agents` has what they ask.

Called by the command line and the worker. All I/O goes through the store.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from cyborg_reconciler.conductor.agents import AgentTerms
from cyborg_reconciler.conductor.callers import Caller
from cyborg_reconciler.conductor.secrets import ENROLMENT, hash_of, new_token
from cyborg_reconciler.documents.rest.base import HOST_NAME_FORM
from cyborg_reconciler.documents.wording import printable
from cyborg_reconciler.errors import NotFoundError
from cyborg_reconciler.ports import Clock, Event
from cyborg_reconciler.stores.agents import AgentStore, CommandName, Enrolment, Inventory


@dataclass(frozen=True, slots=True)
class Admission:
    """What operators do about agents, and what is done about those that are not heard."""

    store: AgentStore
    clock: Clock
    terms: AgentTerms = field(default_factory=AgentTerms)

    def check_known(self, host: str) -> None:
        """Raise NotFoundError where nobody has ever looked at a host called so, and no agent is one's."""
        if not self.store.known_as(Inventory(host)):
            raise NotFoundError(
                wanted=f"a host called {host}",
                found="none of that name was ever looked at",
                remedy="spell it as the inventory does, and have it looked at first; "
                "where its agent is to be the first to tell of it, say --new",
            )

    def enrol(self, caller: Caller, host: str, valid_for: timedelta) -> str:
        """Return a token with which the agent of *host* may look itself up, once, until it expires.

        The host is known from now on.

        Raises:
            NotFoundError: no host can be called so.
        """
        if not re.fullmatch(HOST_NAME_FORM, host):
            raise NotFoundError(
                wanted=f"a host called {printable(host)}",
                found="none can be called so",
                remedy="a name has 1 to 255 characters, without spaces and slashes",
            )
        token = new_token(ENROLMENT)
        now = self.clock.now()
        event = Event(now, "EnrolmentMinted", host, f"by {caller.name}", caller.trace())
        self.store.mint(hash_of(token), Enrolment(host, now + valid_for), event)
        return token

    def approve(self, caller: Caller, host: str) -> None:
        """Agree to an agent that registered itself.

        Raises:
            NotFoundError: there is none.
        """
        event = Event(self.clock.now(), "AgentApproved", host, f"by {caller.name}", caller.trace())
        if not self.store.approve(host, event):
            raise NotFoundError(wanted=f"an agent of {host}", found="none has registered")

    def revoke(self, caller: Caller, host: str) -> None:
        """Let no token speak for *host* any more, nor enrol it; one that is minted from now on lets its agent in again.

        Raises:
            NotFoundError: it has no agent, and no token to enrol one.
        """
        event = Event(self.clock.now(), "AgentTokenRevoked", host, f"by {caller.name}", caller.trace())
        if not self.store.revoke(host, event):
            raise NotFoundError(wanted=f"an agent of {host}", found="none has registered")

    def ask(self, caller: Caller, hosts: Sequence[str], command: CommandName, driver: str | None = None) -> None:
        """Have the agents of *hosts* do something; the next check-in of each is answered with it.

        Raises:
            NotFoundError: a host has no agent.
        """
        for host in hosts:
            if self.store.agent(host) is None:
                raise NotFoundError(wanted=f"an agent of {host}", found="none has registered")
        data = {**caller.trace(), "driver": driver}
        event = Event(self.clock.now(), "AgentAsked", message=f"{caller.name}: {command}", data=data)
        self.store.command(hosts, command, driver, event)

    def mark_silent(self) -> Sequence[str]:
        """Mark the agents that were not heard for too long; return their hosts. Called by whoever has that duty."""
        now = self.clock.now()
        return self.store.fall_silent(now - timedelta(seconds=self.terms.silent_after_s), now)
