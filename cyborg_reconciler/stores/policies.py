# SPDX-License-Identifier: Apache-2.0
"""What the API keeps of policies, shows of what is declared, and asks of the database for that.

No I/O in here; the database's adapter fills the Protocols. Every method raises JournalError (or a subclass) when the
database cannot be used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cyborg_reconciler.documents.declared import Document, Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.pages import Page, PageQuery


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy that the API was given.

    Attributes:
        text: the document, as one line of JSON.
        version: of no other policy, and of no earlier one of this name.
    """

    name: str
    text: str
    version: int
    created_at: datetime
    updated_at: datetime


class PolicyStore(Protocol):
    """The policies: those that the API was given, and those of the tree as it was last read."""

    def page(self, wanted: PageQuery) -> Page:
        """Return a page of policies by name, of both; one that both have is shown once, as the API's."""

    def document(self, name: str) -> tuple[str, int | None] | None:
        """Return what the API gives of a policy, and its version where it is the API's."""

    def policy(self, name: str) -> StoredPolicy | None:
        """Return the API's policy."""

    def policies(self) -> Sequence[StoredPolicy]:
        """Return all of the API's policies, by name."""

    def stamp(self) -> str:
        """Return a digest that is another one whenever `policies` may return something else."""

    def file_of(self, name: str) -> str | None:
        """Return where the tree has a policy; None where it has none."""

    def add(self, name: str, text: str, event: Event) -> StoredPolicy:
        """Keep a new policy.

        Raises:
            ConflictError: the API has one of this name.
        """

    def replace(self, seen: StoredPolicy, text: str, event: Event) -> StoredPolicy:
        """Keep what has become of a policy.

        Raises:
            OvertakenError: it is not as it was *seen* any more.
        """

    def remove(self, seen: StoredPolicy, event: Event) -> None:
        """Forget a policy.

        Raises:
            OvertakenError: it is not as it was *seen* any more.
        """


class DeclaredStore(Protocol):
    """What the tree declared when it was last read."""

    def stamp(self) -> str:
        """Return a digest that is another one whenever it was read anew and declared something else."""

    def documents(self) -> Sequence[Located[Document]]:
        """Return the tree's documents.

        Raises:
            DeclarationsInvalidError: this release cannot read one.
        """

    def prunes(self) -> bool:
        """Return whether the tree declared something, where there is a tree; see `Declared.prunes`."""

    def drivers(self) -> Sequence[Located[Driver]]:
        """Return the tree's drivers, by name.

        Raises:
            DeclarationsInvalidError: this release cannot read one.
        """
