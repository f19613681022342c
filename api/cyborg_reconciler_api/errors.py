# SPDX-License-Identifier: Apache-2.0
"""What does the API answer when something goes wrong? The one translator of errors into HTTP. No I/O but the log."""

import http
import logging
import math
from typing import Any, Final

import falcon
import msgspec

from cyborg_reconciler import errors
from cyborg_reconciler.conductor.secrets import without_tokens
from cyborg_reconciler.limits import MAX_BODY_BYTES
from cyborg_reconciler_api import traffic
from cyborg_reconciler_api.parsing import MediaTypeError, TooLargeError, WeakTagError
from cyborg_reconciler_api.streams import BusyError

#: Source: RFC 9457.
PROBLEM: Final = "application/problem+json"

#: Seconds after which what goes away by itself may be tried again.
RETRY_AFTER_S: Final = 5

#: The status of each error of ours; of one that is not here, that of its nearest base.
STATUS: Final[dict[type[BaseException], int]] = {
    errors.RequestInvalidError: 400,
    errors.UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    WeakTagError: 412,
    TooLargeError: 413,
    MediaTypeError: 415,
    errors.PlanOutdatedError: 409,
    errors.DeclarationsInvalidError: 409,
    errors.TooManyRequestsError: 429,
    BusyError: 503,
    errors.JournalError: 503,
    errors.ReconcilerError: 500,
}

log = logging.getLogger(__name__)


def answer(request: falcon.Request, response: falcon.Response, exc: BaseException) -> None:
    """Answer *request* with what *exc* means. What was not foreseen is logged, and told nobody."""
    status, kind, detail, wrong = describe(exc)
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        # Of what goes wrong around the server a line says all, and there are many of them then.
        trace = None if isinstance(exc, errors.JournalOutageError | BusyError) else exc
        log.error("%s %s: %s", request.method, without_tokens(request.path), exc, exc_info=trace)
    if isinstance(exc, falcon.HTTPError) and exc.headers:
        response.set_headers(dict(exc.headers))
    retry_after_s = getattr(exc, "retry_after_s", RETRY_AFTER_S if status == http.HTTPStatus.SERVICE_UNAVAILABLE else 0)
    if retry_after_s:
        response.set_header("Retry-After", str(math.ceil(retry_after_s)))
    if status == http.HTTPStatus.UNAUTHORIZED:
        response.set_header("WWW-Authenticate", "Bearer")
    response.status = status
    response.content_type = PROBLEM
    told = problem(status, kind, detail, request.path, traffic.name(request, response))
    response.data = msgspec.json.encode({**told, "errors": wrong})


def problem(status: int, kind: str, detail: str, instance: str, request_id: str) -> dict[str, Any]:
    """Return a problem, as RFC 9457 has it, and this API."""
    return {
        "type": f"/problems/{kind}",
        "title": kind.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": instance,
        "errors": [],
        "request_id": request_id,
    }


def describe(exc: BaseException) -> tuple[int, str, str, list[dict[str, Any]]]:
    """Return status, kind and detail of what *exc* means, and all that is wrong with a request."""
    wrong: list[dict[str, Any]] = []
    status = next((STATUS[kind] for kind in type(exc).__mro__ if kind in STATUS), 500)
    if isinstance(exc, falcon.HTTPError):
        status = exc.status_code
        return status, kind_of(status), exc.description or http.HTTPStatus(status).description, wrong
    if status == http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return status, "internal", "something went wrong in the server; its log has it under the request id", wrong
    if isinstance(exc, errors.RequestInvalidError):
        wrong = [{"path": one.path, "message": one.message} for one in exc.problems]
    kind, detail = _kind(exc), str(exc)
    match exc:
        case TooLargeError():
            detail = f"the body has more than {MAX_BODY_BYTES} bytes; send less"
        case MediaTypeError():
            detail = f"the body must be {exc}; say so in Content-Type"
        case WeakTagError():
            detail = "a weak tag is that of no version; send the ETag as it was answered"
        case errors.JournalError():
            again = "; try again" if exc.next_step is errors.NextStep.RETRY else ""
            kind, detail = "unavailable", f"{exc.public}{again}"
    return status, kind, detail, wrong


def kind_of(status: int) -> str:
    """Return the name of an error of which nothing but its *status* is known."""
    return http.HTTPStatus(status).phrase.lower().replace(" ", "-")


def _kind(exc: BaseException) -> str:
    """Return what programs know an error by: a word of its own, or its class, as overtaken of OvertakenError."""
    if isinstance(exc, errors.RequestError) and exc.kind:
        return exc.kind
    name = type(exc).__name__.removesuffix("Error")
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).strip("-")
