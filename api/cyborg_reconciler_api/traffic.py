# SPDX-License-Identifier: Apache-2.0
"""What is told of each request? Its id, its line in the log, its numbers. Put around the operations by `app`."""

import logging
import random
import re
import time
from typing import Final

import falcon

from cyborg_reconciler.conductor.secrets import without_tokens
from cyborg_reconciler.meters import REQUEST_SECONDS, REQUESTS_IN_FLIGHT, Meter
from cyborg_reconciler.tracing import REQUEST_ID

HEADER: Final = "X-Openstack-Request-Id"
#: What a caller may have his request called.
OUR_IDS: Final = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: What a request counts as whose path is none of ours, or whose method is none of HTTP's: callers may send anything.
OTHER: Final = "other"

log = logging.getLogger("cyborg_reconciler_api.access")


def name(request: falcon.Request, response: falcon.Response) -> str:
    """Return the id of *request*, which it gets when it is first asked for; its work is logged under that."""
    known = request.context.get("request_id")
    if known:
        return str(known)
    asked = request.get_header(HEADER) or ""
    request_id = asked if OUR_IDS.fullmatch(asked) else _new_id()
    request.context.request_id = request_id
    response.set_header(HEADER, request_id)
    REQUEST_ID.set(request_id)
    return request_id


def _new_id() -> str:
    """Return an id for a request, a random uuid of version 4.

    Nobody need be unable to guess it, so the kernel is not asked for anything.
    """
    word = f"{random.getrandbits(128):032x}"
    return f"req-{word[:8]}-{word[8:12]}-4{word[13:16]}-a{word[17:20]}-{word[20:]}"


class Accounting:
    """Logs and counts each request."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Note when it began."""
        request.context.began_s = time.perf_counter()
        self._meter.add(REQUESTS_IN_FLIGHT)

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _succeeded: object
    ) -> None:
        """Write its line, and count it. What the line does not have is not logged: no header, no query, no body."""
        began_s: float | None = request.context.get("began_s")
        took_s = 0.0 if began_s is None else time.perf_counter() - began_s
        if began_s is not None:
            self._meter.add(REQUESTS_IN_FLIGHT, -1)
        method = request.method if request.method in falcon.HTTP_METHODS else OTHER
        route = request.uri_template or OTHER
        self._meter.observe(REQUEST_SECONDS, took_s, route=route, method=method, status=str(response.status_code))
        line = {
            "method": request.method,
            "path": without_tokens(request.path),
            "status": response.status_code,
            "duration_ms": round(took_s * 1000, 2),
            "peer": request.remote_addr,
        }
        if log.isEnabledFor(logging.INFO):
            # As log.info() would have it, but that it looks through the stack for the line that this is.
            record = logging.LogRecord(log.name, logging.INFO, "", 0, "answered", (), None)
            record.fields = line
            log.handle(record)
        REQUEST_ID.set("")
