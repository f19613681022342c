# SPDX-License-Identifier: Apache-2.0
"""What does a host report? The page of the facts document, from its structs and the comments beside their fields.

Called by `generate`. Reads the structs' source.
"""

import inspect
import re
from collections.abc import Iterator
from types import UnionType
from typing import TypeGuard, Union, get_args, get_origin

import msgspec

from cyborg_reconciler.documents import facts
from docs.pages.markdown import cell, code, page, table
from docs.pages.settings import parse_attributes

INTRODUCTION = f"""
The module `openstack.cyborg.host_facts` returns this document as `cyborg_facts`; `cyborg-reconciler observe --output
json` shows it for each host. This release writes and reads version {facts.FACTS_VERSION}; a document of another
version is refused.

In every field `null` says that the thing is not there, and `{{"unknown": "why"}}` that it could not be read. The two
are never mixed up: what is unknown never leads to a change.
"""

#: Plain types in words.
WORDS: dict[object, str] = {
    str: "text",
    facts.Mark: "text",
    facts.Id: "four hex digits",
    int: "number",
    bool: "true or false",
}


def render() -> str:
    """Return the page: the document first, then its parts in the order in which they are met."""
    return page("Facts", INTRODUCTION, *(section(struct) for struct in reached(facts.Facts)))


def reached(struct: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """Yield *struct* and all structs in it, each once."""
    waiting, seen = [struct], set()
    while waiting:
        found = waiting.pop(0)
        if found in seen:
            continue
        seen.add(found)
        yield found
        for field in msgspec.structs.fields(found):
            waiting += [inner for inner in flat(field.type) if is_struct(inner)]


def is_struct(kind: object) -> TypeGuard[type[msgspec.Struct]]:
    """Return whether *kind* is a struct that is more than a way to say "unknown"."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not facts.Unknown


def flat(kind: object) -> list[object]:
    """Return *kind* and all types that it is made of."""
    return [kind, *(inner for argument in get_args(kind) for inner in flat(argument))]


def section(struct: type[msgspec.Struct]) -> str:
    """Return what is to be said of one struct."""
    text = inspect.cleandoc(struct.__doc__ or "")
    words = cell(re.split(r"\n\s*\n", text)[0])
    source = re.search(r"Source: (.+?)(?:\n\s*\n|$)", text, re.DOTALL)
    meanings = parse_attributes(struct.__doc__ or "") | parse_comments(inspect.getsource(struct))
    rows = [
        (code(field.name), spell(field.type), meanings.get(field.name, "")) for field in msgspec.structs.fields(struct)
    ]
    parts = [f"## {struct.__name__}", words]
    parts += [f"Source: {cell(source[1])}"] if source else []
    return "\n\n".join([*parts, table(["field", "value", "what it says"], rows)])


def parse_comments(source: str) -> dict[str, str]:
    """Return the comments that stand beside the fields in *source*, by field."""
    return dict(re.findall(r"^    (\w+): [^#\n]+  # (.+)$", source, re.MULTILINE))


def spell(kind: object) -> str:
    """Return a type in words."""
    options = get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)
    words = [spell_one(option) for option in options if option not in (type(None), facts.Unknown)]
    words += ["null"] if type(None) in options else []
    words += ["unknown"] if facts.Unknown in options else []
    return " or ".join(dict.fromkeys(words))


def spell_one(kind: object) -> str:
    """Return a type that is no union in words."""
    text = str(kind)
    if text.startswith("list"):
        return f"list of {spell(get_args(kind)[0])}"
    if text.startswith("dict"):
        name, value = get_args(kind)
        return f"{spell(value)} by {spell(name)}"
    if kind == facts.Address:
        return "PCI address"
    if is_struct(kind):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    return WORDS[kind]
