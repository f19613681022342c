# SPDX-License-Identifier: Apache-2.0
"""How is the API described to programs? The table of routes, and the documents that validate, as OpenAPI 3.1.

Called by `resources.description`, which serves it, by the pages for people, and by tests. Pure.
"""

import http
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.base import Name
from cyborg_reconciler.documents.rest.accelerator import SPEC_KEYS
from cyborg_reconciler.documents.rest.base import HostName, Problem, Uuid
from cyborg_reconciler.limits import MAX_BODY_BYTES
from cyborg_reconciler_api.errors import PROBLEM, RETRY_AFTER_S
from cyborg_reconciler_api.operation import CHANGING, EVENT_STREAM, JSON, Document, Operation, Table, operations_of

VERSION: Final = "3.1.0"

#: The least role of an operation, as an extension of OpenAPI.
LEAST_ROLE: Final = "x-least-role"

SCHEMAS: Final = "#/components/schemas/"
REFERENCE: Final = f"{SCHEMAS}{{model}}"

ABOUT: Final = """
Every path below `/v1` also answers without the version, and `/accelerator` is `/accelerators`. Bodies are JSON; a field
or a parameter that is not described is an error. Whatever goes wrong is told as a problem document (RFC 9457), which
names everything that is wrong with a request. `X-Openstack-Request-Id` (`req-` and a uuid) is what the logs call a
request: the caller's own, or one that is given to it, and every answer has it. A list is read page by page: `next` in
its `links` leads on. Times are UTC (RFC 3339), uuids are in lower case with dashes. `HEAD` answers as `GET` does,
without the body.
""".strip()

#: What a path may name: what that is, and which values it has.
PATH_IDS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "host": ("The host, as the inventory has it.", TypeAdapter(HostName).json_schema()),
    "driver": ("The driver, by its name.", {"type": "string", "examples": ["intel-qat"]}),
    "name": ("The name.", TypeAdapter(Name).json_schema()),
    "consumer": ("Who consumes, as a uuid.", TypeAdapter(Uuid).json_schema()),
    "uuid": ("The uuid, in lower case, with dashes.", TypeAdapter(Uuid).json_schema()),
    "acc_spec": (
        "`acc-specs` for the whole specification, or one key of it.",
        {"type": "string", "enum": ["acc-specs", *SPEC_KEYS]},
    ),
}

HEADERS: Final[Mapping[str, dict[str, Any]]] = {
    "X-Openstack-Request-Id": {
        "description": "Under which the logs have the request; the caller's own, if it is `req-` and a uuid.",
        "required": True,
        "schema": {"type": "string", "pattern": "^req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
    },
    "ETag": {"description": "The version that this is.", "required": True, "schema": {"type": "string"}},
    "Location": {"description": "Where the new one is.", "required": True, "schema": {"type": "string"}},
    "Retry-After": {
        "description": f"After how many seconds to try again, as a rule {RETRY_AFTER_S}.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "Allow": {"description": "The methods that the path has.", "required": True, "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "How to say who calls.", "required": True, "schema": {"type": "string"}},
}

_CREATED: Final = http.HTTPStatus.CREATED

#: The headers that come with something wrong, beside the id of the request.
HEADERS_OF: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}

PARAMETERS: Final[Mapping[str, dict[str, Any]]] = {
    "X-Openstack-Request-Id": {
        "name": "X-Openstack-Request-Id",
        "in": "header",
        "description": "What to call this request in the logs: `req-` and a uuid. Anything else is not heeded.",
        "schema": {"type": "string"},
        "example": "req-6f2d1f2e-3b0c-4c1e-9a53-0d0f6f1f8c11",
    },
    "If-Match": {
        "name": "If-Match",
        "in": "header",
        "description": "The ETag of what the caller has read; where it is not that any more, the answer is 409.",
        "schema": {"type": "string"},
        "example": '"1"',
    },
    "If-None-Match": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The ETag of what the caller has; where it still is that, the answer is 304.",
        "schema": {"type": "string"},
        "example": '"1"',
    },
}

SECURITY: Final[Mapping[str, dict[str, Any]]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A user's token. None is asked for with `auth` none.",
    },
    "agent": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token of an agent's host; to look itself up, the one that it was given to enrol with.",
    },
}

#: What a stream of events looks like.
STREAM_SAMPLE: Final = 'retry: 1000\n\nid: 4711\ndata: {"number":4711,"kind":"PolicyCreated"}\n\n: still here\n\n'

SUCCESS: Final[Mapping[int, str]] = {
    200: "this is what was asked for",
    201: "it is made; Location says where it is",
    202: "it is accepted, and goes on from here",
    204: "it is done",
    304: "the caller has it already, by If-None-Match",
}


class _Generator(GenerateJsonSchema):
    """Leaves out the titles of fields, which only repeat their names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401 - pydantic's own kind of schema
        """Return that none is."""
        del schema
        return False


def describe(table: Table, version: str) -> dict[str, Any]:
    """Return the OpenAPI document of *table*; *version* is that of this program."""
    schemas, references = _schemas(table)
    paths = {
        path: {method.lower(): _operation(path, method, one, references) for method, one in methods.items()}
        for path, methods in table.items()
    }
    return {
        "openapi": VERSION,
        "info": {
            "title": "Cyborg Reconciler",
            "summary": "Accelerators, and the state that they are kept in.",
            "description": ABOUT,
            "version": version,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "Where this was read."}],
        "tags": [{"name": noun, "description": text} for noun, text in nouns(table).items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "parameters": dict(PARAMETERS),
            "headers": dict(HEADERS),
            "securitySchemes": dict(SECURITY),
        },
    }


def noun_of(operation: Operation) -> str:
    """Return what an operation is about: the name of its module."""
    return operation.run.__module__.rpartition(".")[2]


def nouns(table: Table) -> dict[str, str]:
    """Return what the operations are about, in the order of the table, each with a sentence."""
    found = {noun_of(one): one.run.__module__ for _, _, one in operations_of(table)}
    return {noun: (import_module(module).__doc__ or "").partition("\n")[0] for noun, module in found.items()}


def operation_id(operation: Operation) -> str:
    """Return the name of an operation among all: ``accelerators.show``."""
    return f"{noun_of(operation)}.{operation.run.__name__.rstrip('_')}"


def ids_of(path: str) -> list[str]:
    """Return what *path* names.

    >>> ids_of("/v1/accelerators/{uuid}/{acc_spec}")
    ['uuid', 'acc_spec']
    """
    return re.findall(r"{(\w+)}", path)


def is_cached(method: str, operation: Operation) -> bool:
    """Return whether the caller may say what he has, and is told 304 where that has not changed."""
    return operation.is_single and method == "GET"


def role_of(operation: Operation) -> str:
    """Return who may call, in a word."""
    return str(operation.access)


def answered_by_rule(path: str, method: str, operation: Operation) -> dict[int, str]:
    """Return what an operation answers since all of its kind do: each status with what causes it."""
    found = {400: "a parameter is unknown, is given twice, or has no such value"}
    if isinstance(operation.access, Role):
        found[401] = "there is no valid token"
        found[403] = f"the caller is less than {operation.access}"
    if operation.access == "agent":
        found[401] = "there is no valid token"
    if ids_of(path):
        found[404] = "there is no such thing"
    found[405] = "the path has no such method"
    if operation.is_single and method in CHANGING:
        found[412] = "If-Match has a weak tag"
    if method != "GET":
        found[413] = f"the body has more than {MAX_BODY_BYTES} bytes"
        found[415] = f"the body is not {' or '.join(operation.content_types)}"
        if operation.request is None:
            found[400] += "; there is a body, and it is no empty block"
    if operation.access != "anybody":
        found[429] = "the caller asks too often, or too many requests from there had no valid token"
        found[503] = "the database cannot be used just now"
    return found


def causes(path: str, method: str, operation: Operation) -> dict[int, str]:
    """Return every status of something wrong, with all that causes it."""
    found = answered_by_rule(path, method, operation)
    for status, cause in operation.errors.items():
        told = found.get(status)
        found[status] = f"{told}; {cause}" if told and status != http.HTTPStatus.NOT_FOUND else cause
    return dict(sorted(found.items()))


def successes(method: str, operation: Operation) -> dict[int, str]:
    """Return every status of what went well, with what that means."""
    found = {operation.success: SUCCESS[operation.success], **operation.further}
    if is_cached(method, operation):
        found[http.HTTPStatus.NOT_MODIFIED.value] = SUCCESS[304]
    return found


def _schemas(table: Table) -> tuple[dict[str, Any], dict[tuple[str, str], dict[str, Any]]]:
    """Return the schemas of all documents by name, and how each operation's request and answer refer to theirs."""
    inputs: list[tuple[tuple[str, str], Any, TypeAdapter[Any]]] = [
        (("", "problem"), "serialization", TypeAdapter(Problem))
    ]
    others: dict[tuple[str, str], dict[str, Any]] = {}
    for _, _, one in operations_of(table):
        name = operation_id(one)
        if isinstance(one.request, Document):
            inputs.append(((name, "request"), "validation", one.request.adapter))
        elif one.request is not None:
            others[name, "request"] = one.request.json_schema(ref_template=REFERENCE)
        if one.answer is not None:
            inputs.append(((name, "answer"), "serialization", TypeAdapter(one.answer)))
    found, shared = TypeAdapter.json_schemas(inputs, ref_template=REFERENCE, schema_generator=_Generator)
    schemas = shared.get("$defs", {})
    for reference in others.values():
        schemas |= reference.pop("$defs", {})
    return schemas, others | {key: reference for (key, _), reference in found.items()}


def _operation(
    path: str, method: str, one: Operation, references: Mapping[tuple[str, str], dict[str, Any]]
) -> dict[str, Any]:
    name = operation_id(one)
    told: dict[str, Any] = {
        "operationId": name,
        "tags": [noun_of(one)],
        "summary": one.summary,
        "description": one.description,
        LEAST_ROLE: role_of(one),
        "security": [] if one.access == "anybody" else [{"agent" if one.access == "agent" else "bearer": []}],
        "parameters": list(parameters(path, method, one)),
    }
    if one.request is not None:
        content = _content(references[name, "request"], one.sample.request)
        told["requestBody"] = {"required": True, "content": dict.fromkeys(one.content_types, content)}
    answers: dict[str, Any] = {}
    for status, words in successes(method, one).items():
        answers[str(status)] = _answer(status, words, one, references)
    problem = {PROBLEM: {"schema": references["", "problem"]}}
    for status, cause in causes(path, method, one).items():
        headers = _headers(*HEADERS_OF.get(status, ()))
        answers[str(status)] = {"description": cause, "headers": headers, "content": problem}
    return {**told, "responses": answers}


def _answer(
    status: int, words: str, one: Operation, references: Mapping[tuple[str, str], dict[str, Any]]
) -> dict[str, Any]:
    """Return the answer of an operation that went well."""
    names = [
        *(["ETag"] if one.is_single and one.answer else []),
        *(["Location"] if one.success == status == _CREATED else []),
    ]
    found: dict[str, Any] = {"description": words, "headers": _headers(*names)}
    if status == http.HTTPStatus.NOT_MODIFIED:
        return found
    if one.produces != JSON:
        found["content"] = {one.produces: _content({"type": "string"}, one.sample.answer)}
    elif one.answer is not None:
        found["content"] = {JSON: _content(references[operation_id(one), "answer"], one.sample.answer)}
    if one.is_stream:
        found["content"][EVENT_STREAM] = _content({"type": "string"}, STREAM_SAMPLE)
    return found


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Openstack-Request-Id", *names)}


def _content(schema: Mapping[str, Any], sample: object) -> dict[str, Any]:
    return {"schema": schema, **({} if sample is None else {"examples": {"sample": {"value": sample}}})}


def parameters(path: str, method: str, one: Operation) -> Iterator[dict[str, Any]]:
    """Yield the parameters of an operation: those of its path, of its query, and its headers."""
    for name in ids_of(path):
        words, schema = PATH_IDS[name]
        yield {"name": name, "in": "path", "required": True, "description": words, "schema": schema}
    if one.query is not None:
        yield from _query(one.query)
    for name, heeded in (
        ("If-Match", one.is_single and method in CHANGING),
        ("If-None-Match", is_cached(method, one)),
        ("X-Openstack-Request-Id", True),
    ):
        if heeded:
            yield {"$ref": f"#/components/parameters/{name}"}


def _query(document: type[BaseModel]) -> Iterator[dict[str, Any]]:
    schema = document.model_json_schema(schema_generator=_Generator)
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        words = field.pop("description", "")
        # A parameter is left out; it is never null.
        options = [option for option in field.pop("anyOf", []) if option != {"type": "null"}]
        if field.get("default", "") is None:
            del field["default"]
        found = {**field, **(options[0] if len(options) == 1 else {"anyOf": options} if options else {})}
        yield {"name": name, "in": "query", "required": name in required, "description": words, "schema": found}
