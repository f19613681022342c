# SPDX-License-Identifier: Apache-2.0
"""How is the API told to people? The table of routes and its OpenAPI document as what a page is made of.

Called by `resources.description` for the page at ``/docs``, and by the documentation's generator. Texts are in
Markdown of the plainest kind: code and links. Pure.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler_api import openapi, traffic
from cyborg_reconciler_api.operation import Operation, Table, operations_of

#: The words of a schema for the least and the most of something, and what that is counted in.
LIMITS: Final = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
)


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a field of a document; *kind*: which values it has."""

    name: str
    place: str
    kind: str
    required: bool
    words: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One status; *kind*: the document that comes with it."""

    status: int
    words: str
    kind: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An operation, as a page shows it.

    Attributes:
        role: who may call it, in words. takes: the body's document and content types, empty where there is none.
        request, answer: the sample, as it is sent and answered.
    """

    method: str
    path: str
    title: str
    description: str
    role: str
    parameters: tuple[Field, ...]
    takes: str
    answers: tuple[Answer, ...]
    request: str
    answer: str


@dataclass(frozen=True, slots=True)
class Group:
    """The operations on one noun; the *title* is another than that of any document."""

    noun: str
    title: str
    about: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A document that travels; its *fields*, or which values it has where it has none."""

    title: str
    about: str
    kind: str
    fields: tuple[Field, ...]


def groups(table: Table, described: Mapping[str, Any]) -> list[Group]:
    """Return the operations of *table*, by noun; *described* is its OpenAPI document."""
    entries: dict[str, list[Entry]] = {}
    for path, method, one in operations_of(table):
        entries.setdefault(openapi.noun_of(one), []).append(_entry(path, method, one, described))
    return [
        Group(noun, f"{noun.capitalize()}: operations", about, tuple(entries[noun]))
        for noun, about in openapi.nouns(table).items()
    ]


def documents(described: Mapping[str, Any]) -> list[Document]:
    """Return the documents that travel, by name."""
    return [_document(name, schema) for name, schema in described["components"]["schemas"].items()]


def anchor(title: str) -> str:
    """Return the anchor of a heading, as it is made of Markdown.

    >>> anchor("Set an accelerator ready; rename it")
    'set-an-accelerator-ready-rename-it'
    """
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _entry(path: str, method: str, one: Operation, described: Mapping[str, Any]) -> Entry:
    told = described["paths"][path][method.lower()]
    takes = ""
    if one.request is not None:
        content = told["requestBody"]["content"]
        schema = next(iter(content.values()))["schema"]
        takes = f"{words_of(schema)}, as {' or '.join(f'`{kind}`' for kind in content)}"
    return Entry(
        method=method,
        path=path,
        title=one.summary,
        description=one.description,
        role=_role_of(one),
        parameters=tuple(_parameters(told, described)),
        takes=takes,
        answers=tuple(
            Answer(int(status), answer["description"], _body_of(answer)) for status, answer in told["responses"].items()
        ),
        request=_sent(path, method, one),
        answer=_shown(one.sample.answer),
    )


def _role_of(one: Operation) -> str:
    if one.access == "agent":
        return "an agent, with its host's token"
    return f"{one.access} or above" if isinstance(one.access, Role) and one.access < max(Role) else str(one.access)


def _parameters(told: Mapping[str, Any], described: Mapping[str, Any]) -> Iterator[Field]:
    for parameter in told["parameters"]:
        reference = parameter.get("$ref", "")
        if reference.endswith(traffic.HEADER):  # it is told once, for all
            continue
        one = described["components"]["parameters"][reference.rpartition("/")[2]] if reference else parameter
        required = one.get("required", False)
        yield Field(one["name"], one["in"], words_of(one["schema"]), required, one["description"])


def _body_of(answer: Mapping[str, Any]) -> str:
    return " or ".join(
        f"`{kind}`" if content["schema"] == {"type": "string"} else words_of(content["schema"])
        for kind, content in answer.get("content", {}).items()
    )


def _sent(path: str, method: str, one: Operation) -> str:
    """Return the sample of a request as a line, and its body."""
    for name in openapi.ids_of(path):
        schema = openapi.PATH_IDS[name][1]
        path = path.replace(f"{{{name}}}", str((schema.get("examples") or schema["enum"])[0]))
    body = one.sample.request
    return f"{method} {path}" if body is None else f"{method} {path}\n\n{_shown(body)}"


def _shown(sample: object) -> str:
    if sample is None or isinstance(sample, str):
        return sample or ""
    return json.dumps(sample, indent=2, ensure_ascii=False)


def _document(name: str, schema: Mapping[str, Any]) -> Document:
    required = schema.get("required", [])
    fields = tuple(
        Field(field, "", words_of(one), field in required, one.get("description", ""))
        for field, one in schema.get("properties", {}).items()
    )
    about = " ".join(schema.get("description", "").split()).replace("``", "`")
    return Document(name, about, "" if fields else words_of(schema), fields)


def words_of(schema: Mapping[str, Any]) -> str:
    """Return which values *schema* allows, in words."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(openapi.SCHEMAS)
        return f"[{name}](#{anchor(name)})"
    if "enum" in schema:
        kind = ", ".join(f"`{value}`" for value in schema["enum"])
    elif "const" in schema:
        kind = f"`{schema['const']}`"
    elif "anyOf" in schema:
        kind = " or ".join(map(words_of, schema["anyOf"]))
    else:
        kind = _type_of(schema)
    limits = [
        f"{_range(schema, least, most)}{unit}" for least, most, unit in LIMITS if least in schema or most in schema
    ]
    if "pattern" in schema and "format" not in schema:
        limits.append(f"like `{schema['pattern']}`")
    if schema.get("default") is not None:
        limits.append(f"without it `{_plain(schema['default'])}`")
    return ", ".join([kind, *limits])


def _range(schema: Mapping[str, Any], least: str, most: str) -> str:
    """Return the limits of a value, of which there is one at least.

    >>> _range({"minimum": 1, "maximum": 255}, "minimum", "maximum"), _range({"maximum": 9}, "minimum", "maximum")
    ('1 to 255', 'at most 9')
    """
    if least in schema and most in schema:
        return f"{schema[least]} to {schema[most]}"
    return f"at least {schema[least]}" if least in schema else f"at most {schema[most]}"


def _type_of(schema: Mapping[str, Any]) -> str:
    if schema.get("type") == "array":
        return f"list of {words_of(schema.get('items', {}))}"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"names, each with {words_of(values)}" if isinstance(values, dict) and values else "names and values"
    return f"{schema['type']} ({schema['format']})" if "format" in schema else str(schema.get("type", "any value"))


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
