# SPDX-License-Identifier: Apache-2.0
"""What the API is: for programs as OpenAPI, for people as a page that needs no other host."""

import base64
import functools
import hashlib
import html
import json
import re
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final

import jinja2

from cyborg_reconciler.documents.rest.root import OpenApi
from cyborg_reconciler_api import openapi, reference
from cyborg_reconciler_api.operation import HTML, JSON, Call, Operation, Reply, Sample, Table, operation
from cyborg_reconciler_api.services import Services

TEMPLATES: Final = files("cyborg_reconciler_api") / "templates"

#: Code and links, as the texts of the reference have them.
CODE: Final = re.compile(r"`([^`]+)`")
LINK: Final = re.compile(r"\[(\w+)\]\((#[\w-]+)\)")


def openapi_of(table: Callable[[str], Table]) -> Operation:
    """Return the operation that tells programs of *table*, by where agents are served."""

    @operation(
        "Describe the API to programs",
        access="anybody",
        answer=OpenApi,
        is_single=True,
        sample=Sample(answer={"openapi": openapi.VERSION, "info": {"title": "Cyborg Reconciler"}, "paths": {}}),
    )
    def document(services: Services, call: Call) -> Reply:
        """Describe every operation of the API, with its documents, samples, codes and least role, as OpenAPI 3.1.

        It is made from the same documents that judge requests. The ETag changes when the description does.
        """
        del call
        text = describe_to_programs(table, services.agents_are)
        return Reply(text, content_type=JSON)

    return document


def page_of(table: Callable[[str], Table]) -> Operation:
    """Return the operation that tells people of *table*, by where agents are served."""

    @operation(
        "Describe the API to people",
        access="anybody",
        produces=HTML,
        is_single=True,
        sample=Sample(answer="<!doctype html>…"),
    )
    def page(services: Services, call: Call) -> Reply:
        """Describe every operation of the API on a page for people, which loads nothing and runs nothing."""
        del call
        text, policy = describe_to_people(table, services.agents_are)
        headers = {
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        return Reply(text, content_type=HTML, headers=headers)

    return page


@functools.cache
def describe_to_programs(table: Callable[[str], Table], agents_are: str) -> bytes:
    """Return the OpenAPI document, made once a process."""
    return json.dumps(_described(table(agents_are)), ensure_ascii=False).encode()


@functools.cache
def describe_to_people(table: Callable[[str], Table], agents_are: str) -> tuple[bytes, str]:
    """Return the page, made once a process, and what a browser is to let it do: show its one style sheet."""
    routes = table(agents_are)
    described = _described(routes)
    style = (TEMPLATES / "reference.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"marked": marked, "anchor": reference.anchor}
    template = environment.from_string((TEMPLATES / "reference.html").read_text(encoding="utf-8"))
    text = template.render(
        info=described["info"],
        style=style,
        groups=reference.groups(routes, described),
        documents=reference.documents(described),
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    nothing = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return text.encode(), f"{nothing}; style-src 'sha256-{digest}'"


def marked(text: str) -> str:
    """Return *text* as HTML, with its code and its links.

    >>> marked("`a < b`, see [One](#one)")
    '<code>a &lt; b</code>, see <a href="#one">One</a>'
    """
    return LINK.sub(r'<a href="\2">\1</a>', CODE.sub(r"<code>\1</code>", html.escape(text)))


def _described(routes: Table) -> dict[str, Any]:
    return openapi.describe(routes, version("cyborg-reconciler"))
