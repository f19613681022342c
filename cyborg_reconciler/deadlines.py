# SPDX-License-Identifier: Apache-2.0
"""How is an HTTP call ended whose server keeps it going for ever? Does I/O: it shuts connections down.

A time-out is of each part of an answer: who sends a byte in time, again and again, is never late. Called by the agent
and by the conductor's port to agents.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, Self

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

TOO_LONG: Final = "the answer takes too long"


class CallFailedError(Exception):
    """There was no answer, or it did not end in time; says why."""


class Deadline:
    """The end of one call.

    Attributes:
        is_over: it has passed, and the connections of the call were shut down.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._lock = threading.Lock()
        self._held: list[socket.socket] = []

    def watch(self, connected: socket.socket) -> None:
        """Have the connection of *connected* shut down at the end, whatever wraps it by then."""
        handle = socket.socket(fileno=os.dup(connected.fileno()))
        with self._lock:
            self._held.append(handle)
            if self.is_over:
                _shut_down(handle)

    def pass_(self) -> None:
        """End the call."""
        with self._lock:
            self.is_over = True
            for handle in self._held:
                _shut_down(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        with self._lock:
            for handle in self._held:
                handle.close()
            self._held.clear()


def _shut_down(handle: socket.socket) -> None:
    with suppress(OSError):  # the other side was faster
        handle.shutdown(socket.SHUT_RDWR)


_current: Final[ContextVar[Deadline | None]] = ContextVar("_current", default=None)


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Have a call of a `BoundedPool`, made and read in here, come to an end within *seconds*.

    Raises:
        CallFailedError: it failed, or it was ended.
    """
    with _deadline(seconds) as end:
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
            raise CallFailedError(TOO_LONG if end.is_over else _reason(exc)) from exc
        if end.is_over:  # what came until then looks like a whole answer where no length was given
            raise CallFailedError(TOO_LONG)


def _reason(exc: Exception) -> str:
    """Return what went wrong below urllib3's wrapping."""
    inner = getattr(exc, "reason", None)
    return str(inner if isinstance(inner, Exception) else exc)


@contextmanager
def _deadline(seconds: float) -> Iterator[Deadline]:
    """Shut down what a `BoundedPool` is at in this thread, once *seconds* have passed."""
    with Deadline() as end:
        timer = threading.Timer(seconds, end.pass_)
        timer.daemon = True
        before = _current.set(end)
        timer.start()
        try:
            yield end
        finally:
            timer.cancel()
            _current.reset(before)


class _Connection(HTTPConnection):
    """A connection that the deadline of its call ends: from before the TLS handshake on, and when it is used again."""

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        if (end := _current.get()) is not None:
            end.watch(connected)
        return connected

    def request(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - as urllib3 has them
        if (end := _current.get()) is not None and self.sock is not None:
            end.watch(self.sock)
        super().request(*args, **more)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class BoundedPool(urllib3.PoolManager):
    """Connections that `bounded` ends; nothing is tried twice.

    Args:
        timeout: for connecting, and for each part of an answer.
        ca, cert, key: the authorities of servers' certificates (None: the system's), and what we have ourselves.
    """

    def __init__(self, timeout: urllib3.Timeout, *, ca: Path | None, cert: Path | None, key: Path | None) -> None:
        super().__init__(
            timeout=timeout,
            retries=False,
            cert_reqs="CERT_REQUIRED",
            ca_certs=str(ca) if ca else None,
            cert_file=str(cert) if cert else None,
            key_file=str(key) if key else None,
        )
        self.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
