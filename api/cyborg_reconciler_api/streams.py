# SPDX-License-Identifier: Apache-2.0
"""How do events reach those who wait for them? As server-sent events, a connection for half a minute at most.

Called by the operations on events; one `Streams` a process. Each stream holds a thread of the server, so that there
are at most as many as leave half of the threads to others. One thread looks for new events, and only while there are
streams: while nothing happens the database is asked for one number a second, however many wait.
"""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from cyborg_reconciler.conductor.usage import Usage
from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.stores.fleet import EventStore
from cyborg_reconciler.stores.pages import PageQuery

#: Seconds after which a stream ends; whoever wants more resumes by the last event's number.
LIFETIME_S: Final = 30.0
#: Seconds between two signs of life, by which it is noticed too that nobody listens any more.
HEARTBEAT_S: Final = 2.0
#: Seconds between two looks for new events.
LOOK_EVERY_S: Final = 1.0
#: Events that are read at once.
AT_ONCE: Final = 200

#: How soon a client is to come again, in milliseconds, once a stream has ended.
RETRY_MS: Final = 1000
HEARTBEAT: Final = b": still here\n\n"


class BusyError(Exception):
    """There are as many streams as this process can have."""


class Streams:
    """The streams of this process, and the thread that looks for new events on their behalf."""

    def __init__(
        self,
        store: EventStore,
        *,
        most: int,
        lifetime_s: float = LIFETIME_S,
        heartbeat_s: float = HEARTBEAT_S,
        usage: Usage | None = None,
    ) -> None:
        self.usage = usage
        self.store, self.lifetime_s, self.heartbeat_s = store, lifetime_s, heartbeat_s
        self._most, self._open, self._looks = most, 0, False
        self._newest, self._lost = 0, False
        self._news = threading.Condition()

    def open(self, wanted: PageQuery, after: int, *, tells_usage: bool = False) -> "Stream":
        """Return a stream of the events that are *wanted*, after the one with the number *after*; -1: from now on.

        One that *tells_usage* has, between the events, how much devices are used.

        Raises:
            BusyError: there are too many.
            JournalError: the database cannot be used.
        """
        start = self.store.newest() if after < 0 else after
        forgotten = self.store.forgotten() if after > 0 else 0
        with self._news:
            if self._open >= self._most:
                raise BusyError
            self._open += 1
            if not self._looks:
                self._looks, self._lost = True, False
                threading.Thread(target=self._look, name="events", daemon=True).start()
        return Stream(self, wanted, start, self.usage if tells_usage else None, forgotten)

    def close_one(self) -> None:
        """Note that a stream has ended."""
        with self._news:
            self._open -= 1
            self._news.notify_all()

    def wait_beyond(self, number: int, timeout_s: float) -> bool:
        """Wait until there are events after *number*, for *timeout_s* seconds at most; return whether there are.

        Raises:
            JournalError: the database could not be used when it was last looked at.
        """
        with self._news:
            self._news.wait_for(lambda: self._lost or self._newest > number, timeout_s)
            if self._lost:
                raise JournalError(wanted="new events", found="the database could not be used")
            return self._newest > number

    def _look(self) -> None:
        """Look for new events as long as there are streams."""
        while True:
            try:
                newest, lost = self.store.newest(), False
            except JournalError:  # it may come back; the streams end, and their clients come again
                newest, lost = 0, True
            with self._news:
                self._lost = lost
                if lost or newest > self._newest:
                    self._newest = max(newest, self._newest)
                    self._news.notify_all()
                if not self._open:
                    self._looks = False
                    return
                self._news.wait(LOOK_EVERY_S)


@dataclass
class Stream:
    """The bytes of one stream. To be closed, by whoever serves it.

    Attributes:
        forgotten: up to which number events are not kept any more; who goes on from before that has missed some.
    """

    streams: Streams
    wanted: PageQuery
    after: int
    usage: Usage | None = None
    forgotten: int = 0
    _told_usage: int = 0
    _pieces: Generator[bytes] = field(init=False)
    _closed: bool = False

    def __post_init__(self) -> None:
        self._pieces = self._generate()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """End the stream; once is enough."""
        if not self._closed:
            self._closed = True
            self._pieces.close()
            self.streams.close_one()

    def _generate(self) -> Generator[bytes]:
        """Yield how to resume, then what happens, until the time is up, or the database cannot be used any more."""
        ends_s = time.monotonic() + self.streams.lifetime_s
        yield f"retry: {RETRY_MS}\n\n".encode()
        if self.after < self.forgotten:
            yield f'event: forgotten\ndata: {{"up_to":{self.forgotten}}}\n\n'.encode()
        is_news = True  # what came before this stream did
        with suppress(JournalError):
            while True:
                if is_news:
                    yield from self._told()
                yield from self._used()
                left_s = ends_s - time.monotonic()
                if left_s <= 0:
                    return
                is_news = self.streams.wait_beyond(self.after, min(self.streams.heartbeat_s, left_s))
                if not is_news:
                    yield HEARTBEAT

    def _used(self) -> Generator[bytes]:
        """Yield what was told of devices' usage since the last time: first what is known, then what is new."""
        if self.usage is not None:
            for number, document in self.usage.since(self._told_usage, self.wanted.equal.get("host")):
                self._told_usage = number
                yield b"event: usage\ndata: " + document + b"\n\n"

    def _told(self) -> Generator[bytes]:
        """Yield what is new. Of what is not wanted, the numbers are passed over."""
        newest = self.streams.store.newest()
        more = newest > self.after
        while more:
            page = self.streams.store.page(replace(self.wanted, marker=str(self.after), limit=AT_ONCE))
            for document in page.documents:
                yield sse(document)
            more = page.more
            self.after = int(page.last) if more else max(newest, int(page.last or 0))


class _Numbered(msgspec.Struct):
    number: int


def sse(document: str) -> bytes:
    """Return an event as it is sent: its JSON has no line break in it, and its number is what a client resumes by."""
    return f"id: {msgspec.json.decode(document, type=_Numbered).number}\ndata: {document}\n\n".encode()
