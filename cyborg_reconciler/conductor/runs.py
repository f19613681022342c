# SPDX-License-Identifier: Apache-2.0
"""Who wants a run to end? Called by the API; all I/O goes through the store.

A run is never broken off in the middle of a host: the request is noted, and heeded before the next wave begins. One
that nobody has begun is cancelled at once.
"""

from dataclasses import dataclass

from cyborg_reconciler.conductor.callers import Caller
from cyborg_reconciler.errors import ConflictError, NotFoundError
from cyborg_reconciler.ports import Clock, Event
from cyborg_reconciler.stores.fleet import RunStore


@dataclass(frozen=True, slots=True)
class Runs:
    """What callers ask of runs."""

    store: RunStore
    clock: Clock

    def cancel(self, caller: Caller, uuid: str) -> str:
        """Note that the run is to end before its next wave, and return what the API gives of it then.

        Raises:
            NotFoundError. ConflictError: it has ended.
        """
        now = self.clock.now()
        event = Event(now, "RunCancelRequested", "", f"{caller.name}: run {uuid}", caller.trace(), uuid)
        is_noted = self.store.cancel(uuid, caller.name, event)
        found = self.store.document(uuid)
        if found is None:
            raise NotFoundError(wanted=f"run {uuid}", found="there is none")
        if not is_noted:
            raise ConflictError(wanted=f"to end run {uuid}", found="it has ended")
        return found
