# SPDX-License-Identifier: Apache-2.0
"""The port of the internal API: cheroot, with TLS and clients' certificates where configured. Does I/O.

`process` starts it in a thread of its own.
"""

import logging
import socket
import ssl
import threading
from typing import Any, Final

import falcon
from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter

from cyborg_reconciler.agent.readers import shown
from cyborg_reconciler.agent.settings import AgentSettings
from cyborg_reconciler.errors import SettingsInvalidError

LOG: Final = logging.getLogger(__name__)

THREADS: Final = 8
#: A caller that says nothing for so long is cut off.
SILENCE_S: Final = 10
#: What is longer is refused before anything of it is read, in plain text: no caller of ours sends such.
LONGEST_BYTES: Final = 8 * 1024 * 1024
HEADER_BYTES: Final = 64 * 1024
QUEUE: Final = 64


class _Quiet(wsgi.Server):
    """What a caller did wrong is no error of ours."""

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:  # noqa: FBT001, FBT002 - as cheroot has it
        """Take over what cheroot has to say."""
        del level
        LOG.debug("%s", shown(msg), exc_info=traceback)


class Server:
    """Listens as soon as it is made; answers once `start` was called.

    Raises: SettingsInvalidError where the address is taken or is none, or a certificate cannot be used.
    """

    def __init__(self, app: falcon.App[falcon.Request, falcon.Response], settings: AgentSettings) -> None:
        self._server = _Quiet(settings.address, app, numthreads=THREADS, timeout=SILENCE_S, request_queue_size=QUEUE)
        self._server.max_request_body_size = LONGEST_BYTES
        self._server.max_request_header_size = HEADER_BYTES
        try:
            if settings.tls_cert_file and settings.tls_key_file:
                self._server.ssl_adapter = _Renewed(settings)
            self._server.prepare()
        except (OSError, ssl.SSLError) as exc:
            raise SettingsInvalidError(wanted=f"to listen on {settings.bind}", found=str(exc)) from exc

    @property
    def address(self) -> tuple[str, int]:
        """Return where it listens."""
        host, port, *_ = self._server.bind_addr
        return str(host), int(port)

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._server.serve, name="internal API", daemon=True).start()

    def renew(self) -> None:
        """Read the certificate anew, and say so; a change of its files is seen at the next caller anyway."""
        if isinstance(self._server.ssl_adapter, _Renewed):
            self._server.ssl_adapter.renew(always=True)

    def stop(self) -> None:
        """Answer no more."""
        self._server.stop()


class _Renewed(BuiltinSSLAdapter):
    """Shows the certificate that the files hold when a caller comes.

    Files that cannot be used, such as a certificate whose key is still to follow, leave what was before.
    """

    def __init__(self, settings: AgentSettings) -> None:
        self._settings, self._stamp = settings, _stamp(settings)
        super().__init__(str(settings.tls_cert_file), str(settings.tls_key_file))
        self.context = _context(settings)

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, Any]]:
        """Take in a caller; called in one thread, which sees to one after the other."""
        self.renew()
        wrapped: tuple[ssl.SSLSocket, dict[str, Any]] = super().wrap(sock)  # type: ignore[no-untyped-call]  # cheroot has no types here
        return wrapped

    def renew(self, *, always: bool = False) -> None:
        """Read the files anew where they are others now, or *always*."""
        stamp = _stamp(self._settings)
        if stamp == self._stamp and not always:
            return
        self._stamp = stamp
        try:
            self.context = _context(self._settings)
        except OSError as exc:  # of which those of ssl are
            LOG.error("the certificate cannot be used, and the one before serves on: %s", exc)  # noqa: TRY400 - what is wrong are the files
        else:
            LOG.info("the certificate was read anew")


def _context(settings: AgentSettings) -> ssl.SSLContext:
    """Return what the files hold now. Raises: OSError, ssl.SSLError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(str(settings.tls_cert_file), str(settings.tls_key_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.tls_client_ca_file:
        context.load_verify_locations(cafile=str(settings.tls_client_ca_file))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _stamp(settings: AgentSettings) -> tuple[tuple[int, int, int], ...]:
    """Return what tells whether one of the files is another now; a file that is not there has none."""
    seen = []
    for path in (settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file):
        try:
            found = path.stat() if path else None
        except OSError:
            found = None
        seen.append((found.st_ino, found.st_mtime_ns, found.st_size) if found else (0, 0, 0))
    return tuple(seen)
