# SPDX-License-Identifier: Apache-2.0
"""How is much that happens written together? Some seconds after the first of it, by a thread that then ends.

Used by services that note small things often. Starts a thread; does no I/O but that of what it calls.
"""

import logging
import threading
from collections.abc import Callable

from cyborg_reconciler.errors import ReconcilerError

log = logging.getLogger(__name__)


class Later:
    """Calls *write* once, *after_s* seconds after it was first asked to; what fails is logged."""

    def __init__(self, write: Callable[[], None], after_s: float) -> None:
        self._write, self._after_s = write, after_s
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def ask(self) -> None:
        """Have it called, unless it will be anyway."""
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(self._after_s, self._run)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Call it now if it is still to be called."""
        with self._lock:
            timer = self._timer
        if timer is not None:
            timer.cancel()
            self._run()

    def _run(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self._write()
        except ReconcilerError as exc:
            log.warning("not written: %s", exc)
