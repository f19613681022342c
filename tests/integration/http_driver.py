# SPDX-License-Identifier: Apache-2.0
"""The dummy driver outside of the agent: the same obedient driver behind a real HTTP server on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from uuid import UUID

from cyborg_reconciler.agent.drivers.dummy import DummyDriver

#: In which the uuids of its devices lie; the internal API leaves it to a driver what they are made of.
NAMESPACE = UUID("0f6c3b53-1f52-4dd0-a7d8-3d1b0b7f0001")


class HttpDriver:
    """Serves on loopback.

    Attributes:
        told: what each request to discover said.
    """

    def __init__(self, count: int = 1) -> None:
        self.driver, self.told = DummyDriver(count), list[Any]()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = server.driver.discover({})
                self.answer(200, {"hardware": [one.document(NAMESPACE) for one in found]})

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"] or 0))
                server.discover(json.loads(data) if data else None)
                self.answer(202, {"status": "IN-PROGRESS"})

            def answer(self, status: int, body: object) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def discover(self, body: Any) -> None:
        """Set up what it is told to."""
        self.told.append(body)
        ready = (body or {}).get("ready", [])
        devices = self.driver.discover({})
        self.driver.set_up([one.address for one in devices if one.document(NAMESPACE)["uuid"] in ready])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def hello(self) -> dict[str, str]:
        """What it says to the agent."""
        endpoint = f"127.0.0.1:{self._server.server_port}"
        return {"status": "READY", "endpoint": endpoint, "type": "GENERIC", "name": "outside"}
