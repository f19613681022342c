# SPDX-License-Identifier: Apache-2.0
"""What may stand in each kind of document, as JSON Schema: for editors, and for the reference.

Generated from the models. Called by the CLI (`schema`) and by the generator of the docs. Pure.
"""

from typing import Any, Final

from pydantic.json_schema import models_json_schema

from cyborg_reconciler.documents.parse import KINDS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

JsonSchema = dict[str, Any]


def schemas() -> dict[str, JsonSchema]:
    """Return the JSON Schema of each kind of document, by kind."""
    return {kind: {"$schema": DIALECT, **_versioned(model.model_json_schema())} for kind, model in KINDS.items()}


def combined_schema() -> JsonSchema:
    """Return one JSON Schema for all kinds; which of them holds is told by ``kind``."""
    references, shared = models_json_schema([(model, "validation") for model in KINDS.values()])
    definitions = shared["$defs"]
    for kind in KINDS:
        _versioned(definitions[kind])
    cases = [
        {
            "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
            "then": references[(model, "validation")],
        }
        for kind, model in KINDS.items()
    ]
    return {
        "$schema": DIALECT,
        "title": "Cyborg Reconciler",
        "type": "object",
        "properties": {"kind": {"enum": list(KINDS)}},
        "required": ["kind"],
        "allOf": cases,
        "$defs": definitions,
    }


def _versioned(schema: JsonSchema) -> JsonSchema:
    """Return *schema* with ``api_version`` required: a text always says what it is written for, code need not."""
    schema["required"] = ["api_version", *schema["required"]]
    return schema
