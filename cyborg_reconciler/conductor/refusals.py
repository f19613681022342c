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


class EventStore(Protocol):
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


#: By whom, and where from, for those that are not told apart any more.
OTHERS: Final = ("", "others")


@dataclass(slots=True)
class _Repeated:
    """The attempts of one caller from one address since the last entry: the last one, and how many."""

    last: Refusal
    since: datetime
    count: int = 0


class Refusals:
    """The audit trail of what was refused. Safe to call from many threads; `close` writes what is still counted."""

    def __init__(self, events: EventStore, clock: Clock, together_s: float = TOGETHER_S) -> None:
        self._events, self._clock = events, clock
        self._lock = threading.Lock()
        self._counted: dict[tuple[str, str], _Repeated] = {}
        self._later = Later(self.flush, together_s)

    def note(self, refusal: Refusal) -> None:
        """Tell of *refusal*: at once when it is the first of its kind, together with those that follow otherwise."""
        now = self._clock.now()
        key = (refusal.by, refusal.peer)
        with self._lock:
            if key not in self._counted and len(self._counted) >= TOLD_APART:
                key = OTHERS
                refusal = replace(refusal, by="", peer=OTHERS[1])
            known = self._counted.get(key)
            if known is None:
                self._counted[key] = _Repeated(refusal, now)
            else:
                known.last, known.count = refusal, known.count + 1
        self._later.ask()
        if known is None:
            self._record(_event(refusal, now, 1, now))

    def flush(self) -> None:
        """Tell how many attempts followed those that were told at once, and forget them all."""
        with self._lock:
            counted, self._counted = self._counted, {}
        now = self._clock.now()
        for one in counted.values():
            if one.count:
                self._record(_event(one.last, now, one.count, one.since))

    def close(self) -> None:
        """Write what is still counted."""
        self._later.close()

    def _record(self, event: Event) -> None:
        try:
            self._events.record_event(event)
        except ReconcilerError as exc:
            # Whoever was refused stays refused, whether or not it could be noted.
            log.warning("%s: %s; not in the audit trail: %s", event.kind, event.message, exc)


def _event(one: Refusal, now: datetime, count: int, since: datetime) -> Event:
    who = one.by or "somebody unknown"
    times = "" if count == 1 else f", {count} times"
    data: dict[str, Any] = {
        "by": one.by or None,
        "peer": one.peer,
        "request_id": one.request_id,
        "method": one.method,
        "path": one.path,
        "status": one.status,
        "reason": one.reason,
        "count": count,
        "since": since.isoformat(),
    }
    return Event(now, "AccessRefused", message=f"{who} from {one.peer}: {one.method} {one.path}{times}", data=data)
