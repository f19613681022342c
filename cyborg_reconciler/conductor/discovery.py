# SPDX-License-Identifier: Apache-2.0
"""Who looks at hosts again when somebody asks for it? Their agents, or Ansible where they have none; the result is one.

Called by the API and by the CLI. One agent is asked at its own port, where the inventory says where that is and it
answers there; others are told in the answers to their next check-ins. A host without one is looked at by the worker.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from cyborg_reconciler.conductor.callers import Caller
from cyborg_reconciler.conductor.errands import Errands
from cyborg_reconciler.errors import AgentUnreachableError, ConflictError, NotFoundError
from cyborg_reconciler.ports import Clock, Event
from cyborg_reconciler.stores.agents import AgentAddress, AgentPort, AgentStore

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Discovery:
    """What callers ask to be looked at again.

    Attributes:
        port: how agents are called, None: none is.
        catalogue: returns the names of the drivers that hosts without an agent may have.
        errands: what is done beside requests.
    """

    store: AgentStore
    clock: Clock
    port: AgentPort | None = None
    catalogue: Callable[[], Collection[str]] = frozenset
    errands: Errands = field(default_factory=Errands)

    def discover(self, caller: Caller, hosts: Sequence[str] = (), driver: str | None = None) -> None:
        """Have hosts looked at again, or all of them; of *driver*'s devices alone where one is given.

        Raises:
            NotFoundError: there is no such host, or no such driver there.
            ConflictError: the agent of the one host answers, and is looking already.
        """
        is_asked = len(hosts) == 1 and self._is_asked(hosts[0], driver)
        if not is_asked:
            self._require(hosts, driver)
        words = f"{caller.name}: {', '.join(hosts) or 'all hosts'}{f', {driver}' if driver else ''}"
        data = {**caller.trace(), "hosts": list(hosts), "driver": driver}
        host = hosts[0] if len(hosts) == 1 else ""
        event = Event(self.clock.now(), "DiscoveryAsked", host, words, data)
        if is_asked:
            self.store.tell(event)
        elif unknown := self.store.ask_for_discovery(hosts, driver, event):
            raise NotFoundError(wanted=f"host {unknown[0]}", found="there is none")

    def _require(self, hosts: Sequence[str], driver: str | None) -> None:
        """Raise NotFoundError unless each of *hosts* has *driver*: its agent, or the catalogue where none speaks."""
        for host in hosts if driver is not None else ():
            agent = self.store.agent(host)
            known = set(self.store.drivers(host))
            if agent is None or not agent.may_speak:
                known.update(self.catalogue())
            if driver not in known:
                raise NotFoundError(wanted=f"driver {driver} on host {host}", found="there is none")

    def _is_asked(self, host: str, driver: str | None) -> bool:
        """Return whether the agent of *host* could be asked at its own port, and has begun."""
        at = self._address(host)
        if self.port is None or at is None:
            return False
        try:
            self.port.discover(at, driver, self.store.ready(host))
        except AgentUnreachableError as exc:
            log.warning("%s: %s; it is told when it checks in", host, exc)
            return False
        return True

    def hasten(self, host: str) -> None:
        """Have the agent of *host* hear at once what is to be ready now, where it can be called; nobody waits for that.

        It hears the same when it checks in.
        """
        if self.port is not None:
            self.errands.ask(host, self._hasten)

    def _hasten(self, host: str) -> None:
        with suppress(ConflictError):  # one that is looking already has heard it all the same
            self._is_asked(host, None)

    def _address(self, host: str) -> AgentAddress | None:
        """Return where the agent of *host* may be called: where the inventory says, if an agent speaks for the host."""
        agent = self.store.agent(host)
        endpoint = self.store.endpoint(host) if agent is not None and agent.may_speak else ""
        return AgentAddress(host, endpoint) if endpoint else None

    def hardware(self, host: str, driver: str | None = None) -> Mapping[str, Any]:
        """Return what the agent of *host* says of its hardware just now, asked at its own port.

        Raises:
            NotFoundError: there is no such host, agent that may speak, endpoint, or driver. AgentUnreachableError.
        """
        self._require_agent(host)
        at = self._address(host)
        if at is None:
            raise NotFoundError(
                wanted=f"the endpoint of the agent of {host}",
                found="the inventory gives none",
                remedy="set cyborg_agent_endpoint for the host in the inventory, which the next pass reads",
            )
        if self.port is None:
            raise NotFoundError(
                wanted="the secret of agents' ports", found="there is none", remedy="set agent_secret_file"
            )
        return self.port.hardware(at, driver)

    def _require_agent(self, host: str) -> None:
        """Raise NotFoundError unless *host* has an agent that may speak; say which of the ways to one is left."""
        agent = self.store.agent(host)
        if agent is not None and agent.may_speak:
            return
        if not self.store.is_known(host):
            raise NotFoundError(
                wanted=f"host {host}",
                found="there is none",
                remedy="see `cyborg-reconciler status` for those there are",
            )
        enrol = f"`cyborg-reconciler agents enrol {host}`"
        if agent is None:
            found, remedy = "it has none", enrol
        elif not agent.token_hash:
            found, remedy = "it was revoked", f"{enrol}, to let it in again"
        else:
            found, remedy = "it waits for approval", f"`cyborg-reconciler agents approve {host}`"
        raise NotFoundError(wanted=f"an agent that speaks for {host}", found=found, remedy=remedy)
