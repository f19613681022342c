# SPDX-License-Identifier: Apache-2.0
"""When is what old enough to be forgotten? Called by the loop with each look at all hosts. I/O goes through the store.

Counted in whole days: what is old becomes so at midnight (UTC), so that the audit trail tells of it once a day.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cyborg_reconciler.ports import Clock
from cyborg_reconciler.stores.retention import Old, Retention


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Forgets what is older than so many days; 0: nothing is."""

    store: Retention
    clock: Clock
    events_keep_days: int
    plans_keep_days: int

    def forget(self) -> None:
        """Forget what is old.

        Raises:
            JournalError: the database cannot be used.
        """
        now = self.clock.now()
        self.store.forget(Old(now, _before(now, self.events_keep_days), _before(now, self.plans_keep_days)))


def _before(now: datetime, days: int) -> datetime | None:
    """Return the beginning of the first day that is kept; None where all are, or it is before there was time."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days) if 0 < days < (today - datetime.min.replace(tzinfo=now.tzinfo)).days else None
