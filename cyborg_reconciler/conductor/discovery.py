# SPDX-License-Identifier: Apache-2.0
"""Who looks at hosts again when somebody asks for it? Their agents, or Ansible where they have none; the result is one.

Called by the API. An agent is told in the answer to its next check-in; a host without one is looked at by the worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cyborg_reconciler.agent_stores import AgentStore
from cyborg_reconciler.conductor.callers import Caller
from cyborg_reconciler.errors import NotFoundError
from cyborg_reconciler.ports import Clock, Event


@dataclass(frozen=True, slots=True)
class Discovery:
    """What callers ask to be looked at again."""

    store: AgentStore
    clock: Clock

    def discover(self, caller: Caller, hosts: Sequence[str] = (), driver: str | None = None) -> None:
        """Have hosts looked at again, or all of them; of *driver*'s devices alone where one is given.

        Raises:
            NotFoundError: there is no such host.
        """
        unknown = self.store.ask_for_discovery(hosts, driver, self.clock.now())
        if unknown:
            raise NotFoundError(wanted=f"host {unknown[0]}", found="there is none")
        words = f"{caller.name}: {', '.join(hosts) or 'all hosts'}{f', {driver}' if driver else ''}"
        data = {**caller.trace(), "hosts": list(hosts), "driver": driver}
        host = hosts[0] if len(hosts) == 1 else ""
        self.store.tell(Event(self.clock.now(), "DiscoveryAsked", host, words, data))
