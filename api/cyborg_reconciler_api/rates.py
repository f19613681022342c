# SPDX-License-Identifier: Apache-2.0
"""How often may somebody do something? Buckets that fill again with time: full at first, and one drop a request.

Used by `app`, for each process on its own. Pure: the clock is passed in.
"""

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

from cyborg_reconciler.errors import TooManyRequestsError

#: So many are remembered; beyond that, who has not been seen for longest begins anew.
REMEMBERED: Final = 4096

#: The part of an address of version 6 that a site has: behind it one machine has as many addresses as it likes.
SITE_BITS: Final = 64

#: Seconds after which an empty bucket is full again.
PERIOD_S: Final = 60.0


class Buckets:
    """A bucket a key, each of *size* drops, that is full again after a minute. With a size of 0 nothing is limited.

    Safe to use from many threads. *now_s* is of a clock that never goes back.
    """

    def __init__(self, size: int, remembered: int = REMEMBERED) -> None:
        self._size, self._remembered = size, remembered
        self._drops_a_second = size / PERIOD_S
        self._lock = threading.Lock()
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now_s: float) -> float:
        """Take a drop from the bucket of *key*; return 0, or the seconds until there is one where it is empty."""
        if self._size == 0:
            return 0.0
        with self._lock:
            level = self._level(key, now_s)
            is_there = level >= 1.0
            self._levels[key] = (level - 1.0 if is_there else level, now_s)
            self._levels.move_to_end(key)
            if len(self._levels) > self._remembered:
                self._levels.popitem(last=False)
        return 0.0 if is_there else self._wait_s(level)

    def look(self, key: str, now_s: float) -> float:
        """Return what `take` would, and leave the bucket as it is."""
        if self._size == 0:
            return 0.0
        with self._lock:
            level = self._level(key, now_s)
        return 0.0 if level >= 1.0 else self._wait_s(level)

    def _level(self, key: str, now_s: float) -> float:
        level, then_s = self._levels.get(key, (float(self._size), now_s))
        return min(self._size, level + (now_s - then_s) * self._drops_a_second)

    def _wait_s(self, level: float) -> float:
        return (1.0 - level) / self._drops_a_second


class Limits:
    """How often requests may fail to say who sends them, by address, and how often each caller may call, by name.

    Agents are callers like users; of look-ups there may be so many by address besides.

    Every method raises TooManyRequestsError beyond that. With 0 a minute there is no limit.
    """

    def __init__(
        self,
        failures_per_min: int,
        requests_per_min: int,
        lookups_per_min: int = 0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures, self._requests, self._clock_s = Buckets(failures_per_min), Buckets(requests_per_min), clock_s
        self._lookups = Buckets(lookups_per_min)

    def fail(self, peer: str) -> None:
        """Count a request from *peer* with which nobody knows who sent it."""
        self._refuse_after(self._failures.take(site_of(peer), self._clock_s()))

    def check_failures(self, peer: str) -> None:
        """Look whether one from *peer* may fail once more, before what it knows is compared with a secret."""
        self._refuse_after(self._failures.look(site_of(peer), self._clock_s()))

    def call(self, name: str) -> None:
        """Count a request of the caller called *name*."""
        wait_s = self._requests.take(name, self._clock_s())
        if wait_s:
            raise TooManyRequestsError(f"too many requests of {name}", wait_s)

    def look_up(self, peer: str) -> None:
        """Count a look-up from *peer*, whatever token it shows."""
        wait_s = self._lookups.take(site_of(peer), self._clock_s())
        if wait_s:
            raise TooManyRequestsError("too many look-ups from one address", wait_s)

    def _refuse_after(self, wait_s: float) -> None:
        if wait_s:
            raise TooManyRequestsError("too many requests without a valid token", wait_s)


@functools.lru_cache(maxsize=REMEMBERED)
def site_of(peer: str) -> str:
    """Return what counts as one peer: an address, and of version 6 its network; what is no address as it is.

    >>> site_of("192.0.2.7"), site_of("2001:db8::1:2"), site_of("")
    ('192.0.2.7', '2001:db8::/64', '')
    """
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if not isinstance(address, IPv6Address):
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    site = int(address) >> SITE_BITS << SITE_BITS
    return f"{IPv6Address(site)}/{SITE_BITS}"
