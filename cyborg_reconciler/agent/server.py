# SPDX-License-Identifier: Apache-2.0
"""The port of the internal API: cheroot, with TLS and clients' certificates where configured. Does I/O.

`process` starts it in a thread of its own.
"""

import logging
import ssl
import threading
from typing import Final

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
LONGEST_BYTES: Final = 1024 * 1024
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
                self._server.ssl_adapter = _adapter(settings)
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

    def stop(self) -> None:
        """Answer no more."""
        self._server.stop()


def _adapter(settings: AgentSettings) -> BuiltinSSLAdapter:
    adapter = BuiltinSSLAdapter(str(settings.tls_cert_file), str(settings.tls_key_file))
    adapter.context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.tls_client_ca_file:
        adapter.context.load_verify_locations(cafile=str(settings.tls_client_ca_file))
        adapter.context.verify_mode = ssl.CERT_REQUIRED
    return adapter
