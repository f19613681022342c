# SPDX-License-Identifier: Apache-2.0
"""What does a field of a document accept, in words and by example?

Walks the types of the models, so that errors and examples say what the models say. Called by `judge`. Pure.
"""

import json
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from cyborg_reconciler.documents.base import Shape
from cyborg_reconciler.documents.nodes import resolve_scalar

#: A field's name, an item's index.
Key = str | int

#: What may stand in a text without quotes, if it is not read as something else.
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+%")
#: What YAML 1.1, which many tools still read, takes for true and false.
_OLD_BOOLEANS: Final = frozenset(("y", "yes", "on", "n", "no", "off"))
#: Longer values are cut when they are shown.
_SHOWN_CHARACTERS: Final = 60


@dataclass(frozen=True, slots=True)
class Spot:
    """What may stand at one place of a document.

    Attributes:
        annotation, metadata: the type there. field: the model's field, when the place is one.
    """

    annotation: Any
    metadata: tuple[Any, ...] = ()
    field: FieldInfo | None = None

    def fits(self, value: object) -> bool:
        """Return whether *value* may stand there."""
        kind: Any = Annotated[self.annotation, *self.metadata] if self.metadata else self.annotation
        try:
            TypeAdapter(kind).validate_python(value, strict=True)
        except ValidationError:
            return False
        return True

    def shapes(self) -> Iterator[Shape]:
        """Yield the shapes that a text there may have."""
        for option in _options(self):
            yield from (item for item in option.metadata if isinstance(item, Shape))

    def takes_text(self) -> bool:
        """Return whether some text fits."""
        return any(option.annotation is str for option in _options(self))

    def literals(self) -> list[str]:
        """Return the texts of which one must stand there; empty when it is not such a choice."""
        choices = (get_args(option.annotation) for option in _options(self) if get_origin(option.annotation) is Literal)
        return [text for choice in choices for text in choice if isinstance(text, str)]

    def example(self) -> Any:  # noqa: ANN401 - whatever the field takes
        """Return a value that fits, or None."""
        if self.field is not None and self.field.examples:
            return self.field.examples[0]
        return next((shape.example for shape in self.shapes()), None)

    def words(self) -> str:
        """Return what may stand there, to go after "it is not"."""
        options = _options(self)
        lists = [option for option in options if get_origin(option.annotation) is tuple]
        words = [_words(option) for option in options if option not in lists]
        return " or ".join([*words, "a list of such"] if words and lists else words or ["a list"])


def _words(spot: Spot) -> str:
    origin, arguments = get_origin(spot.annotation), get_args(spot.annotation)
    if shape := next(spot.shapes(), None):
        words = shape.words
    elif model := _model(spot.annotation):
        words = f"a block of fields ({', '.join(names_of(model))})"
    elif origin is Literal:
        words = f"{'one of ' if len(arguments) > 1 else ''}{', '.join(map(flow, arguments))}"
    elif origin is dict:
        words = "a block of names and values"
    elif spot.annotation is bool:
        words = "true or false"
    else:
        words = _number_words(spot) if spot.annotation is int else "text"
    return words


def _number_words(spot: Spot) -> str:
    low = next((item.ge for item in spot.metadata if isinstance(item, Ge)), None)
    high = next((item.le for item in spot.metadata if isinstance(item, Le)), None)
    if high is not None:
        return f"a whole number from {low} to {high}"
    return "a whole number" if low is None else f"a whole number from {low} on"


def names_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of *model* by the names that they have in YAML."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def model_at(model: Any, keys: Sequence[Key]) -> type[BaseModel] | None:  # noqa: ANN401 - any type
    """Return the model of the block at *keys* below *model*; None when that is no model."""
    spot = spot_at(model, keys)
    return next((found for option in _options(spot) if (found := _model(option.annotation))), None) if spot else None


def spot_at(model: Any, keys: Sequence[Key]) -> Spot | None:  # noqa: ANN401 - any type
    """Return what may stand at *keys* below *model*, a model or another type; None when nothing may."""
    spot: Spot | None = _unwrap(model)
    for key in keys:
        if spot is None:
            return None
        spot = next((found for option in _options(spot) if (found := _step(option, key))), None)
    return spot


def name_spot(model: type[BaseModel], keys: Sequence[Key]) -> Spot | None:
    """Return what the names in the block at *keys* may be; None when they are a model's fields."""
    spot = spot_at(model, keys)
    for option in _options(spot) if spot else ():
        if get_origin(option.annotation) is dict:
            return _unwrap(get_args(option.annotation)[0])
    return None


def _step(spot: Spot, key: Key) -> Spot | None:
    """Return what may stand one step further."""
    if model := _model(spot.annotation):
        field = names_of(model).get(str(key))
        return Spot(field.annotation, tuple(field.metadata), field) if field else None
    origin, arguments = get_origin(spot.annotation), get_args(spot.annotation)
    if origin in {tuple, Sequence} and isinstance(key, int):
        return _unwrap(arguments[0])
    if origin is dict and isinstance(key, str):
        return _unwrap(arguments[1])
    return None


def _options(spot: Spot) -> list[Spot]:
    """Return the members of a union, without None; of anything else itself."""
    if get_origin(spot.annotation) not in (Union, types.UnionType):
        return [spot]
    return [_unwrap(option) for option in get_args(spot.annotation) if option is not types.NoneType]


def _unwrap(annotation: object) -> Spot:
    """Return the type in an ``Annotated``, and what stands beside it."""
    if get_origin(annotation) is not Annotated:
        return Spot(annotation)
    inner, *metadata = get_args(annotation)
    flat: list[object] = []
    for item in metadata:
        flat.extend(item.metadata if isinstance(item, FieldInfo) else [item])
    return Spot(inner, tuple(flat))


def _model(annotation: object) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def flow(value: object) -> str:
    """Return *value* as YAML on one line; text that YAML would read as something else stands in quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(name)}: {flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        plain = value and value[0].isalpha() and _PLAIN.issuperset(value)
        typed = value.lower() in _OLD_BOOLEANS or not isinstance(resolve_scalar(value), str)
        return value if plain and not typed else quote(value)
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)


def quote(text: str) -> str:
    """Return *text* in double quotes, as YAML has them; what cannot be seen is escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in escaped) + '"'


def show(value: object) -> str:
    """Return *value* as an error shows it: on one line, without control characters, cut when it is long."""
    if isinstance(value, dict):
        return "a block of fields"
    if isinstance(value, list | tuple):
        return "a list"
    return printable(quote(value) if isinstance(value, str) else flow(value))


def printable(text: str) -> str:
    """Return *text* cut, and without what a terminal would obey."""
    clean = "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text[: _SHOWN_CHARACTERS + 1])
    return clean if len(clean) <= _SHOWN_CHARACTERS else f"{clean[:_SHOWN_CHARACTERS]}…"
