# SPDX-License-Identifier: Apache-2.0
"""How much are devices used just now? What agents told last, kept in memory and nowhere else, and passed on.

Called by `agents` with each check-in, and by whoever broadcasts it: the metrics and the streams of events. A host that
is not heard for as long as makes it silent is forgotten. Each process of a server has all of it: a *relay* carries what
one of them was told to the others.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from cyborg_reconciler.documents.rest.agent import UsageTold
from cyborg_reconciler.hardware import MEASURED, MEASURES
from cyborg_reconciler.meters import Tally

#: Of one host; what is beyond is left out.
DEVICES: Final = 256


class UsageOfHost(msgspec.Struct, frozen=True):
    """What one host told, as it travels between processes; without devices: it has nothing to tell any more."""

    host: Annotated[str, msgspec.Meta(max_length=255)]
    at: datetime
    usage: list[UsageTold]


class _Heard(msgspec.Struct, frozen=True):
    """The same, with its place in the order, and when it came by a clock that never goes back."""

    told: UsageOfHost
    number: int
    heard_s: float


_decoder: Final = msgspec.json.Decoder(UsageOfHost)
_encoder: Final = msgspec.json.Encoder()


class Usage:
    """What the hosts told last. Safe to call from many threads.

    Args:
        lasts_s: how long what a host told is told again. most: devices that metrics are given of.
    """

    def __init__(self, lasts_s: float, most: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._lasts_s, self._most, self._clock_s = lasts_s, most, clock_s
        self._lock = threading.Lock()
        self._heard: OrderedDict[str, _Heard] = OrderedDict()  # the longest unheard first
        self._number = 0
        self.relay: Callable[[bytes], object] = lambda _data: None

    def note(self, host: str, usage: Sequence[UsageTold]) -> None:
        """Take in what *host* told with a check-in; nothing is news only where there was something.

        Names are those that our drivers have, for each becomes a series of its own in whatever keeps metrics.
        """
        named = [one for one in usage if MEASURED.fullmatch(one.address)]
        bounded = [UsageTold(one.address, _bounded(one.metrics)) for one in named[:DEVICES]]
        if bounded or host in self._heard:
            told = UsageOfHost(host, datetime.now(UTC), bounded)
            self._put(told)
            self.relay(_encoder.encode(told))

    def take(self, data: bytes) -> None:
        """Take in what another process was told."""
        try:
            self._put(_decoder.decode(data))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return  # what is none of ours is nothing

    def _put(self, told: UsageOfHost) -> None:
        with self._lock:
            self._heard.pop(told.host, None)
            if told.usage:
                self._number += 1
                self._heard[told.host] = _Heard(told, self._number, self._clock_s())
            self._forget()

    def _forget(self) -> None:
        """Forget the hosts that were not heard for too long."""
        until_s = self._clock_s() - self._lasts_s
        while self._heard and next(iter(self._heard.values())).heard_s < until_s:
            self._heard.popitem(last=False)

    def _known(self) -> list[_Heard]:
        with self._lock:
            self._forget()
            return list(self._heard.values())

    # ---------------------------------------------------------------------------------------------------- broadcasting
    def tally(self) -> Tally:
        """Return each number by host, address and metric: of so many devices at most, of each host about as many."""
        return dict(self._numbers())

    def _numbers(self) -> Iterator[tuple[tuple[str, ...], float]]:
        told = ((rank, heard.told.host, one) for heard in self._known() for rank, one in enumerate(heard.told.usage))
        # The first device of every host, then the second of every host: none takes what is the others'.
        for _, host, one in sorted(told, key=lambda each: each[:2])[: self._most]:
            for metric, value in one.metrics.items():
                yield (host, one.address, metric), value

    @property
    def newest(self) -> int:
        """The number of what was told last."""
        return self._number

    def since(self, number: int, host: str | None = None) -> Sequence[tuple[int, bytes]]:
        """Return what was told after *number*, of one host or of all, each with its number, as JSON."""
        news = [one for one in self._known() if one.number > number and host in {None, one.told.host}]
        return [(one.number, _encoder.encode(one.told)) for one in sorted(news, key=lambda one: one.number)]


def _bounded(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return those of *metrics* that our drivers know, and that are numbers."""
    return {name: value for name, value in sorted(metrics.items()) if name in MEASURES and math.isfinite(value)}
