# SPDX-License-Identifier: Apache-2.0
"""What is an operation of the API? A function, with all that its users and its gatekeeper must know of it.

The resources declare their operations with `operation`; `routes` has them all, `app` serves them, `openapi` tells of
them. No I/O.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Protocol

from pydantic import BaseModel, TypeAdapter

from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.documents.rest.body import decode
from cyborg_reconciler_api.services import Services

#: Of whom an operation is asked: anybody, an agent, or a user with a role at least.
Access = Role | Literal["anybody", "agent"]

JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain"
JSON_PATCH: Final = "application/json-patch+json"
#: Source: HTML Living Standard, 9.2 Server-sent events.
EVENT_STREAM: Final = "text/event-stream"

#: Returns who speaks with a token, from an address. Raises: UnauthenticatedError, TooManyRequestsError.
Judge = Callable[[Services, str, str], object]

#: The methods that change what is there, if it still is what the caller has read.
CHANGING: Final = frozenset({"PUT", "PATCH", "DELETE"})


class Call(NamedTuple):
    """One request, judged and parsed.

    Attributes:
        ids: what the path names. query: the parameters, as the operation's document has them. body: the same of the
            body; None where the operation takes none.
        seen: the version that the caller has read (``If-Match``).
        judged: what `Operation.judge` made of the token that an agent speaks with; None where users call.
        stream_after: the number of the event after which a stream is to begin; -1: with what happens from now on; None:
            no stream is asked for.
        instance: the path that was asked for.
    """

    caller: Caller
    ids: Mapping[str, str]
    instance: str
    request_id: str
    query: Any = None
    body: Any = None
    seen: int | None = None
    judged: Any = None
    stream_after: int | None = None


class Reply(NamedTuple):
    """What is answered.

    Attributes:
        body: text that is sent as it is; None: nothing is. version: for the header ETag. stream: sent in its place,
            piece by piece; its ``close`` is called at the end, however that comes.
        status: None where it is the operation's own.
    """

    body: str | bytes | None = None
    version: int | None = None
    location: str = ""
    status: int | None = None
    content_type: str = JSON
    headers: Mapping[str, str] = MappingProxyType({})
    stream: Iterator[bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An exchange, as the reference shows it."""

    request: Any = None
    answer: Any = None


class Body(Protocol):
    """What a body must be."""

    def validate_json(self, data: bytes, /) -> Any:  # noqa: ANN401 - whatever the operation takes
        """Return what the body says.

        Raises:
            ValidationError, RequestInvalidError: it is not what is asked for.
        """

    def json_schema(self, *, ref_template: str = ...) -> dict[str, Any]:
        """Return its JSON Schema."""


class Document:
    """What a body must be of which pydantic knows a *form*.

    Attributes:
        adapter: pydantic's own, which makes the descriptions of all bodies at once.
    """

    def __init__(self, form: Any) -> None:  # noqa: ANN401 - a type, of which there is no type
        self.adapter = TypeAdapter[Any](form)

    def validate_json(self, data: bytes, /) -> Any:  # noqa: ANN401 - whatever the operation takes
        """Return what the body says.

        Raises:
            ValidationError, RequestInvalidError: it is not what is asked for.
        """
        decode(data)  # pydantic takes more than JSON, and makes something else of it
        return self.adapter.validate_json(data)

    def json_schema(self, *, ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
        """Return its JSON Schema."""
        return self.adapter.json_schema(ref_template=ref_template)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A function of the API.

    Attributes:
        summary, description: for users. access: who may call it. success: the status when it went well.
        further: other statuses when it went well, and when that is. errors: the rest, and what causes each; those that
            every operation can answer are told by `openapi`.
        query, request, answer: the documents of parameters, body and answer. content_types: those of the body.
        form: the type of the body, where it is one that is judged by such.
        produces: the content type of the answer; one that is not JSON has no document.
        is_single: the answer is one resource, with an ETag; where something is changed, If-Match is heeded.
        is_stream: it answers with a stream of events to those who accept one.
        judge: returns who an agent is by its token, and the address that it calls from, or raises; called before the
            body is read.
    """

    run: Callable[[Services, Call], Reply]
    summary: str
    description: str
    access: Access
    success: int
    further: Mapping[int, str]
    errors: Mapping[int, str]
    query: type[BaseModel] | None
    request: Body | None
    form: Any
    answer: type[BaseModel] | None
    sample: Sample
    content_types: tuple[str, ...]
    produces: str
    is_single: bool
    is_stream: bool
    judge: Judge | None


#: Path → method → operation.
Table = Mapping[str, Mapping[str, Operation]]


def operations_of(table: Table) -> Iterator[tuple[str, str, Operation]]:
    """Yield every operation with its path and its method."""
    for path, methods in table.items():
        for method, one in methods.items():
            yield path, method, one


def operation(  # noqa: PLR0913 - what an operation says of itself
    summary: str,
    *,
    access: Access,
    sample: Sample,
    success: int = 200,
    further: Mapping[int, str] | None = None,
    errors: Mapping[int, str] | None = None,
    query: type[BaseModel] | None = None,
    request: Any = None,  # noqa: ANN401 - a type, of which there is no type, or a Body
    answer: type[BaseModel] | None = None,
    content_types: tuple[str, ...] = (JSON,),
    produces: str = JSON,
    is_single: bool = False,
    is_stream: bool = False,
    judge: Judge | None = None,
) -> Callable[[Callable[[Services, Call], Reply]], Operation]:
    """Make an operation of a function, whose docstring is its description."""

    def declare(run: Callable[[Services, Call], Reply]) -> Operation:
        return Operation(
            run=run,
            summary=summary,
            description=" ".join((run.__doc__ or "").split()),
            access=access,
            success=success,
            further=further or {},
            errors=errors or {},
            query=query,
            request=request if request is None or hasattr(request, "validate_json") else Document(request),
            form=request,
            answer=answer,
            sample=sample,
            content_types=content_types,
            produces=produces,
            is_single=is_single,
            is_stream=is_stream,
            judge=judge,
        )

    return declare
