# SPDX-License-Identifier: Apache-2.0
"""What does the audit trail say of those who were refused? The first attempt at once, and how many followed.

Called by the API. The I/O is the journal's: whoever knocks without end costs it two entries a minute, and a thousand
who do so together not much more.
"""

import logging
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

from cyborg_reconciler.conductor.later import Later
from cyborg_reconciler.errors import ReconcilerError
from cyborg_reconciler.ports import Clock, Event

#: Attempts of one caller from one address within so many seconds are one entry.
TOGETHER_S: Final = 60.0

#: So many callers and addresses are told apart in that time; what others attempt is one entry for all of them.
TOLD_APART: Final = 32

log = logging.getLogger(__name__)


class AuditTrail(Protocol):
    """Where the audit trail is kept."""

    def record_event(self, event: Event) -> None:
        """Append to the audit trail."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An attempt at what is not allowed.

    Attributes:
        by: the caller's name; empty where nobody knows it. peer: the address that it came from.
        status: the answer's. reason: of which kind the error was.
    """

    by: str
    peer: str
    request_id: str
    method: str
    path: str
    status: int
    reason: str


#: Which entry the attempts are of that are not told apart any more.
OTHERS: Final = ("", "others")


@dataclass(slots=True)
class _Repeated:
    """What came after an entry and is of its kind: the last of it, and how often."""

    last: Event
    since: datetime
    count: int = 0


class Refusals:
    """The audit trail of what was refused. Safe to call from many threads; `close` writes what is still counted."""

    def __init__(self, events: AuditTrail, clock: Clock, together_s: float = TOGETHER_S) -> None:
        self._events, self._clock = events, clock
        self._lock = threading.Lock()
        self._counted: dict[tuple[str, str], _Repeated] = {}
        self._later = Later(self.flush, together_s)

    def note(self, refusal: Refusal) -> None:
        """Tell of an attempt at what is not allowed."""
        self._tell((refusal.by, refusal.peer), _event(refusal, self._clock.now()))

    def tell(self, event: Event) -> None:
        """Tell of *event*, which whoever is refused can cause as often as he likes."""
        self._tell((event.kind, f"{event.host} {event.message}"), event)

    def _tell(self, key: tuple[str, str], event: Event) -> None:
        """Write *event* at once where it is the first of its kind, and count it otherwise."""
        with self._lock:
            if key not in self._counted and len(self._counted) >= TOLD_APART:
                key = OTHERS
            known = self._counted.get(key)
            if known is None:
                self._counted[key] = _Repeated(event, event.at)
            else:
                known.last, known.count = event, known.count + 1
        self._later.ask()
        if known is None:
            self._record(event)

    def flush(self) -> None:
        """Tell how many attempts followed those that were told at once, and forget them all."""
        with self._lock:
            counted, self._counted = self._counted, {}
        for key, one in counted.items():
            if one.count:
                words = one.last.message
                message = (
                    f"{one.count} of others, the last: {words}" if key == OTHERS else f"{words}, and {one.count} more"
                )
                data = {**(one.last.data or {}), "count": one.count, "since": one.since.isoformat()}
                self._record(replace(one.last, at=self._clock.now(), message=message, data=data))

    def close(self) -> None:
        """Write what is still counted."""
        self._later.close()

    def _record(self, event: Event) -> None:
        try:
            self._events.record_event(event)
        except ReconcilerError as exc:
            # Whoever was refused stays refused, whether or not it could be noted.
            log.warning("%s: %s; not in the audit trail: %s", event.kind, event.message, exc)


def _event(one: Refusal, now: datetime) -> Event:
    who = one.by or "somebody unknown"
    data: dict[str, Any] = {
        "by": one.by or None,
        "peer": one.peer,
        "request_id": one.request_id,
        "method": one.method,
        "path": one.path,
        "status": one.status,
        "reason": one.reason,
        "count": 1,
    }
    return Event(now, "AccessRefused", message=f"{who} from {one.peer}: {one.method} {one.path}", data=data)
