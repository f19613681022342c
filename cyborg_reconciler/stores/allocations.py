# SPDX-License-Identifier: Apache-2.0
"""What the API keeps of allocations, and what it asks of the database for that.

No I/O in here; the database's adapter fills the Protocol. Every method raises JournalError (or a subclass) when the
database cannot be used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cyborg_reconciler.ports import Event


@dataclass(frozen=True, slots=True)
class Allocations:
    """What a consumer has: units by the uuid of each accelerator.

    Attributes:
        version: of no other consumer's, and of no earlier ones of this one.
    """

    consumer: str
    amounts: Mapping[str, int]
    version: int
    created_at: datetime


class AllocationStore(Protocol):
    """Who has how much of which accelerator."""

    def of(self, consumer: str) -> Allocations | None:
        """Return what *consumer* has; None when it has nothing."""

    def known(self, accelerators: Sequence[str]) -> Sequence[str]:
        """Return those of *accelerators* that there are."""

    def put(self, consumer: str, amounts: Mapping[str, int], seen: Allocations | None, event: Event) -> Allocations:
        """Put *amounts* in the place of what *consumer* was *seen* to have; none: it has nothing any more.

        Every accelerator that is concerned gets another version: who has read it, and writes now, is told so.

        Raises:
            OvertakenError: the consumer has something else by now. ConflictError: there is not so much left.
        """
