# SPDX-License-Identifier: Apache-2.0
"""What does the conductor ask of an agent at its own port, and what does it make of the answer? Does I/O: HTTP.

Called by the conductor, with an endpoint that the inventory gives. One request, one answer: nothing is tried twice, and
no redirect is followed, since who answers is not trusted to say whom else to show the credential to. An answer is JSON
of bounded length, and the whole of it comes in bounded time, or it is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote

import msgspec
import urllib3

from cyborg_reconciler.deadlines import BoundedPool, CallFailedError, bounded
from cyborg_reconciler.documents.rest.base import UUID_FORM
from cyborg_reconciler.errors import AgentUnreachableError, ConflictError, NotFoundError, SettingsInvalidError
from cyborg_reconciler.limits import HARDWARE_BYTES, HARDWARE_DEVICES
from cyborg_reconciler.port_credentials import SECRET_CHARACTERS, port_credential
from cyborg_reconciler.secret_files import read_secret
from cyborg_reconciler.stores.agents import IN_PROGRESS, AgentAddress, DesiredDevice

CONNECT_S: Final = 2.0
#: For the whole answer, and for each part of it.
ANSWER_S: Final = 5.0
CHUNK: Final = 64 * 1024

ACCEPTED, OK, NOT_FOUND, CONFLICT = 202, 200, 404, 409

Shape = TypeVar("Shape")


class _Underway(msgspec.Struct):
    status: str


class _Status(msgspec.Struct):
    setup_required: bool = False
    reboot_required: bool = False


class _Device(msgspec.Struct):
    uuid: Annotated[str, msgspec.Meta(pattern=rf"^{UUID_FORM}\Z")]
    acc_specs: dict[str, Any]
    acc_status: _Status
    address: str = ""


class _Hardware(msgspec.Struct):
    hardware: Annotated[list[_Device], msgspec.Meta(max_length=HARDWARE_DEVICES)]
    unread: Annotated[list[str], msgspec.Meta(max_length=1024)] = []


@dataclass(frozen=True, slots=True)
class Terms:
    """By what conductor and agents know each other.

    Attributes:
        secret: the file of what the conductor's credentials are made of, one for each host; it is read with each call,
            for it may be renewed.
        ca, cert, key: the authorities of agents' certificates (None: the system's), and what the conductor has itself.
    """

    secret: Path
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


class HttpAgentPort:
    """The internal API of agents; *limit_s*: for a call as a whole."""

    def __init__(self, terms: Terms, limit_s: float = CONNECT_S + ANSWER_S) -> None:
        self._terms, self._limit_s = terms, limit_s
        timeout = urllib3.Timeout(connect=CONNECT_S, read=ANSWER_S)
        self._pool = BoundedPool(timeout, ca=terms.ca, cert=terms.cert, key=terms.key)

    def discover(self, at: AgentAddress, driver: str | None, ready: Sequence[DesiredDevice]) -> None:
        """Have the agent *at* an address look again, and set up what is to be *ready*.

        Raises:
            ConflictError: it is at it already. NotFoundError: it has no such driver. AgentUnreachableError.
        """
        devices = [{"driver": one.driver, "address": one.address, "uuid": one.uuid} for one in ready]
        status, text = self._ask("POST", at, _path("discovery", driver), {"ready": devices})
        self._refuse(status, at.endpoint, driver)
        if status != ACCEPTED or self._parsed(text, _Underway, at.endpoint).status != IN_PROGRESS:
            raise _unreachable(at.endpoint, f"it answers {status}, and not that it is at it")

    def hardware(self, at: AgentAddress, driver: str | None = None) -> Mapping[str, Any]:
        """Return what the agent *at* an address says of its hardware: ``hardware`` and ``unread``, checked.

        Raises:
            NotFoundError: it has no such driver. AgentUnreachableError.
        """
        status, text = self._ask("GET", at, _path("hardware", driver))
        self._refuse(status, at.endpoint, driver)
        if status != OK:
            raise _unreachable(at.endpoint, f"it answers {status}")
        found: Mapping[str, Any] = msgspec.to_builtins(self._parsed(text, _Hardware, at.endpoint))
        return found

    @staticmethod
    def _refuse(status: int, endpoint: str, driver: str | None) -> None:
        if status == CONFLICT:
            raise ConflictError(
                wanted="a discovery", found=f"{endpoint} is at one already", remedy="wait until it is over"
            )
        if status == NOT_FOUND and driver is not None:
            raise NotFoundError(wanted=f"driver {driver}", found=f"the agent at {endpoint} has none")

    def _ask(self, method: str, at: AgentAddress, path: str, body: object = None) -> tuple[int, bytes]:
        """Return status and body of what is answered. Raises: AgentUnreachableError."""
        endpoint = at.endpoint
        try:
            headers = {
                "Authorization": f"Bearer {port_credential(read_agent_secret(self._terms.secret), at.host)}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "cyborg-reconciler-conductor",
            }
        except SettingsInvalidError as exc:
            raise _unreachable(endpoint, str(exc)) from exc
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = msgspec.json.encode(body)
        try:
            with bounded(self._limit_s):
                answer = self._pool.request(
                    method, endpoint + path, body=data, headers=headers, redirect=False, preload_content=False
                )
                try:
                    return answer.status, _read(answer)
                finally:
                    answer.close()  # agents are asked seldom: no connection is kept
        except CallFailedError as exc:
            raise _unreachable(endpoint, str(exc)) from exc

    @staticmethod
    def _parsed(text: bytes, shape: type[Shape], endpoint: str) -> Shape:
        try:
            return msgspec.json.decode(text, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise _unreachable(endpoint, f"its answer is not as it should be: {exc}") from exc


def read_agent_secret(path: Path) -> str:
    """Return what the credentials of agents' ports are made of. Raises: SettingsInvalidError."""
    what = "the secret of agents' ports"
    secret = read_secret(path, what)
    if len(secret) < SECRET_CHARACTERS:
        raise SettingsInvalidError(
            wanted=f"{what} in {path}",
            found=f"a word of less than {SECRET_CHARACTERS} characters, which a host could guess",
            remedy="make a random one: `openssl rand -hex 32`",
        )
    return secret


def _path(noun: str, driver: str | None) -> str:
    return f"/{noun}" if driver is None else f"/drivers/{quote(driver, safe='')}/{noun}"


def _read(answer: urllib3.BaseHTTPResponse) -> bytes:
    """Return the body, which is bounded in length. Raises: ValueError, and what urllib3 raises."""
    found = b""
    while len(found) <= HARDWARE_BYTES:
        more = answer.read1(CHUNK, decode_content=False)
        if not more:
            return found
        found += more
    raise ValueError(f"its answer is longer than {HARDWARE_BYTES} bytes")


def _unreachable(endpoint: str, found: str) -> AgentUnreachableError:
    return AgentUnreachableError(wanted=f"the agent at {endpoint}", found=found)
