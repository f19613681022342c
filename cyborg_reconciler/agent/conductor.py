# SPDX-License-Identifier: Apache-2.0
"""What does the agent say to its conductor, and what does it make of the answers? Does I/O: HTTP.

`reporter` calls this. What comes back is checked: an answer that is not as the internal API says is an error like none.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import quote

from cyborg_reconciler.agent.http import Answer, Caller, Certificates, NoAnswerError
from cyborg_reconciler.agent.readers import shown
from cyborg_reconciler.agent.schedule import parse_retry_after
from cyborg_reconciler.agent.settings import AgentSettings
from cyborg_reconciler.agent.state import is_uuid
from cyborg_reconciler.agent.wanted import DesiredDevice, parse_modules, parse_ready
from cyborg_reconciler.errors import ConductorError, StaleCheckInError

CONNECT_S: Final = 5.0
#: A conductor that is behind with its database answers late rather than not at all.
ANSWER_S: Final = 30.0
#: An answer names all devices that are to be ready.
ANSWER_BYTES: Final = 4 * 1024 * 1024
#: Between check-ins, where the conductor does not say.
INTERVAL_S: Final = 60
LONGEST_INTERVAL_S: Final = 3600
#: More commands in one answer are more than an agent has drivers for.
COMMANDS: Final = 64

SUCCESSFUL: Final = range(200, 300)
UNAUTHORISED, FORBIDDEN, NOT_FOUND, CONFLICT = 401, 403, 404, 409
STALE: Final = StaleCheckInError.kind


@dataclass(frozen=True, slots=True)
class Command:
    """Something that the conductor wants done; *token* is the new one of ``rotate_token``."""

    id: int
    name: str
    driver: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to a look-up or a hello; *token* is given once, by the first look-up."""

    host: str
    uuid: str
    interval_s: int
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a check-in that was taken.

    Attributes:
        ready, modules: what is wanted of this host, see `wanted`; None where nothing is said of it.
    """

    interval_s: int
    commands: tuple[Command, ...] = ()
    ready: tuple[DesiredDevice, ...] | None = None
    modules: tuple[str, ...] | None = None


class Conductor(Protocol):
    """What `reporter` asks of the conductor. Each raises ConductorError where it says no, or nothing."""

    def look_up(self, token: str, inventory: Mapping[str, Any]) -> Welcome:
        """Ask who this host is."""

    def hello(self, token: str, endpoint: str) -> Welcome:
        """Say that the agent is ready."""

    def check_in(self, token: str, host: str, body: Mapping[str, Any]) -> Receipt:
        """Report the state of *host*."""


class HttpConductor:
    """The conductor at the address of the settings."""

    def __init__(self, settings: AgentSettings, version: str, wall: Callable[[], float] = time.time) -> None:
        files = Certificates(settings.ca_file, settings.client_cert_file, settings.client_key_file)
        self._caller = Caller(settings.conductor, connect_s=CONNECT_S, answer_s=ANSWER_S, certificates=files)
        self._caller.answer_bytes = ANSWER_BYTES
        self._version, self._wall = version, wall

    def look_up(self, token: str, inventory: Mapping[str, Any]) -> Welcome:
        """Ask who this host is."""
        body = {"agent_version": self._version, "inventory": inventory}
        return _welcome(self._ask("the look-up", "/v1/lookup", token, body))

    def hello(self, token: str, endpoint: str) -> Welcome:
        """Say that the agent is ready."""
        return _welcome(self._ask("the hello", "/v1/hello", token, {"status": "READY", "endpoint": endpoint}))

    def check_in(self, token: str, host: str, body: Mapping[str, Any]) -> Receipt:
        """Report the state of *host*."""
        answer = self._ask("the check-in", f"/v1/heartbeat/{quote(host, safe='')}", token, body)
        commands = answer.body.get("commands")
        found = map(_command, commands[:COMMANDS] if isinstance(commands, list) else ())
        return Receipt(
            _interval(answer.body),
            tuple(command for command in found if command),
            parse_ready(answer.body.get("ready")),
            parse_modules(answer.body.get("modules")),
        )

    def _ask(self, what: str, path: str, token: str, body: Mapping[str, Any]) -> Answer:
        try:
            answer = self._caller.ask("POST", path, token=token, body=body)
        except NoAnswerError as exc:
            raise ConductorError(wanted=what, found=shown(str(exc))) from exc
        if answer.status in SUCCESSFUL:
            return answer
        said = answer.body.get("detail") or answer.body.get("title") or "no reason is given"
        raise ConductorError(
            wanted=what,
            found=f"{self._caller.url} answers {answer.status}: {shown(str(said))}",
            status=answer.status,
            kind=str(answer.body.get("type", "")).rpartition("/")[2],
            retry_after_s=parse_retry_after(answer.retry_after, self._wall()),
        )


def _welcome(answer: Answer) -> Welcome:
    host, uuid, token = (answer.body.get(name) for name in ("host", "uuid", "token"))
    if not (isinstance(host, str) and host and is_uuid(uuid)) or not isinstance(token, str | None):
        raise ConductorError(wanted="the name and the uuid of this host", found="an answer without them")
    return Welcome(host, str(uuid), _interval(answer.body), token)


def _interval(body: Mapping[str, Any]) -> int:
    found = body.get("heartbeat_interval")
    is_number = isinstance(found, int) and not isinstance(found, bool)
    return min(max(1, found), LONGEST_INTERVAL_S) if isinstance(found, int) and is_number else INTERVAL_S


def _command(item: object) -> Command | None:
    if not isinstance(item, dict):
        return None
    number, name, driver, token = (item.get(key) for key in ("id", "command", "driver", "token"))
    if not isinstance(number, int) or not isinstance(name, str):
        return None
    return Command(number, name, *(word if isinstance(word, str) else None for word in (driver, token)))
