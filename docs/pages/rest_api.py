# SPDX-License-Identifier: Apache-2.0
"""What can be asked of the server? The page of the REST API, from its table of routes. Called by `generate`. Pure."""

from collections.abc import Iterator
from importlib.metadata import version

from cyborg_reconciler_api import openapi, reference
from cyborg_reconciler_api.routes import ROUTES
from docs.pages.markdown import code, fence, page, table

INTRODUCTION = f"""
What the server of `cyborg-reconciler serve` answers. A running one tells the same at `/docs`, and to programs, as
OpenAPI, at `/openapi.json`. Each operation says which role it takes at least; [who may call what](access.md) has them
in one table. What agents, drivers and the conductor say to each other stands in [the internal API](internal-api.md).

{openapi.ABOUT}
"""


def render() -> str:
    """Return the page."""
    described = openapi.describe(ROUTES, version("cyborg-reconciler"))
    return page(
        "The REST API",
        INTRODUCTION,
        *(part for group in reference.groups(ROUTES, described) for part in group_parts(group)),
        "## Documents",
        *(part for document in reference.documents(described) for part in document_parts(document)),
    )


def group_parts(group: reference.Group) -> Iterator[str]:
    """Yield what is to be said of the operations on one noun."""
    yield f"## {group.title}\n\n{group.about}"
    for entry in group.entries:
        yield f"### {entry.title}\n\n{code(f'{entry.method} {entry.path}')}, for {entry.role}\n\n{entry.description}"
        if entry.parameters:
            rows = [(code(one.name), one.place, value_of(one), one.words) for one in entry.parameters]
            yield table(["parameter", "in", "value", "what it says"], rows)
        if entry.takes:
            yield f"Body: {entry.takes}."
        yield table(["status", "when", "with"], [(code(str(one.status)), one.words, one.kind) for one in entry.answers])
        yield fence(entry.request, "http")
        if entry.answer:
            yield fence(entry.answer, "json" if entry.answer.startswith(("{", "[")) else "text")


def document_parts(document: reference.Document) -> Iterator[str]:
    """Yield what is to be said of one document."""
    yield f"### {document.title}"
    yield document.about
    yield f"Takes {document.kind}." if document.kind else ""
    if document.fields:
        rows = [(code(one.name), value_of(one), one.words) for one in document.fields]
        yield table(["field", "value", "what it says"], rows)


def value_of(field: reference.Field) -> str:
    """Return which values a field has, and whether it must have one."""
    return f"{field.kind}, **must be there**" if field.required else field.kind
