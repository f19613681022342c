# SPDX-License-Identifier: Apache-2.0
"""How do many check-ins become few transactions? They are gathered, and one thread writes them.

Called by `agents`. All I/O goes through the store. What changed is on disk when `keep` returns; what did not is written
at the save-out interval, and a process that is killed before that has lost nothing but when an agent was last heard.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from cyborg_reconciler.errors import JournalError, JournalOutageError
from cyborg_reconciler.meters import CHECK_INS, WRITTEN_TOGETHER, Meter, NoMeter
from cyborg_reconciler.stores.agents import AgentStore, CheckIn

log: Final = logging.getLogger(__name__)

#: Where whoever told something waits for one thing: whether it was the newest and is kept, or why it is not.
Answer = SimpleQueue[bool | Exception]


@dataclass(frozen=True, slots=True)
class SaveOut:
    """How often and how much is written.

    Attributes:
        interval_s: between two writes of what did not change. batch: check-ins in a transaction, at most.
        waiting: check-ins that can wait to be written at a time: each keeps a thread.
        quiet_s: looked at so often; where none has come since, none is waited for: a transaction costs more than each
            adds.
        gather_s: for which the first check-in of a batch waits for others at most.
    """

    interval_s: float = 5.0
    batch: int = 500
    waiting: int = 8
    quiet_s: float = 0.002
    gather_s: float = 0.02


class Saver:
    """Gathers check-ins; its thread begins with the first, in the process that got it, and ends with `close`.

    Args:
        under_way: tells how many requests are being worked on, or more than that. When as many check-ins wait, no other
            comes.
    """

    def __init__(
        self, store: AgentStore, terms: SaveOut, meter: Meter | None = None, under_way: Callable[[], int] | None = None
    ) -> None:
        self._store, self._terms, self._meter = store, terms, meter or NoMeter()
        self._under_way = under_way or (lambda: terms.waiting)
        self._changed: deque[tuple[CheckIn, Answer]] = deque()
        self._touched: dict[str, CheckIn] = {}
        self._unchanged = 0
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def keep(self, check_in: CheckIn) -> bool:
        """Keep a check-in with something new; it is on disk then. Return False where it was older than what is kept.

        Raises:
            JournalError: it could not be kept.
        """
        written: Answer = SimpleQueue()
        with self._wake:
            # What is told here supersedes what was merely to be touched.
            self._touched.pop(check_in.host, None)
            self._changed.append((check_in, written))
            self._begin()
            if len(self._changed) == 1 or self._is_full():
                self._wake.notify()
        answer = written.get()
        if isinstance(answer, Exception):
            try:
                raise answer
            finally:
                del answer  # it knows of this frame, which would know of it
        return answer

    def touch(self, check_in: CheckIn) -> None:
        """Note that an agent was heard, and had nothing new to tell."""
        with self._wake:
            self._touched[check_in.host] = check_in
            self._unchanged += 1  # counted at the next save-out, with all others
            self._begin()

    def close(self) -> None:
        """Write what was gathered, and end the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="save-out", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        due_s, closed = time.monotonic() + self._terms.interval_s, False
        while not closed:
            with self._wake:
                timeout_s = max(0.0, due_s - time.monotonic())
                if self._wake.wait_for(lambda: self._changed or self._closed, timeout_s):
                    self._gather()
                batch = [self._changed.popleft() for _ in range(min(self._terms.batch, len(self._changed)))]
                closed = self._closed and not self._changed
                touched: dict[str, CheckIn] = {}
                unchanged = 0
                if closed or time.monotonic() >= due_s:
                    touched, self._touched = self._touched, touched
                    unchanged, self._unchanged = self._unchanged, unchanged
                    due_s = time.monotonic() + self._terms.interval_s
            try:
                self._write_out(batch, list(touched.values()))
                self._count(unchanged=unchanged)
            except Exception:  # whatever it is: without this thread nobody's check-in would be answered
                log.exception("check-ins could not be written out; the next ones will be tried")
                for _, written in batch:  # who has been answered already does not look any more
                    written.put(JournalError(wanted="a check-in on disk", found="writing it out failed"))

    def _gather(self) -> None:
        """Wait for as many check-ins as are to be expected."""
        came, until_s = 0, time.monotonic() + self._terms.gather_s
        while came < len(self._changed) and not self._is_full() and time.monotonic() < until_s:
            came = len(self._changed)
            self._wake.wait_for(self._is_full, min(self._terms.quiet_s, until_s - time.monotonic()))

    def _is_full(self) -> bool:
        most = min(self._terms.waiting, self._terms.batch, max(1, self._under_way()))
        return len(self._changed) >= most or self._closed

    def _write_out(self, batch: Sequence[tuple[CheckIn, Answer]], touched: Sequence[CheckIn]) -> None:
        if batch:
            self._write(batch)
        for start in range(0, len(touched), self._terms.batch):
            self._write_touches(touched[start : start + self._terms.batch])

    def _write(self, batch: Sequence[tuple[CheckIn, Answer]]) -> None:
        """Write a batch; whoever waits for it is told what came of it. One that cannot be written spoils no other."""
        try:
            kept = self._store.keep([check_in for check_in, _ in batch])
        except Exception as exc:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            if len(batch) > 1 and not isinstance(exc, JournalOutageError):  # which each would meet again
                log.warning(
                    "%d check-ins are written one by one, for together they could not be: %s", len(batch), _said(exc)
                )
                for one in batch:
                    self._write([one])
                return
            for _, written in batch:
                written.put(exc)
            return
        self._meter.observe(WRITTEN_TOGETHER, len(batch))
        for (_, written), is_kept in zip(batch, kept, strict=True):
            written.put(is_kept)
        self._count(changed=sum(kept), stale=len(kept) - sum(kept))

    def _count(self, **check_ins: int) -> None:
        for result, count in check_ins.items():
            if count:
                self._meter.add(CHECK_INS, count, result=result)

    def _write_touches(self, batch: Sequence[CheckIn]) -> None:
        """Write when agents were heard; one that cannot be written is not, and it tells so with its next check-in."""
        try:
            self._store.touch(batch)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the thread goes on, and others are written
            if len(batch) > 1 and not isinstance(exc, JournalOutageError):  # which each would meet again
                for one in batch:
                    self._write_touches([one])
                return
            log.warning(
                "%d agents were heard, %s first, and that could not be written: %s",
                len(batch),
                batch[0].host,
                _said(exc),
            )
            return
        self._meter.observe(WRITTEN_TOGETHER, len(batch))


def _said(exc: Exception) -> str:
    """Return what went wrong, for logs: of what is not ours the kind alone, for its words may show rows."""
    return str(exc) if isinstance(exc, JournalError) else type(exc).__name__
