# SPDX-License-Identifier: Apache-2.0
"""How does the agent ask over HTTP: the conductor, and drivers on its host? Does I/O.

One request, one answer: nothing is tried twice here, and a redirect is an answer like others, never followed. An answer
is JSON of bounded length, and comes in bounded time as a whole, or it is an error.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import urllib3

from cyborg_reconciler.deadlines import BoundedPool, CallFailedError, bounded

#: An answer that is longer is not for us, unless the caller says so.
ANSWER_BYTES: Final = 1024 * 1024


class NoAnswerError(Exception):
    """Nobody answered, or not in HTTP and JSON."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered.

    Attributes:
        body: the JSON object; empty where there was none.
        retry_after: the header, as it came.
    """

    status: int
    body: Mapping[str, Any]
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Certificates:
    """By what both sides know each other: authorities (None: the system's), our certificate and its key."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class Caller:
    """Asks one server.

    Attributes:
        url: its address, without a slash at its end.
        answer_bytes: how long an answer may be.
    """

    def __init__(
        self, url: str, *, connect_s: float, answer_s: float, certificates: Certificates | None = None
    ) -> None:
        files = certificates or Certificates()
        self._limit_s = connect_s + answer_s
        self.url, self.answer_bytes = url.rstrip("/"), ANSWER_BYTES
        timeout = urllib3.Timeout(connect=connect_s, read=answer_s)
        self._pool = BoundedPool(timeout, ca=files.ca_file, cert=files.cert_file, key=files.key_file)

    def ask(self, method: str, path: str, *, token: str | None = None, body: object = None) -> Answer:
        """Return the answer to *method* on *path*. Raises: NoAnswerError."""
        headers = {"Accept": "application/json", "User-Agent": "cyborg-reconciler-agent"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = encode(body)
        try:
            with bounded(self._limit_s):
                answer = self._pool.request(
                    method, self.url + path, body=data, headers=headers, redirect=False, preload_content=False
                )
                try:
                    text = answer.read(self.answer_bytes + 1, decode_content=True)
                    if len(text) > self.answer_bytes:
                        answer.close()  # the rest of it is not read
                finally:
                    answer.release_conn()
        except CallFailedError as exc:
            raise NoAnswerError(f"{self.url}: {exc}") from exc
        if len(text) > self.answer_bytes:
            raise NoAnswerError(f"{self.url}: the answer is longer than {self.answer_bytes} bytes")
        return Answer(answer.status, _parse(text, answer.status, self.url), answer.headers.get("Retry-After"))

    def close(self) -> None:
        """Let the connections go."""
        self._pool.clear()


def encode(body: object) -> bytes:
    """Return *body* as it travels."""
    return json.dumps(body).encode()


def _parse(text: bytes, status: int, url: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    if status < 300:  # noqa: PLR2004 - what RFC 9110 calls successful; of an error the status says enough
        raise NoAnswerError(f"{url}: the answer is no JSON object")
    return {}
