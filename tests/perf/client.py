# SPDX-License-Identifier: Apache-2.0
"""Who sends requests to a server that is measured? A few connections that are kept, and as little of Python as can be.

Called by the rows of the API. Does I/O on sockets.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

#: Connections that send at the same time: as many as two workers with eight threads each can serve.
CONNECTIONS: Final = 16

HEAD_END: Final = b"\r\n\r\n"
LENGTH: Final = b"content-length: "


@dataclass
class Sent:
    """What came of a number of requests.

    Attributes:
        seconds: of wall time, from the first to the last. waits_s: of each, how long it was waited for.
        statuses: how often each was answered.
    """

    seconds: float
    waits_s: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def percentile_ms(self, share: float) -> float:
        """Return how long all but the slowest took: those beyond *share* of them."""
        ordered = sorted(self.waits_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


def as_request(method: str, path: str, body: bytes = b"", token: str = "") -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + HEAD_END + body


def send(port: int, requests: Callable[[int], Iterator[bytes]], rate: float | None = None) -> Sent:
    """Send what *requests* yields for each connection, and return what came of it.

    *rate*: requests a second of all together, sent when their time has come, whether the last was answered or not:
    a server that falls behind is seen to. None: each connection sends as soon as it was answered.
    """
    parts = [Sent(0.0) for _ in range(CONNECTIONS)]
    ready = threading.Barrier(CONNECTIONS)
    interval_s = CONNECTIONS / rate if rate else 0.0
    threads = [
        threading.Thread(target=_work, args=(port, requests(number), parts[number], ready, interval_s))
        for number in range(CONNECTIONS)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Sent(time.perf_counter() - began)
    for part in parts:
        total.waits_s += part.waits_s
        for status, count in part.statuses.items():
            total.statuses[status] = total.statuses.get(status, 0) + count
    return total


def _work(port: int, requests: Iterator[bytes], part: Sent, ready: threading.Barrier, interval_s: float) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ready.wait()
        due = time.perf_counter()
        for request in requests:
            if interval_s:
                due += interval_s
                time.sleep(max(0.0, due - time.perf_counter()))
            since = due if interval_s else time.perf_counter()
            connection.sendall(request)
            status = _read_answer(connection)
            part.waits_s.append(time.perf_counter() - since)
            part.statuses[status] = part.statuses.get(status, 0) + 1


def _read_answer(connection: socket.socket) -> int:
    """Read an answer to its end, and return its status."""
    data = connection.recv(262_144)
    while HEAD_END not in data:
        data += _more(connection)
    head, _, body = data.partition(HEAD_END)
    start = head.lower().index(LENGTH) + len(LENGTH)
    left = int(head[start:].split(b"\r\n", 1)[0]) - len(body)
    while left > 0:
        left -= len(_more(connection))
    return int(head[9:12])


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(262_144)
    if not data:
        raise ConnectionResetError("the server closed the connection")
    return data


def dealt(requests: Sequence[bytes]) -> Callable[[int], Iterator[bytes]]:
    """Return *requests* dealt out to the connections, as `send` asks for them."""
    return lambda number: iter(requests[number::CONNECTIONS])
