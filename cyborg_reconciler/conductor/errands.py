# SPDX-License-Identifier: Apache-2.0
"""What is done for hosts beside the request that asks for it, so that nobody waits for a slow one? By a few threads.

Used by `discovery`. Starts threads, which end when nothing is left to do; does no I/O but that of what it calls.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from cyborg_reconciler.errors import ReconcilerError

#: Threads at most: of hosts that do not answer each holds one for seconds, and all others may be asked for meanwhile.
MOST: Final = 4

log: Final = logging.getLogger(__name__)


class Errands:
    """What is to be done, once for each host however often it is asked for; *most* at a time. What fails is logged."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._threads = most, 0
        self._lock = threading.Lock()
        self._waiting: dict[str, Callable[[str], object]] = {}

    def ask(self, host: str, do: Callable[[str], object]) -> None:
        """Have *do* called with *host* soon, as things are then; what has begun does not count any more."""
        with self._lock:
            self._waiting.setdefault(host, do)
            if self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._work, name="errands", daemon=True).start()

    def _work(self) -> None:
        while (errand := self._next()) is not None:
            host, do = errand
            try:
                do(host)
            except ReconcilerError as exc:
                log.info("%s: %s", host, exc)
            except Exception:  # the thread is one of a few, and others wait for it
                log.exception("%s", host)

    def _next(self) -> tuple[str, Callable[[str], object]] | None:
        """Return what has waited longest; None where nothing does, and the thread that asks has ended."""
        with self._lock:
            for host in self._waiting:
                return host, self._waiting.pop(host)
            self._threads -= 1
            return None
