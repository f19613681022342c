# SPDX-License-Identifier: Apache-2.0
"""When is the next look, and when the next attempt? Debouncing, back-off, jitter, epochs. Pure: times are passed in.

All times are seconds of a monotonic clock, but for those of `next_epoch` and `parse_retry_after`; a *draw* is a random
number from 0 to 1.
"""

from email.utils import parsedate_to_datetime
from typing import Final

#: After the last event of a burst; a driver that binds or a card that is plugged in gives dozens within this.
QUIET_S: Final = 0.5
#: After the first event of a burst, however long it lasts.
AT_MOST_S: Final = 5.0
#: Attempts that fail: the first pause, and the longest.
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
#: Twice the pause that many times is more than the longest.
DOUBLINGS: Final = 10
#: A conductor that asks for more is not believed: the host would be silent for too long.
LONGEST_WAIT_S: Final = 3600.0
#: Check-ins that all began together drift apart by this share of the interval.
JITTER: Final = 0.1
#: A host that came up less than this ago has just booted, as perhaps all others have.
BOOTED_S: Final = 600.0
#: Steps that reach past every epoch that a disk which was rolled back, or another agent, may have used.
EPOCH_STEPS: Final = 13


class Debounce:
    """Waits until a burst of events is over, but not for ever."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._last = 0.0

    def note(self, now: float) -> None:
        """Take in an event."""
        self._first = now if self._first is None else self._first
        self._last = now

    def clear(self) -> None:
        """Forget the burst: a look began."""
        self._first = None

    @property
    def due(self) -> float | None:
        """Return when to look, None where there is nothing to look for."""
        return None if self._first is None else min(self._last + QUIET_S, self._first + AT_MOST_S)


class Backoff:
    """Doubles the pause with each failure, and puts half of it up to chance."""

    def __init__(self) -> None:
        self._failures = 0

    def pause(self, draw: float, asked_for_s: float | None = None) -> float:
        """Return how long to wait after one more failure; *asked_for_s* is what Retry-After said, and the least."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures, DOUBLINGS))
        self._failures += 1
        if asked_for_s is not None:
            return asked_for_s + min(pause_s, asked_for_s * JITTER) * draw
        return pause_s * (0.5 + draw / 2)

    def clear(self) -> None:
        """Begin anew: an attempt succeeded."""
        self._failures = 0


def jittered(interval_s: float, draw: float) -> float:
    """Return *interval_s*, a tenth more or less."""
    return interval_s * (1 - JITTER + 2 * JITTER * draw)


def first_delay(up_s: float, spread_s: float, draw: float) -> float:
    """Return how long to wait with the first word: within *spread_s* where the host has been up only for *up_s*."""
    return spread_s * draw if up_s < BOOTED_S else 0.0


def next_epoch(stored: int | None, unix_s: float) -> int:
    """Return the epoch of a start: above the *stored* one, and above that of a disk that was rolled back."""
    return max((stored or 0) + 1, int(unix_s))


def epoch_after_refusal(epoch: int, unix_s: float, refusals: int) -> int:
    """Return a higher epoch after the conductor refused *epoch* as older than what it knows, *refusals* times in a row.

    The clock may be behind too, so each step is four times as long as the one before.
    """
    step = 0 if refusals <= 1 else int(4 ** min(refusals, EPOCH_STEPS))
    return max(epoch + 1 + step, int(unix_s))


def parse_retry_after(text: str | None, unix_s: float) -> float | None:
    """Return the seconds that a Retry-After header asks for, None where it is absent or makes no sense.

    Source: RFC 9110, section 10.2.3.
    """
    if not text:
        return None
    if text.isascii() and text.isdecimal():
        return min(float(text[:10]), LONGEST_WAIT_S)
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
    return min(max(0.0, at - unix_s), LONGEST_WAIT_S)
