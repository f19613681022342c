# SPDX-License-Identifier: Apache-2.0
"""How does a request reach its operation? Falcon routes it; here it is named, judged, parsed, run and answered.

Called by `wsgi`, and by tests. No I/O but that of the operations.
"""

import hashlib
import http
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import falcon

from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.refusals import Refusal
from cyborg_reconciler.conductor.secrets import without_tokens
from cyborg_reconciler.errors import ForbiddenError, TooManyRequestsError, UnauthenticatedError
from cyborg_reconciler_api import errors, parsing, traffic
from cyborg_reconciler_api.access import LOCAL, check_sender
from cyborg_reconciler_api.operation import CHANGING, Call, Operation, Reply, operations_of
from cyborg_reconciler_api.routes import ROUTES, UNVERSIONED, served
from cyborg_reconciler_api.services import Services

ANYBODY: Final = Caller("anybody", Role.READER)

#: Digits of a tag that is made from what is answered.
TAG_DIGITS: Final = 32

#: What the audit trail keeps of a refused request, besides who sent it.
SHOWN_CHARACTERS: Final = 200

#: For whatever shows an answer: it is what it says, is to be kept nowhere, and neither framed nor run.
#: Source: OWASP, REST Security Cheat Sheet, "Security Headers".
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def create_app(services: Services) -> falcon.App[falcon.Request, falcon.Response]:
    """Return the API over *services*, as a WSGI application."""
    app = falcon.App(middleware=Naming())
    app.add_middleware(traffic.Accounting(services.meter))
    app.req_options.strip_url_path_trailing_slash = True

    def on_error(request: falcon.Request, response: falcon.Response, exc: Exception, _params: object) -> None:
        parsing.discard_body(request)
        exc = _limited(services, request, exc)
        errors.answer(request, response, exc)
        if isinstance(exc, UnauthenticatedError | ForbiddenError | TooManyRequestsError):
            services.refusals.note(_refusal(request, response, exc))

    for kind in (Exception, falcon.HTTPError):  # Falcon has a handler of its own for the latter
        app.add_error_handler(kind, on_error)
    for path, operations in served(services.agents_are).items():
        opened = {method: replace(one, access="anybody") for method, one in operations.items()}
        app.add_route(path, _resource(opened if path in services.open_paths else operations, services))
    return app


class Naming:
    """Gives each request its id, and the path that it means."""

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Name the request, and put the version before a path that leaves it out."""
        traffic.name(request, response)
        request.context.caller = ANYBODY
        response.set_headers(HEADERS)
        request.path = full_path(request.path)

    def process_resource(
        self,
        request: falcon.Request,
        _response: falcon.Response,
        resource: Any,  # noqa: ANN401 - one of those that `_resource` makes
        _params: object,
    ) -> None:
        """Refuse a method that HTTP does not know as one is that the path does not have.

        Raises:
            HTTPMethodNotAllowed.
        """
        if request.method not in falcon.COMBINED_METHODS:
            raise falcon.HTTPMethodNotAllowed(resource.methods)


def full_path(path: str) -> str:
    """Return *path* with its version, and in the plural.

    >>> full_path("/accelerator/x")
    '/v1/accelerators/x'
    """
    if path in UNVERSIONED:
        return path
    if not path.startswith("/v1/") and path != "/v1":
        path = f"/v1{path}"
    head, singular, tail = path.partition("/v1/accelerator")
    return f"/v1/accelerators{tail}" if not head and singular and tail[:1] in {"", "/"} else path


def _limited(services: Services, request: falcon.Request, exc: Exception) -> Exception:
    """Return *exc*, or that there are too many requests of its kind from where this one came from."""
    if isinstance(exc, UnauthenticatedError):
        try:
            services.limits.fail(request.remote_addr or "")
        except TooManyRequestsError as more:
            return more
    return exc


def _refusal(request: falcon.Request, response: falcon.Response, exc: Exception) -> Refusal:
    """Return what the audit trail is to say of a request that was refused."""
    caller: Caller = request.context.caller
    return Refusal(
        by="" if caller is ANYBODY else caller.name,
        peer=request.remote_addr or "",
        request_id=request.context.request_id,
        method=request.method[:SHOWN_CHARACTERS],
        path=without_tokens(request.path)[:SHOWN_CHARACTERS],
        status=response.status_code,
        reason=type(exc).__name__.removesuffix("Error"),
    )


def _resource(operations: Mapping[str, Operation], services: Services) -> object:
    """Return an object with the methods that Falcon looks for."""
    answered = {**({"HEAD": operations["GET"]} if "GET" in operations else {}), **operations}
    methods = {f"on_{method.lower()}": _responder(one, services, method) for method, one in answered.items()}
    return type("Resource", (), {**methods, "methods": (*answered, "OPTIONS")})()


def _responder(operation: Operation, services: Services, method: str) -> Callable[..., None]:
    heeds_tags = operation.is_single and method in CHANGING

    def respond(_self: object, request: falcon.Request, response: falcon.Response, **ids: str) -> None:
        caller = _admitted(operation, services, request)
        judged = _judged(operation, services, request)
        parsing.check_ids(ids, creates=operation.success == http.HTTPStatus.CREATED)
        call = Call(
            caller=caller,
            ids=ids,
            instance=request.path,
            request_id=request.context.request_id,
            query=parsing.parse_query(request, operation.query),
            body=parsing.read_body(request, operation),
            seen=parsing.parse_seen(request) if heeds_tags else None,
            judged=judged,
            stream_after=parsing.parse_stream(request) if operation.is_stream and method == "GET" else None,
        )
        _send(operation.run(services, call), operation, request, response)

    return respond


def _admitted(operation: Operation, services: Services, request: falcon.Request) -> Caller:
    """Return who calls, if he may.

    Raises:
        UnauthenticatedError, ForbiddenError, TooManyRequestsError.
    """
    peer = request.remote_addr or ""
    if operation.access == "anybody":
        return ANYBODY
    if operation.access == "agent":
        # `_judged` compares the token. People may have thought up the secret that one of them takes, so who
        # has failed too often is not heard. Users' tokens nobody guesses: a valid one is let in whatever others try.
        services.limits.check_failures(peer)
        return ANYBODY
    known = services.authenticate(request.auth, peer)
    caller = Caller(known.name, known.role, known.project_id, request.context.request_id)
    request.context.caller = caller
    if known is LOCAL:
        check_sender(*(request.get_header(name) or "" for name in ("Host", "Origin", "Sec-Fetch-Site")))
    else:
        services.limits.call(caller.name)
    if caller.role < operation.access:
        raise ForbiddenError(
            wanted=f"{request.method} {request.path}",
            found=f"{caller.name} is {caller.role}",
            remedy=f"ask somebody who is {operation.access}",
        )
    return caller


def _judged(operation: Operation, services: Services, request: falcon.Request) -> object:
    """Return what an agent's token says of it, before anything that it sends is parsed; None where users call.

    Raises:
        UnauthenticatedError, TooManyRequestsError.
    """
    if operation.judge is None:
        return None
    return operation.judge(services, parsing.parse_bearer(request), request.remote_addr or "")


def _send(reply: Reply, operation: Operation, request: falcon.Request, response: falcon.Response) -> None:
    response.status = reply.status or operation.success
    if reply.stream is not None:
        response.content_type = reply.content_type
        response.stream = reply.stream
    body = reply.body.encode() if isinstance(reply.body, str) else reply.body
    if body is not None:
        response.content_type = reply.content_type
        if reply.content_type.startswith("text/html"):
            response.delete_header("Content-Security-Policy")  # a page brings its own
        response.data = body
    if reply.version is not None:
        response.set_header("ETag", f'"{reply.version}"')
    elif operation.is_single and body is not None:  # what nobody can change here has no version, and a tag all the same
        response.set_header("ETag", f'"{hashlib.sha256(body).hexdigest()[:TAG_DIGITS]}"')
    known = request.if_none_match if request.method in parsing.SAFE else None
    if known and _has(known, response.get_header("ETag")):
        response.status, response.data = http.HTTPStatus.NOT_MODIFIED, None
    if reply.location:
        response.set_header("Location", reply.location)
    if reply.headers:
        response.set_headers(dict(reply.headers))


def _has(known: Sequence[str], tag: str | None) -> bool:
    """Return whether what *tag* stands for is one of those that the caller says he has."""
    return tag is not None and any(one == "*" or f'"{one}"' == tag for one in known)


def all_operations() -> list[tuple[str, str, Operation]]:
    """Return every operation with its path and its method."""
    return list(operations_of(ROUTES))
