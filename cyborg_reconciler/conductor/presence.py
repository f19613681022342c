# SPDX-License-Identifier: Apache-2.0
"""Which services are up? Those of the control plane say so again and again; agents are heard at their check-ins.

`SignsOfLife` is kept by whatever serves or works, `Presence` is asked by the API. All I/O goes through the store.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cyborg_reconciler.conductor.agents import AgentTerms
from cyborg_reconciler.documents.rest.fleet import ServiceType
from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.ports import Clock
from cyborg_reconciler.stores.fleet import Service, ServiceStore
from cyborg_reconciler.stores.pages import Page, PageQuery

#: A service that has missed so many signs of its life is down.
DOWN_AFTER: Final = 3
#: One that has been down for so long is not told of any more.
FORGOTTEN_AFTER: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Presence:
    """Which services there are. *terms*: those on which agents are heard."""

    store: ServiceStore
    clock: Clock
    terms: AgentTerms

    def page(self, wanted: PageQuery) -> Page:
        """Return a page of services, as they are now.

        Raises:
            RequestInvalidError: the marker is that of no service.
        """
        now = self.clock.now()
        return self.store.page(wanted, now, now - timedelta(seconds=self.terms.silent_after_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who says that he is up: see `Service`."""

    type: ServiceType
    host: str
    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignsOfLife:
    """What a process says every so many seconds, as long as it is up. Several may say it for one service.

    Attributes:
        message: returns what it is at.
    """

    store: ServiceStore
    clock: Clock
    me: Identity
    every_s: float
    started_at: datetime
    message: Callable[[], str] = str
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def given(self) -> Iterator[None]:
        """Say it in a thread while the block runs. What ended is down a little later: nobody says that it ended."""
        thread = threading.Thread(target=self._give, name="signs of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _give(self) -> None:
        is_first = True
        while not self._ended.is_set():
            with suppress(JournalError):  # then nobody can see it either; whoever has work says what is wrong
                self.give()
                if is_first:
                    self.store.forget(self.clock.now() - FORGOTTEN_AFTER)
                is_first = False
            self._ended.wait(self.every_s)

    def give(self) -> None:
        """Say once that it is up.

        Raises:
            JournalError.
        """
        now, me = self.clock.now(), self.me
        one = Service(
            type=me.type,
            host=me.host,
            name=me.name,
            version=me.version,
            message=self.message(),
            started_at=self.started_at,
            last_seen_at=now,
            due_at=now + timedelta(seconds=DOWN_AFTER * self.every_s),
        )
        self.store.report(one)
