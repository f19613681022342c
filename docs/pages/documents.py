# SPDX-License-Identifier: Apache-2.0
"""What may stand in a document? The page of the YAML documents, from their models. Called by `generate`. Pure."""

import json
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cyborg_reconciler.documents.parse import KINDS
from cyborg_reconciler.documents.schema import combined_schema, schemas
from cyborg_reconciler.documents.wording import Key, flow, model_at, name_spot, names_of, spot_at
from docs.pages.markdown import code, page, table

INTRODUCTION = """
Documents are YAML 1.2; a file may hold several, separated by `---`. Every field that is not on this page is an error.
How to write a policy, with examples that can be copied, is told in [how to write a
policy](../how-to/write-a-policy.md).

The same as JSON Schema, for editors: [any document](schemas/any.json){links}. `cyborg-reconciler schema` prints them.
In an editor with the YAML language server, this first line of a file has it checked while you type:

```yaml
# yaml-language-server: $schema=PATH/TO/docs/reference/schemas/any.json
```
"""


def render() -> str:
    """Return the page."""
    links = "".join(f", [{kind}](schemas/{kind}.json)" for kind in KINDS)
    sections = [section for kind, model in KINDS.items() for section in document(kind, model)]
    return page("Documents", INTRODUCTION.replace("{links}", links), *sections)


def render_schemas() -> dict[str, str]:
    """Return the JSON Schemas, by the name of the file."""
    found = schemas() | {"any": combined_schema()}
    return {f"{name}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in found.items()}


def document(kind: str, model: type[BaseModel]) -> Iterator[str]:
    """Yield the sections of one kind of document."""
    yield f"## {kind}\n\n{(model.__doc__ or '').strip()}"
    for path in blocks(model, ()):
        inner = model_at(model, path)
        if inner is None:
            continue
        title = [f"### {kind}: `{dotted(path)}`", plain(inner)] if path else []
        rows = [
            (code(name), accepts(model, (*path, name)), default_of(name, field), field.description or "")
            for name, field in names_of(inner).items()
        ]
        yield "\n\n".join([*title, table(["field", "takes", "without it", "what it says"], rows)])


def plain(model: type[BaseModel]) -> str:
    """Return the first paragraph of a model's docstring."""
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def blocks(model: type[BaseModel], path: tuple[Key, ...]) -> Iterator[tuple[Key, ...]]:
    """Yield the places of all blocks of fields below *path*, from the outside inwards; of a list its first item."""
    yield path
    inner = model_at(model, path)
    for name in names_of(inner) if inner else ():
        for further in ((*path, name), (*path, name, 0)):
            if model_at(model, further) is not None:
                yield from blocks(model, further)


def dotted(path: tuple[Key, ...]) -> str:
    """Return *path* as people write it: ``spec.sriov.groups[]``."""
    return ".".join(map(str, path)).replace(".0", "[]")


def accepts(model: type[BaseModel], path: tuple[Key, ...]) -> str:
    """Return what a field takes, in words."""
    if model_at(model, path) is not None:
        return f"a block, see `{dotted(path)}`"
    if model_at(model, (*path, 0)) is not None:
        return f"a list of blocks, see `{dotted((*path, 0))}`"
    spot, names = spot_at(model, path), name_spot(model, path)
    if spot is None:
        return ""
    if names is not None:
        value = spot_at(model, (*path, "name"))
        inner = name_spot(model, (*path, "name"))
        words = "names and values" if inner else value.words() if value else "a value"
        return f"for {names.words()}: {words}"
    items = spot_at(model, (*path, 0))
    return f"a list; an item is {items.words()}" if items is not None and spot.words() == "a list" else spot.words()


def default_of(name: str, field: FieldInfo) -> str:
    """Return what holds when the field is left out. A text always says its version, whatever the model has."""
    if field.is_required() or name == "api_version":
        return "**must be there**"
    value = field.default
    if isinstance(value, BaseModel):
        return code(flow(value.model_dump()))
    return code(flow(value)) if value not in (None, (), {}, "") else ""
