# SPDX-License-Identifier: Apache-2.0
"""What becomes of the policies that are declared over the API. Called by the API; all I/O goes through the stores.

Policies of the tree are only read: whoever may write the tree owns them. What both declare has to have different names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cyborg_reconciler.conductor.callers import Caller
from cyborg_reconciler.conductor.implied import IMPLIED_PREFIX
from cyborg_reconciler.documents.assemble import assemble
from cyborg_reconciler.documents.declared import API_PLACE, Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.documents.rest.policy import PolicyGiven
from cyborg_reconciler.errors import ConflictError, FieldError, NotFoundError, OvertakenError, RequestInvalidError
from cyborg_reconciler.ports import Clock, Event
from cyborg_reconciler.stores.policies import DeclaredStore, PolicyStore, StoredPolicy

ELSEWHERE: Final = "change it in the tree"


@dataclass(frozen=True, slots=True)
class Policies:
    """What callers ask to become of policies. *seen*: the version that the caller has read, where he says so.

    Attributes:
        shipped: the drivers that this release brings along.
    """

    store: PolicyStore
    declared: DeclaredStore
    shipped: Sequence[Located[Driver]]
    clock: Clock

    def create(self, caller: Caller, given: PolicyGiven) -> StoredPolicy:
        """Keep a new policy.

        Raises:
            RequestInvalidError: it names a driver that there is not, or its name is kept for others.
            ConflictError: the API or the tree has its name.
        """
        if given.name.startswith(f"{IMPLIED_PREFIX}."):
            text = f"begins with {IMPLIED_PREFIX}., as what is declared without a policy does; choose another name"
            raise RequestInvalidError("the policy", [FieldError("$.metadata.name", text)])
        file = self.store.file_of(given.name)
        if file is not None:
            raise ConflictError(
                wanted=f"a policy called {given.name}",
                found=f"{file} has one",
                remedy=f"choose another name, or {ELSEWHERE}",
            )
        self._check_drivers(given)
        return self.store.add(
            given.name, given.text, self._event("PolicyCreated", caller, given.name, after=given.text)
        )

    def replace(self, caller: Caller, name: str, given: PolicyGiven, seen: int | None) -> StoredPolicy:
        """Put another document in the place of a policy.

        Raises:
            NotFoundError; RequestInvalidError: it names itself otherwise, or a driver that there is not.
            ConflictError: it is the tree's, or somebody else was faster.
        """
        known = self._read(name, seen)
        if given.name != name:
            raise RequestInvalidError("the policy", [FieldError("$.metadata.name", f"is another name than {name}")])
        self._check_drivers(given)
        if given.text == known.text:
            return known
        event = self._event("PolicyUpdated", caller, name, before=known.text, after=given.text)
        return self.store.replace(known, given.text, event)

    def remove(self, caller: Caller, name: str, seen: int | None) -> None:
        """Forget a policy: what it alone had set goes back to what it was before.

        Raises:
            NotFoundError. ConflictError: it is the tree's, or somebody else was faster.
        """
        known = self._read(name, seen)
        self.store.remove(known, self._event("PolicyDeleted", caller, name, before=known.text))

    def _read(self, name: str, seen: int | None) -> StoredPolicy:
        known = self.store.policy(name)
        if known is None:
            file = self.store.file_of(name)
            if file is None:
                raise NotFoundError(wanted=f"policy {name}", found="there is none")
            raise ConflictError(wanted=f"to change policy {name}", found=f"it stands in {file}", remedy=ELSEWHERE)
        if seen is not None and known.version != seen:
            raise OvertakenError(wanted=f"policy {name} as it was read", found="another process updated it first")
        return known

    def _check_drivers(self, given: PolicyGiven) -> None:
        """Raise RequestInvalidError where the policy names a driver, or a version of one, that there is not."""
        place = f"{API_PLACE}{given.name}"
        _, problems = assemble([*self.declared.drivers(), Located(given.document, place)], self.shipped)
        wrong = [FieldError(f"$.{one.field}", f"{one.message}; {one.remedy}") for one in problems if one.file == place]
        if wrong:
            raise RequestInvalidError("the policy", wrong)

    def _event(self, kind: str, caller: Caller, name: str, **states: str) -> Event:
        """Return the entry of the audit trail: who did what to which policy; *states*: what it was and is."""
        data: dict[str, Any] = {word: msgspec.json.decode(text) for word, text in states.items()}
        return Event(self.clock.now(), kind, "", f"{caller.name}: {name}", {**caller.trace(), "policy": name, **data})
