# SPDX-License-Identifier: Apache-2.0
"""Which of several processes does what only one may do? The one that holds the lease, and renews it.

Called by the worker. All I/O goes through the store of leases; a thread renews what is held.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.ports import Clock
from cyborg_reconciler.stores.work import Lease, Leases

#: How long a lease lasts that is not renewed.
LASTS_S: Final = 15.0
#: A lease is renewed so many times while it lasts: one or two renewals may fail.
RENEWALS: Final = 3


@dataclass
class Leaseholder:
    """One of several processes that want the lease called *name*.

    No two clocks are compared. Who holds the lease counts on it for as long as it lasts since he *began* to renew it;
    who waits for it takes it when he has *seen* it unchanged for as long as it lasts. Both measure that on a clock of
    their own that is never set, and he who waits begins later, so the one is over before the other.

    Attributes:
        holder: what this process calls itself.
        now_s: returns the seconds on a clock that never goes back.
    """

    leases: Leases
    name: str
    holder: str
    clock: Clock
    lasts_s: float = LASTS_S
    now_s: Callable[[], float] = time.monotonic
    _ours: Lease | None = None
    _renewed_s: float = 0.0
    _seen: Lease | None = None
    _seen_since_s: float = float("inf")

    def take(self) -> bool:
        """Take the lease if nobody has it, or nobody renews it any more; return whether that succeeded.

        Raises:
            JournalError: the database cannot be used.
        """
        seen = self.leases.lease(self.name)
        if seen != self._seen:
            self._seen, self._seen_since_s = seen, self.now_s()
        began_s = self.now_s()
        if seen is not None and seen.holder and began_s - self._seen_since_s < self.lasts_s:
            return False
        self._ours = self.leases.take_lease(Lease(self.name, self.holder, 0, self._end()), seen)
        self._renewed_s = began_s
        return self._ours is not None

    def holds(self) -> bool:
        """Return whether nobody else can have the lease yet."""
        return self._ours is not None and self.now_s() - self._renewed_s < self.lasts_s

    def renew(self) -> bool:
        """Hold the lease for longer; return False when somebody else has taken it.

        Raises:
            JournalError: the database cannot be used; the lease is held for as long as it lasts.
        """
        if self._ours is None:
            return False
        began_s, wanted = self.now_s(), replace(self._ours, expires_at=self._end())
        if self.leases.renew(wanted):
            self._ours, self._renewed_s = wanted, began_s
            return True
        self._ours = None
        return False

    def _end(self) -> datetime:
        return self.clock.now() + timedelta(seconds=self.lasts_s)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease in a thread while the block runs, and give it back in the end."""
        ended = threading.Event()
        thread = threading.Thread(target=self._keep, args=(ended,), name=f"lease {self.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            if self._ours is not None:
                with suppress(JournalError):  # then it runs out
                    self.leases.give_back(self._ours)
                self._ours = None

    def _keep(self, ended: threading.Event) -> None:
        is_ours = True
        while is_ours and not ended.wait(self.lasts_s / RENEWALS):
            with suppress(JournalError):  # `holds` tells when it has lasted
                is_ours = self.renew()
