# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a body or with parameters, in words? Those that the documents of policies are judged with.

Called by the API. Pydantic says which places are wrong, and of which kind each mistake is; its own sentences speak of
its types. Pure.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cyborg_reconciler.documents.judge import closest
from cyborg_reconciler.documents.wording import Key, Spot, flow, model_at, names_of, show, spot_at
from cyborg_reconciler.errors import FieldError

#: What stands behind "is not", by the first word of the kind of a mistake.
NOUNS: Final[Mapping[str, str]] = {
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "dict": "a block of names and values",
    "model": "a block of fields",
    "list": "a list",
    "tuple": "a list",
    "datetime": "a time with a zone, such as 2026-01-05T12:00:00Z",
    "timezone": "a time with a zone, such as 2026-01-05T12:00:00Z",
}

#: Kinds of mistakes for which the place itself knows best what may stand there.
KNOWN_THERE: Final = frozenset(
    {"int_type", "int_parsing", "int_from_float", "literal_error", "greater_than_equal", "less_than_equal"}
)


def faults(form: Any, verdict: ValidationError) -> list[FieldError]:  # noqa: ANN401 - any type
    """Return all that *verdict* found wrong with what was to be of the type *form*, each with its JSON path."""
    return [FieldError(json_path(one["loc"]), _words(form, one)) for one in verdict.errors(include_url=False)]


def json_path(keys: tuple[Key, ...]) -> str:
    """Return *keys* as a JSON path.

    >>> json_path(("groups", 0, "vfs"))
    '$.groups[0].vfs'
    """
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)


def _words(form: Any, error: ErrorDetails) -> str:  # noqa: ANN401 - any type
    kind, keys, about = error["type"], error["loc"], error.get("ctx", {})
    spot = spot_at(form, keys)
    match kind:
        case "value_error":  # of our own documents
            words = str(about["error"])
        case "missing":
            words = f"is missing{_example(spot, 'add')}"
        case "extra_forbidden":
            words = f"there is no such field; {_known(form, keys)}"
        case "too_short" | "string_too_short":
            words = "is empty"
        case "too_long" | "string_too_long":
            words = f"has more than {about['max_length']} {'characters' if kind.startswith('string') else 'items'}"
        case "string_pattern_mismatch":
            shape = next(spot.shapes(), None) if spot else None
            words = f"{show(error['input'])} is not {shape.words if shape else 'of this form'}{_example(spot)}"
        case _:
            noun = NOUNS.get(kind.partition("_")[0], "what is asked for")
            words = f"{show(error['input'])} is not {spot.words() if spot and kind in KNOWN_THERE else noun}"
    return words


def _example(spot: Spot | None, verb: str = "write") -> str:
    example = spot.example() if spot else None
    return "" if example is None else f"; {verb}, e.g. {flow(example)}"


def _known(form: Any, keys: tuple[Key, ...]) -> str:  # noqa: ANN401 - any type
    """Return which field was meant, or those that there are."""
    model = model_at(form, keys[:-1])
    names = list(names_of(model)) if model else []
    close = closest(str(keys[-1]), names)
    return f"did you mean {close}?" if close else f"there are {', '.join(names)}"
