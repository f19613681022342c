# SPDX-License-Identifier: Apache-2.0
"""Of which kernel modules are agents to tell? Of those that policies and drivers name, though none of their devices.

Called by `agents` for each check-in. Looks every few seconds whether something else is declared, and reads that then.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from cyborg_reconciler.core.modules_wanted import modules_of
from cyborg_reconciler.core.subject import module_name
from cyborg_reconciler.errors import ReconcilerError
from cyborg_reconciler.limits import MODULES
from cyborg_reconciler.ports import Declarations

log: Final = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 5.0


class Modules:
    """The names, as of some seconds ago at most. Safe to call from many threads."""

    def __init__(self, declarations: Declarations, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._declarations, self._clock_s = declarations, clock_s
        self._lock = threading.Lock()
        self._looked_s = float("-inf")
        self._stamp: str | None = None
        self._names: tuple[str, ...] | None = None

    def names(self) -> tuple[str, ...] | None:
        """Return them; None where they cannot be told, and agents go on with what they were told before.

        One looks at a time; who comes meanwhile does not wait, and has what was there before.
        """
        if self._lock.acquire(blocking=False):
            try:
                if self._clock_s() - self._looked_s >= LOOK_EVERY_S:
                    self._looked_s = self._clock_s()
                    self._look()
            finally:
                self._lock.release()
        return self._names

    def _look(self) -> None:
        try:
            stamp = self._declarations.stamp()
            if stamp != self._stamp:
                found = sorted({module_name(name) for name in modules_of(self._declarations.read())})
                # Agents take no more: a host of whose modules more are named is asked itself.
                self._names, self._stamp = (tuple(found) if len(found) <= MODULES else None), stamp
        except ReconcilerError as exc:
            log.info("which modules are declared cannot be told to agents: %s", exc)
