# SPDX-License-Identifier: Apache-2.0
"""Whoever keeps a call going is cut off: the conductor's call to an agent, and the agent's to drivers. Real sockets."""

import socket
import threading
from itertools import chain, repeat
from typing import Self

import pytest

from cyborg_reconciler.adapters.agent_port import HttpAgentPort, Terms
from cyborg_reconciler.agent.http import Caller, NoAnswerError
from cyborg_reconciler.errors import AgentUnreachableError
from cyborg_reconciler.stores.agents import AgentAddress

#: Each part in time, and as many of them as take far longer than a call may: then the server ends by itself.
PART_S, PARTS, LIMIT_S = 0.05, 400, 0.5
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = HEAD + b"Content-Length: 2\r\n\r\n{}"

#: What is sent at once, and then again and again.
WAYS = {
    "a status line": (b"", b"H"),
    "headers": (HEAD, b"X-More: yes\r\n"),
    "a header": (HEAD + b"X-More: ", b"y"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body without a length": (HEAD + b"\r\n", b" "),
    "a body": (HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
    "chunks": (CHUNKS, b"1\r\n \r\n"),
    "trailers": (CHUNKS + b"2\r\n{}\r\n0\r\n", b"X-More: yes\r\n"),
}


class Dripping:
    """A server that never comes to an end, on one connection; it answers *well* so many requests first."""

    def __init__(self, first: bytes, part: bytes, well: int = 0) -> None:
        self._parts, self._well = chain([first], repeat(part, PARTS)), well
        self._ends = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        try:
            connection, _ = self._listening.accept()
            with connection:
                for _ in range(self._well):
                    connection.recv(65536)
                    connection.sendall(WHOLE)
                connection.recv(65536)
                for part in self._parts:
                    connection.sendall(part)
                    if self._ends.wait(PART_S):
                        return
        except OSError:
            return  # it was cut off

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ends.set()
        self._thread.join()
        self._listening.close()


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    secret = tmp_path_factory.mktemp("secret") / "secret"
    secret.touch(0o600)
    secret.write_text("5ecret" * 6)
    return HttpAgentPort(Terms(secret), LIMIT_S)


@pytest.mark.parametrize("way", WAYS)
def test_an_agent_that_keeps_the_conductor_is_cut_off(port, way):
    with Dripping(*WAYS[way]) as agent, pytest.raises(AgentUnreachableError, match="the answer takes too long"):
        port.hardware(AgentAddress("compute-7", f"http://{agent.endpoint}"))


def test_nor_does_it_keep_the_conductor_before_it_is_known_by_its_certificate(port):
    record = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"  # the beginning of a ServerHello
    with Dripping(record, b"\0") as agent, pytest.raises(AgentUnreachableError, match="the answer takes too long"):
        port.hardware(AgentAddress("compute-7", f"https://{agent.endpoint}"))


@pytest.mark.parametrize("way", ["headers", "a body without a length"])
@pytest.mark.parametrize("well", [0, 1], ids=["at once", "on a connection that is used again"])
def test_a_driver_that_keeps_the_agent_is_cut_off(way, well):
    with Dripping(*WAYS[way], well=well) as driver:
        caller = Caller(f"http://{driver.endpoint}", connect_s=LIMIT_S / 2, answer_s=LIMIT_S / 2)
        for _ in range(well):
            assert caller.ask("GET", "/hardware").body == {}
        with pytest.raises(NoAnswerError, match="the answer takes too long"):
            caller.ask("GET", "/hardware")
        caller.close()
