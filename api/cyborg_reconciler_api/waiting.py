# SPDX-License-Identifier: Apache-2.0
"""What is answered by a process that cannot begin yet, since the database is away? 503, and when to come again.

Called by `wsgi` in a process that stands in for one that served: where one cannot begin, gunicorn ends all of them. Who
starts a server hears of it at once instead. The I/O is that of what is begun: one request at a time tries that, and
others hear meanwhile why it failed before.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import falcon

from cyborg_reconciler.errors import JournalOutageError
from cyborg_reconciler_api import errors, parsing
from cyborg_reconciler_api.app import Naming

#: Where it is asked whether this process lives.
ALIVE: Final = "/healthz"

#: Seconds between two attempts to begin.
TRY_EVERY_S: Final = 1.0

log: Final = logging.getLogger(__name__)


class Waiting:
    """The application that *create* returns, once it can; until then one that says why not. Safe to call by threads."""

    def __init__(
        self,
        create: Callable[[], WSGIApplication],
        why: JournalOutageError,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._create, self._why, self._clock_s = create, why, clock_s
        self._tried_s = clock_s()
        self._lock = threading.Lock()
        self._begun: WSGIApplication | None = None
        self._refusing = falcon.App(middleware=Naming())
        self._refusing.add_sink(self._refuse, "/")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        # Whoever asks whether this lives must not wait for the database: one that is slow to answer would be ended.
        if environ.get("PATH_INFO") != ALIVE and self._begun is None and self._lock.acquire(blocking=False):
            try:
                self._try()
            finally:
                self._lock.release()
        return (self._begun or self._refusing)(environ, start_response)

    def _try(self) -> None:
        if self._begun is not None or self._clock_s() - self._tried_s < TRY_EVERY_S:
            return
        try:
            self._begun = self._create()
            log.info("the database answers: all is served again")
        except JournalOutageError as exc:
            self._why = exc
        self._tried_s = self._clock_s()

    def _refuse(self, req: falcon.Request, resp: falcon.Response, **_ids: object) -> None:
        """Say that this process lives, to who asks for that, and otherwise why there is nothing else to be had."""
        parsing.discard_body(req)
        if req.path == ALIVE:
            resp.media = {"status": "alive"}
        else:
            errors.answer(req, resp, self._why)
