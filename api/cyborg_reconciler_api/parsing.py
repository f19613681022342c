# SPDX-License-Identifier: Apache-2.0
"""What does a request say, and if it is wrong: all that is. Called by `app` for each request; reads its body."""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import falcon
from falcon.typing import ReadableIO
from pydantic import BaseModel, ValidationError

from cyborg_reconciler.documents.rest.base import UUID_FORM
from cyborg_reconciler.documents.rest.body import decode
from cyborg_reconciler.documents.rest.faults import faults, json_path
from cyborg_reconciler.errors import (
    FieldError,
    NotFoundError,
    OvertakenError,
    RequestInvalidError,
    UnauthenticatedError,
)
from cyborg_reconciler.limits import MAX_BODY_BYTES
from cyborg_reconciler_api.operation import EVENT_STREAM, JSON, Operation

#: What is read of a body that is refused, so that whoever sends it comes to hear why; and how much at a time.
DISCARDED_BYTES: Final = 8 * MAX_BODY_BYTES
PIECE_BYTES: Final = 64 * 1024

UUID: Final = re.compile(UUID_FORM)

#: A tag, as ETag and If-Match have it, and those that are versions of ours. Source: RFC 9110, 8.8.3.
TAG: Final = re.compile(r'(?P<weak>W/)?"(?P<tag>[^"\x00-\x20\x7f]*)"')
VERSION: Final = re.compile("[0-9]{1,19}")

#: The methods that ask for something, and change nothing.
SAFE: Final = frozenset({"GET", "HEAD"})

#: What the numbers of events are below.
MOST_EVENTS: Final = 2**63 - 1

#: What is shown of an input that is wrong.
SHOWN_CHARACTERS: Final = 200


class TooLargeError(Exception):
    """The body has more than `MAX_BODY_BYTES`."""


class WeakTagError(Exception):
    """If-Match has a weak tag, which is the same as none. Source: RFC 9110, 13.1.1."""


class MediaTypeError(Exception):
    """The body is of a kind that the operation does not take; the text names those that it does."""


def read_body(request: falcon.Request, operation: Operation) -> Any:  # noqa: ANN401 - whatever the operation takes
    """Return the body as the operation's document has it; None where it takes none.

    Where none is taken, an empty block may be sent all the same. What a GET or a HEAD comes with means nothing, and is
    not looked at. Source: RFC 9110, 9.3.1.

    Raises:
        RequestInvalidError, TooLargeError, MediaTypeError.
    """
    if operation.request is None and request.method in SAFE:
        return None
    text = _read(request)
    if operation.request is None and not text:
        return None
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if media_type not in operation.content_types:
        raise MediaTypeError(" or ".join(operation.content_types))
    if operation.request is None:
        return _check_is_empty(decode(text))
    try:
        return operation.request.validate_json(text)
    except ValidationError as exc:
        raise RequestInvalidError("the body", faults(operation.form, exc)) from exc


def _read(request: falcon.Request) -> bytes:
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise TooLargeError
    try:
        text = _stream_of(request).read(MAX_BODY_BYTES + 1)
    except Exception as exc:  # each server has errors of its own for what it cannot read
        raise RequestInvalidError("the body", [FieldError("$", f"cannot be read: {type(exc).__name__}")]) from exc
    if len(text) > MAX_BODY_BYTES:
        raise TooLargeError
    return text


def _check_is_empty(value: object) -> None:
    """Raise RequestInvalidError where *value*, sent where nothing is taken, says anything."""
    wrong = [FieldError("$", "must be left out, or be an empty block")]
    if isinstance(value, dict):
        wrong = [FieldError(json_path((name,)), "there is no such field: no body is taken here") for name in value]
    if wrong:
        raise RequestInvalidError("the body", wrong)


def discard_body(request: falcon.Request) -> None:
    """Read what is left of a body that nobody wants, up to a limit: who is still sending it hears no answer.

    Beyond that the server closes the connection, as it does where it cannot tell where the body ends.
    """
    stream, rest = _stream_of(request), DISCARDED_BYTES
    with suppress(Exception):  # as above; the server then closes the connection
        while rest > 0 and (piece := stream.read(min(rest, PIECE_BYTES))):
            rest -= len(piece)


def _stream_of(request: falcon.Request) -> ReadableIO:
    """Return the body: to its end where the server knows that (it may come in pieces), else as long as is said."""
    return request.stream if request.env.get("wsgi.input_terminated") else request.bounded_stream


def parse_query(request: falcon.Request, document: type[BaseModel] | None) -> Any:  # noqa: ANN401 - whatever it takes
    """Return the parameters as *document* has them.

    Raises:
        RequestInvalidError: one is unknown, is given twice, or has no such value.
    """
    given = request.params
    if document is None:
        if given:
            raise RequestInvalidError("parameters", [FieldError(name, "is not known here") for name in given])
        return None
    twice = [FieldError(name, "is given more than once") for name, value in given.items() if isinstance(value, list)]
    if twice:
        raise RequestInvalidError("parameters", twice)
    try:
        return document.model_validate(given, strict=False)
    except ValidationError as exc:
        wrong = [FieldError(one.path.removeprefix("$."), one.message) for one in faults(document, exc)]
        raise RequestInvalidError("parameters", wrong) from exc


def parse_seen(request: falcon.Request) -> int | None:
    """Return the version that the caller has read, by If-Match; None where he does not say.

    Raises:
        OvertakenError: it is the tag of no version of ours. WeakTagError: it is a weak one. RequestInvalidError: it is
        no tag.
    """
    said = (request.get_header("If-Match", default="*") or "").strip()
    if said == "*":
        return None
    found = TAG.fullmatch(said)
    if found is None:
        raise RequestInvalidError("the header", [FieldError("If-Match", "give one tag, in its quotes, as ETag has it")])
    if found["weak"]:
        raise WeakTagError
    tag = found["tag"]
    if not VERSION.fullmatch(tag):
        raise OvertakenError(wanted=f"the tag {tag[:SHOWN_CHARACTERS]}", found="another process updated it first")
    return int(tag)


def parse_stream(request: falcon.Request) -> int | None:
    """Return after which event a stream is to begin; -1: with what happens from now on; None: none is asked for.

    Raises:
        RequestInvalidError: Last-Event-ID is no number.
    """
    if request.client_prefers((JSON, EVENT_STREAM)) != EVENT_STREAM:
        return None
    last = request.get_header("Last-Event-ID") or "-1"
    if last != "-1" and not (last.isascii() and last.isdecimal() and int(last) <= MOST_EVENTS):
        raise RequestInvalidError("the header", [FieldError("Last-Event-ID", "is not the number of an event")])
    return int(last)


def parse_bearer(request: falcon.Request) -> str:
    """Return the token that the request came with.

    Raises:
        UnauthenticatedError: it came with none.
    """
    scheme, _, token = (request.auth or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthenticatedError(wanted="a token", found="there is none")
    return token.strip()


def check_ids(ids: Mapping[str, str], *, creates: bool) -> None:
    """Raise where a uuid of the path is none: there is no such thing, and none that could be made.

    Raises:
        NotFoundError, or RequestInvalidError where the operation *creates*.
    """
    for name, value in ids.items():
        if name.endswith("uuid") and not UUID.fullmatch(value):
            if creates:
                raise RequestInvalidError("the path", [FieldError(name, "is not a uuid in lower case, with dashes")])
            raise NotFoundError(wanted=f"the uuid {value[:SHOWN_CHARACTERS]}", found="there is none")
