# SPDX-License-Identifier: Apache-2.0
"""What is forgotten once it is old? Asked by the worker; the database's adapter fills the Protocol. No I/O in here."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Old:
    """What counts as old *at* a time: events and plans of before then; None: none are."""

    at: datetime
    events_before: datetime | None
    plans_before: datetime | None


class Retention(Protocol):
    """What is kept for a while. Every method raises JournalError when the database cannot be used."""

    def forget(self, old: Old) -> None:
        """Forget what is *old*, so much of each kind at once that nobody waits for long; the rest the next time.

        Enrolments that have expired, which open nothing; plans that the API was asked for, unless a run is of one; and
        events, but those of runs that have not ended. An event ``EventsForgotten`` tells up to which number.
        """
