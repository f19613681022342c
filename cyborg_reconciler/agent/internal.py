# SPDX-License-Identifier: Apache-2.0
"""What does the agent answer to the conductor and to drivers? The internal API as a WSGI application.

`server` serves it. Every answer is JSON, every error a problem of RFC 9457; all but ``/hello`` is for the conductor's
credential alone. What is sent here is bounded, and hostile until parsed.
"""

import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import falcon

from cyborg_reconciler.agent.drivers.registry import REMOTE_LIMIT, Registry, TooManyDriversError
from cyborg_reconciler.agent.drivers.remote import (
    IN_PROGRESS,
    READY,
    DriverSilentError,
    Registration,
    parse_endpoint,
    told,
)
from cyborg_reconciler.agent.observer import ALL, Observer
from cyborg_reconciler.agent.readers import shown
from cyborg_reconciler.agent.settings import is_loopback
from cyborg_reconciler.agent.state import StateFolder
from cyborg_reconciler.agent.wanted import DesiredDevice, parse_ready
from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.limits import HARDWARE_DEVICES
from cyborg_reconciler.port_credentials import port_digest
from cyborg_reconciler.secret_files import read_secrets

LOG: Final = logging.getLogger(__name__)

#: A hello has a hundred bytes; a request to discover names the devices that are to be ready.
BODY_BYTES: Final = 4 * 1024 * 1024
#: What all registered drivers together may take to answer one request.
DRIVERS_S: Final = 20.0
#: Until there is something to tell.
RETRY_S: Final = 10
REQUEST_ID: Final = "X-Openstack-Request-Id"
REQUEST_ID_FORM: Final = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HELLO: Final = "/hello"
#: As `port_digest` makes them.
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
#: What a hello says; the name may be left out, and is then the type in small letters.
HELLO_KEYS: Final = frozenset(("status", "endpoint", "type"))
NAME_KEY: Final = "name"
#: What a request to discover may say.
READY_KEY: Final = "ready"


class Problems(falcon.HTTPBadRequest):
    """A body of which several things are wrong: ``(path, message)`` each."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__(description="; ".join(f"{path}: {message}" for path, message in problems))
        self.problems = problems


class Gate:
    """Lets in who may ask: the conductor, and drivers of this host to say hello.

    Attributes:
        own_address: where this API listens, once it does: who calls from there is on this host, as on loopback.
    """

    def __init__(self, registry: Registry, conductor_digest_file: Path | None) -> None:
        self._registry, self._file = registry, conductor_digest_file
        self.own_address = ""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Give the request an id, and refuse whoever may not ask."""
        given = req.get_header(REQUEST_ID) or ""
        req.context.id = given if REQUEST_ID_FORM.fullmatch(given) else f"req-{uuid.uuid4()}"
        resp.set_header(REQUEST_ID, req.context.id)
        if req.path == HELLO:
            self._admit_driver(req)
        elif not self._is_conductor(req):
            raise falcon.HTTPUnauthorized(description="only the conductor may ask this", challenges=["Bearer"])

    def _admit_driver(self, req: falcon.Request) -> None:
        caller = req.remote_addr or ""
        if not is_loopback(caller) and caller != self.own_address:
            raise falcon.HTTPForbidden(description="drivers register from this host alone")
        try:
            wanted = self._registry.credential()
        except ValueError as exc:
            LOG.error("%s", exc)  # noqa: TRY400 - what is wrong is a file, not the program
            raise falcon.HTTPServiceUnavailable(description="the drivers' credential cannot be read") from exc
        if wanted is not None and not hmac.compare_digest(_token(req).encode("utf-8", "replace"), wanted.encode()):
            raise falcon.HTTPUnauthorized(description="a driver shows its host's credential", challenges=["Bearer"])

    def _is_conductor(self, req: falcon.Request) -> bool:
        """Say whether the caller is the conductor; how long that takes tells nothing of what it shows."""
        if self._file is None:
            return False
        try:
            known = read_secrets(self._file, "the conductor's digest")  # each time: it may be renewed
        except SettingsInvalidError as exc:
            LOG.error("%s", exc)  # noqa: TRY400 - the same
            return False
        if not all(map(DIGEST.fullmatch, known)):
            LOG.error("%s: is not as `cyborg-reconciler agents digest` prints it", self._file)
            return False
        digest = port_digest(_token(req))
        return any(hmac.compare_digest(digest, one) for one in known)


class Resources:
    """The answers.

    Attributes:
        own_port: where this API listens, once it does: no driver is there.
    """

    def __init__(
        self, observer: Observer, registry: Registry, folder: StateFolder, host_uuid: Callable[[], str | None]
    ) -> None:
        self._observer, self._registry, self._folder, self._host_uuid = observer, registry, folder, host_uuid
        self.own_port = 0

    def on_post_hello(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Take in a driver of this host, and have it discover."""
        said = _parse_hello(_read_body(req))
        name = said.get(NAME_KEY, said["type"].lower())
        try:
            registration = Registration(name, said["type"], parse_endpoint(said["endpoint"], self.own_port))
            self._registry.register(registration)
        except ValueError as exc:
            raise falcon.HTTPBadRequest(description=shown(str(exc))) from exc
        except TooManyDriversError as exc:
            raise falcon.HTTPServiceUnavailable(description=str(exc)) from exc
        self._observer.ask(name)
        resp.media = {"status": READY}

    def on_post_discovery(self, req: falcon.Request, resp: falcon.Response, name: str = ALL) -> None:
        """Have one driver discover, or all of them."""
        self._require(name)
        self._observer.want(_parse_discovery(req))
        if not self._observer.ask(name):
            raise falcon.HTTPConflict(description="a discovery is under way already")
        resp.status = falcon.HTTP_202
        resp.media = {"status": IN_PROGRESS}

    def on_get_hardware(self, req: falcon.Request, resp: falcon.Response, name: str = ALL) -> None:
        """Return the devices of one driver, or of all of them, and what could not be read, or written."""
        self._require(name)
        _refuse_body(req)
        seen, host = self._observer.latest, self._host_uuid()
        if seen is None or host is None:
            missing = "the host was not observed yet" if seen is None else "the conductor did not say who this host is"
            raise falcon.HTTPServiceUnavailable(description=missing, retry_after=RETRY_S)
        failure = [self._observer.failure] if self._observer.failure else []
        unread = [*seen.unread, *self._folder.troubles, *failure]
        found = [
            device.document(uuid.UUID(host)) | {"address": device.address}
            for driver, devices in seen.devices.items()
            if name in {ALL, driver}
            for device in devices
            if device.identity  # what could not be read has no uuid; why stands in `unread`
        ]
        for answer in self._of_remote(name):
            if isinstance(answer, str):
                unread.append(answer)
            else:
                found += [one | {"address": told(one)["address"]} for one in answer]
        if len(found) > HARDWARE_DEVICES:
            unread.append(f"{len(found) - HARDWARE_DEVICES} of {len(found)} devices are left out")
        resp.media = {"hardware": found[:HARDWARE_DEVICES], "unread": unread}

    def _of_remote(self, name: str) -> Iterator[list[dict[str, Any]] | str]:
        """Yield the devices of each registered driver, in an order that stays, or why it told none."""
        until = time.monotonic() + DRIVERS_S
        for driver in self._registry.remote(None if name == ALL else name):
            if time.monotonic() > until:
                yield f"driver {driver.registration.name}: not asked, since others took {DRIVERS_S:.0f} s already"
                continue
            try:
                yield sorted(driver.hardware(), key=lambda one: str(one["uuid"]))
            except DriverSilentError as exc:
                yield shown(str(exc))

    def _require(self, name: str) -> None:
        if name != ALL and name not in self._registry.names():
            raise falcon.HTTPNotFound(description=f"no driver is called {shown(name)}")


class Route(NamedTuple):
    """One row of the internal API; *noun* says which method of `Resources` answers; *causes* why it may refuse."""

    method: str
    path: str
    noun: str
    asked_by: str
    success: int
    causes: Mapping[int, str]


UNASKED: Final = {401: "the credential is missing, or is not the conductor's"}
NO_DRIVER: Final = {404: "no driver is called so"}
HELLO_CAUSES: Final = {
    400: "the body is not as it should be, or the endpoint is not on this host",
    401: "the credential of this host's drivers is missing, where one is configured",
    403: "it comes from another host",
    413: "the body is too long",
    415: "the body is not JSON by its type",
    503: f"{REMOTE_LIMIT} drivers are registered, or the credential cannot be read",
}
DISCOVERY_CAUSES: Final = {
    400: "the body is not as it should be",
    **UNASKED,
    409: "a discovery is under way already",
    413: "the body is too long",
}
HARDWARE_CAUSES: Final = {
    400: "there is a body",
    **UNASKED,
    503: "nothing was observed yet, or the conductor has not said who this host is",
}

ROUTES: Final = (
    Route("POST", HELLO, "hello", "driver", 200, HELLO_CAUSES),
    Route("POST", "/discovery", "discovery", "conductor", 202, DISCOVERY_CAUSES),
    Route("GET", "/hardware", "hardware", "conductor", 200, HARDWARE_CAUSES),
    Route("POST", "/drivers/{name}/discovery", "discovery", "conductor", 202, DISCOVERY_CAUSES | NO_DRIVER),
    Route("GET", "/drivers/{name}/hardware", "hardware", "conductor", 200, HARDWARE_CAUSES | NO_DRIVER),
)


def make_app(gate: Gate, resources: Resources) -> falcon.App[falcon.Request, falcon.Response]:
    """Return the application."""
    app = falcon.App(middleware=[gate])
    for route in ROUTES:
        app.add_route(route.path, resources, suffix=route.noun)
    app.set_error_serializer(_serialize)
    app.add_error_handler(Exception, _fail)
    return app


# ------------------------------------------------------------------------------------------------------------- parsing
def _token(req: falcon.Request) -> str:
    """Return the bearer token that the caller shows; empty where there is none."""
    scheme, _, token = (req.get_header("Authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _read_body(req: falcon.Request) -> object:
    """Return the JSON of the body. Raises: an HTTP error."""
    if (req.content_type or "").partition(";")[0].strip().lower() != "application/json":
        raise falcon.HTTPUnsupportedMediaType(description="the body must be application/json")
    try:
        found: object = json.loads(_read_bounded(req))
    except (ValueError, RecursionError) as exc:
        raise falcon.HTTPBadRequest(description="the body is no JSON") from exc
    return found


def _read_bounded(req: falcon.Request) -> bytes:
    data: bytes = req.stream.read(BODY_BYTES + 1)  # the server's own stream ends where the body does
    if len(data) > BODY_BYTES or (req.content_length or 0) > BODY_BYTES:
        raise falcon.HTTPContentTooLarge(description=f"a body has at most {BODY_BYTES} bytes")
    return data


def _refuse_body(req: falcon.Request) -> None:
    """Refuse what is more than nothing: there is nothing to be said. Raises: an HTTP error."""
    if _read_bounded(req).strip() not in {b"", b"{}"}:
        raise falcon.HTTPBadRequest(description="there is nothing to be said in a body here")


def _parse_discovery(req: falcon.Request) -> tuple[DesiredDevice, ...] | None:
    """Return which devices are to be ready; None where the body says nothing. Raises: an HTTP error."""
    data = _read_bounded(req)
    if data.strip() in {b"", b"{}"}:
        return None
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise falcon.HTTPBadRequest(description="the body is no JSON") from exc
    if not isinstance(body, dict):
        raise Problems([("$", "must be an object")])
    problems = [(f"$.{shown(key)}", "is not known") for key in sorted(body.keys() - {READY_KEY})]
    ready = parse_ready(body.get(READY_KEY))
    if READY_KEY in body and ready is None:
        problems.append((f"$.{READY_KEY}", "must be a list of devices, each with its driver, address and uuid"))
    if problems:
        raise Problems(problems)
    return ready


def _parse_hello(body: object) -> dict[str, str]:
    """Return a hello's fields, which are as they should be. Raises: Problems, with all that is wrong."""
    if not isinstance(body, dict):
        raise Problems([("$", "must be an object")])
    known = HELLO_KEYS | {NAME_KEY}
    problems = [(f"$.{key}", "is missing") for key in sorted(HELLO_KEYS - body.keys())]
    problems += [(f"$.{shown(key)}", "is not known") for key in sorted(body.keys() - known)]
    problems += [
        (f"$.{key}", "must be a text") for key in sorted(known & body.keys()) if not isinstance(body[key], str)
    ]
    if not problems and body["status"] != READY:
        problems.append(("$.status", f"must be {READY}"))
    if problems:
        raise Problems(problems)
    return body


# ------------------------------------------------------------------------------------------------------------ problems
def _serialize(req: falcon.Request, resp: falcon.Response, exc: falcon.HTTPError) -> None:
    """Write *exc* as a problem. Source: RFC 9457."""
    resp.content_type = "application/problem+json"
    problem = {
        "type": "about:blank",  # the status says it all
        "title": exc.title.partition(" ")[2] if exc.title else "",
        "status": exc.status_code,
        "detail": exc.description or "",
        "instance": shown(req.path),
        "errors": [{"path": path, "message": text} for path, text in getattr(exc, "problems", ())],
        "request_id": getattr(req.context, "id", ""),
    }
    resp.data = json.dumps(problem).encode()


def _fail(req: falcon.Request, resp: falcon.Response, exc: Exception, params: dict[str, Any]) -> None:
    """Say that something went wrong, and to the log alone what."""
    del resp, params
    LOG.error("%s %s failed", req.method, shown(req.path), exc_info=exc)
    raise falcon.HTTPInternalServerError(description="the agent's log says what went wrong")
