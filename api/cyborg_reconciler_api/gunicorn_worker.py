# SPDX-License-Identifier: Apache-2.0
"""How do gunicorn's processes differ from its own? They tell errors as the API does, and share connections evenly.

The class of workers that `gunicorn_conf` names. Of what is refused here the application never hears: request lines and
headers that are none, or too long.
"""

import select
import time
import uuid
from typing import Any, Final

import msgspec
from gunicorn import util  # type: ignore[import-untyped]  # it has none
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]  # it has none

from cyborg_reconciler.documents.wording import printable
from cyborg_reconciler.tracing import REQUEST_ID
from cyborg_reconciler_api.connections import SERVED, Connections
from cyborg_reconciler_api.errors import PROBLEM, kind_of, problem
from cyborg_reconciler_api.traffic import HEADER

#: Where gunicorn's answers have their status: behind ``HTTP/1.1``.
STATUS: Final = slice(9, 12)


#: For how long a new connection is left to a process that has fewer, at most: longer than one takes that is idle. And
#: how often it is looked whether it is still there.
LEFT_S: Final = 0.001
LOOK_EVERY_S: Final = 0.0002


class ProblemWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Threads that serve, as gunicorn's own do, and that tell errors as problems.

    Attributes:
        connections: those of all processes; its own alone where none are given. served: its own that threads serve.
        sleep: as `time.sleep`.
    """

    connections = Connections()
    served = SERVED
    sleep = staticmethod(time.sleep)

    def held(self) -> int:
        """Return how many connections it has: those that a thread serves or is to serve, and those that are kept.

        Gunicorn's own count goes wrong with each connection that ends before TLS has begun.
        """
        return self.served.count + len(self.keepalived_conns) + len(self.pending_conns)

    def notify(self) -> None:
        """Tell the first process, as gunicorn does once a turn, that it is there; and all others what it has."""
        super().notify()
        if self.alive:
            self.connections.tell(self.age, self.held())
        else:  # it takes none any more
            self.connections.forget(self.age)

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - gunicorn's own
        """Begin to take connections, or take none for now; none any more, where it is about to end."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            self.connections.forget(self.age)

    def enqueue_req(self, *told: Any) -> None:  # noqa: ANN401 - gunicorn's own, which differ from release to release
        """Have a thread serve a connection."""
        self.served.count += 1
        super().enqueue_req(*told)

    def finish_request(self, *told: Any) -> None:  # noqa: ANN401 - as above
        """Keep a connection that was served, or close it."""
        self.served.count -= 1
        super().finish_request(*told)

    def accept(self, *told: Any) -> None:  # noqa: ANN401 - as above
        """Take a new connection, unless a process that has fewer takes it first.

        Whichever process has one does its work as long as it lasts.
        """
        if self.held() <= self.connections.fewest() or self._is_left(told[-1]):
            super().accept(*told)
            if self.alive:
                self.connections.tell(self.age, self.held())

    def _is_left(self, listener: Any) -> bool:  # noqa: ANN401 - gunicorn's own
        """Return whether nobody else took the new connection."""
        is_there = select.poll()
        is_there.register(listener, select.POLLIN)
        for _ in range(round(LEFT_S / LOOK_EVERY_S)):
            self.sleep(LOOK_EVERY_S)
            if not is_there.poll(0):
                return False
        return True

    def handle_error(
        self,
        req: Any,  # noqa: ANN401 - gunicorn's own
        client: Any,  # noqa: ANN401 - gunicorn's own
        addr: Any,  # noqa: ANN401 - gunicorn's own
        exc: BaseException,
    ) -> None:
        """Answer what *exc* means: gunicorn logs it, and says its status; the words for it are ours."""
        request_id = f"req-{uuid.uuid4()}"
        reset = REQUEST_ID.set(request_id)
        answer = _Kept()
        super().handle_error(req, answer, addr, exc)
        REQUEST_ID.reset(reset)
        head = answer.text.partition(b"\r\n")[0].decode("latin-1")
        if not head:
            return
        status = int(head[STATUS])
        detail = f"the request cannot be read: {printable(str(exc))}"
        if status >= 500:  # noqa: PLR2004 - a class of statuses
            detail = "something went wrong in the server; its log has it under the request id"
        path = getattr(req, "path", None) or ""
        body = msgspec.json.encode(problem(status, kind_of(status), detail, path, request_id))
        lines = [head, "Connection: close", f"Content-Type: {PROBLEM}", f"Content-Length: {len(body)}"]
        text = "\r\n".join([*lines, f"{HEADER}: {request_id}", "", ""])
        try:
            util.write_nonblock(client, text.encode("latin-1") + body)
        except OSError:
            self.log.debug("Failed to send error message.")


class _Kept:
    """Stands where a connection is, and keeps what is written to it."""

    def __init__(self) -> None:
        self.text = b""

    def gettimeout(self) -> float:
        """Return how sockets say that they do not wait."""
        return 0.0

    def sendall(self, text: bytes) -> None:
        """Keep *text*."""
        self.text += text
