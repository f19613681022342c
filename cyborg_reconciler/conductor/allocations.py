# SPDX-License-Identifier: Apache-2.0
"""Who has which accelerators allocated. Called by the API, and by whoever binds; all I/O goes through the store.

While there is an allocation of it, an accelerator cannot be detached. Each write gives the accelerators another
version, so that of an allocation and a detaching at the same time one comes first, and the other hears of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cyborg_reconciler.conductor.callers import Caller
from cyborg_reconciler.documents.rest.allocation import AllocationGiven
from cyborg_reconciler.errors import FieldError, NotFoundError, OvertakenError, RequestInvalidError
from cyborg_reconciler.ports import Clock, Event
from cyborg_reconciler.stores.allocations import Allocations as Record
from cyborg_reconciler.stores.allocations import AllocationStore


@dataclass(frozen=True, slots=True)
class Allocations:
    """What callers ask to become of allocations. *seen*: the version that the caller has read, where he says so."""

    store: AllocationStore
    clock: Clock

    def put(self, caller: Caller, consumer: str, given: Sequence[AllocationGiven], seen: int | None) -> Record:
        """Let *consumer* have just what is *given*, and nothing else.

        Raises:
            RequestInvalidError: there is no such accelerator, or one stands there twice.
            ConflictError: others have too much of one. OvertakenError: somebody else was faster.
        """
        amounts = {one.accelerator: one.amount for one in given}
        known = frozenset(self.store.known(list(amounts)))
        wrong = [
            FieldError(f"$.allocations[{number}].accelerator", "there is no such accelerator")
            for number, one in enumerate(given)
            if one.accelerator not in known
        ]
        if len(amounts) < len(given):
            wrong.append(FieldError("$.allocations", "has an accelerator twice; give its whole amount once"))
        if wrong:
            raise RequestInvalidError("the allocations", wrong)
        before = self._read(consumer, seen)
        if before is not None and before.amounts == amounts:
            return before
        event = self._event("AllocationsSet", caller, consumer, before, amounts)
        return self.store.put(consumer, amounts, before, event)

    def remove(self, caller: Caller, consumer: str, seen: int | None) -> None:
        """Take from *consumer* all that it has.

        Raises:
            NotFoundError: it has nothing. OvertakenError: somebody else was faster.
        """
        before = self._read(consumer, seen)
        if before is None:
            raise NotFoundError(wanted=f"allocations of {consumer}", found="there are none")
        self.store.put(consumer, {}, before, self._event("AllocationsRemoved", caller, consumer, before, {}))

    def _read(self, consumer: str, seen: int | None) -> Record | None:
        found = self.store.of(consumer)
        if seen is not None and (found is None or found.version != seen):
            raise OvertakenError(
                wanted=f"the allocations of {consumer} as they were read", found="they are others by now"
            )
        return found

    def _event(self, kind: str, caller: Caller, consumer: str, before: Record | None, after: dict[str, int]) -> Event:
        data: dict[str, Any] = {
            **caller.trace(),
            "consumer": consumer,
            "before": dict(before.amounts) if before else {},
            "after": after,
        }
        return Event(self.clock.now(), kind, "", f"{caller.name}: {consumer}", data)
