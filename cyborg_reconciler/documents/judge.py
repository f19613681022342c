# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a document, where, and what would be right?

Turns the verdict of the models into problems that speak of YAML: pydantic says which places are wrong, the words are
ours.
Called by `parse`. Pure.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cyborg_reconciler.documents.base import DocumentError
from cyborg_reconciler.documents.nodes import MAX_DIGITS, NULLS, Tree
from cyborg_reconciler.documents.wording import Key, Spot, flow, model_at, name_spot, names_of, printable, show, spot_at
from cyborg_reconciler.errors import Problem

#: Whoever has more to mend in one file is told that there is more.
MAX_PROBLEMS: Final = 100
#: Longer names are not compared with others: it takes time, and they resemble nothing.
_COMPARED_CHARACTERS: Final = 64
#: Scalars that are read alike by everybody.
_PLAIN_SCALAR: Final = re.compile(r"-?(0|[1-9][0-9]*)|[-+0-9]*[.eE].*|\.?[tTfFiInN].+")
_TRUE: Final = frozenset(("yes", "on", "true", "y", "1"))
_FALSE: Final = frozenset(("no", "off", "false", "n", "0"))


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges one document.

    Attributes:
        model: what the document is to be. file: where it stands.
    """

    model: type[BaseModel]
    tree: Tree
    file: str

    def problems(self, verdict: ValidationError | None) -> list[Problem]:
        """Return what is wrong, by line."""
        found: dict[tuple[Key, ...], Problem] = {}
        errors = verdict.errors(include_url=False) if verdict else []
        for error in _deepest(self.tree.value, errors[: MAX_PROBLEMS + 1]):
            for keys, problem in self._translate(*error):
                found.setdefault(keys, problem)
        for keys, problem in self._odd_scalars():
            if not any(keys[:length] in found for length in range(1, len(keys) + 1)):
                found[keys] = problem
        return sorted(found.values(), key=lambda problem: (problem.line, problem.field))

    def _problem(self, keys: Sequence[Key], message: str, remedy: str) -> tuple[tuple[Key, ...], Problem]:
        path = ".".join(map(str, keys))
        line, known = 0, path
        while not line:
            line = self.tree.lines.get(known, 0)
            if not known:
                break
            known = known.rpartition(".")[0]
        return tuple(keys), Problem(self.file, line, printable_path(keys), message, remedy)

    def _translate(self, keys: tuple[Key, ...], error: ErrorDetails) -> Iterator[tuple[tuple[Key, ...], Problem]]:
        kind, value = error["type"], error["input"]
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, DocumentError):
            inner = tuple(int(key) if key.isdigit() else key for key in cause.field.split(".") if key)
            yield self._problem((*keys, *inner), cause.message, cause.remedy)
        elif kind == "extra_forbidden":
            yield self._problem(keys, "there is no such field", self._known_names(keys))
        elif kind == "missing":
            yield self._problem(keys, "is missing", _example_remedy("add", keys[-1], spot_at(self.model, keys)))
        elif kind in {"too_short", "too_long"}:
            remedy = "list one at least, or leave the field out" if kind == "too_short" else "list fewer"
            yield self._problem(keys, "is empty" if kind == "too_short" else "has too many items", remedy)
        elif error["loc"][-1] == "[key]":
            spot = name_spot(self.model, keys[:-1])
            words = spot.words() if spot else "a name"
            yield self._problem(keys, f"{show(keys[-1])} is not {words}", _mended_name(spot, str(keys[-1])))
        else:
            yield self._wrong_value(keys, value)

    def _wrong_value(self, keys: tuple[Key, ...], value: object) -> tuple[tuple[Key, ...], Problem]:
        spot = spot_at(self.model, keys)
        source = self.tree.sources.get(".".join(map(str, keys)))
        if spot is None:
            return self._problem(keys, f"{show(value)} does not belong here", "remove it")
        remedy = _remedy(keys[-1] if keys else "", spot, value, source)
        shown = printable(source) if source else show(value)
        if value is None:
            message = "has no value"
        elif source is None or not spot.takes_text():
            message = f"{shown} is not {spot.words()}"
        else:
            what = "a boolean" if isinstance(value, bool) else f"the number {_number(value)}"
            message = f"{shown} without quotes is {what}, not {'text' if spot.fits(source) else spot.words()}"
        return self._problem(keys, message, remedy)

    def _odd_scalars(self) -> Iterator[tuple[tuple[Key, ...], Problem]]:
        """Yield values that are missing, and numbers that others would read differently."""
        if all(source not in NULLS and _PLAIN_SCALAR.fullmatch(source) for source in self.tree.sources.values()):
            return
        for keys, value in _scalars(self.tree.value, ()):
            source = self.tree.sources.get(".".join(map(str, keys)), "")
            if value is None:
                yield self._wrong_value(keys, value)
            elif isinstance(value, int) and not isinstance(value, bool) and source != str(value):
                spot = spot_at(self.model, keys)
                quoted = f', or "{printable(source)}" where text is meant' if spot and spot.takes_text() else ""
                message = f"{printable(source)} is {value} to some readers of YAML and another number to others"
                yield self._problem(keys, message, f"write {value}{quoted}")

    def _known_names(self, keys: tuple[Key, ...]) -> str:
        """Return the remedy for a field that there is not: the one that was meant, or those that there are."""
        model = model_at(self.model, keys[:-1])
        names = list(names_of(model)) if model else []
        name = str(keys[-1])
        if close := closest(name, names):
            return f"did you mean {close}?"
        elsewhere = [path for path in _paths(self.model, "") if path.rpartition(".")[2] == name]
        if elsewhere:
            return f"there is one in {elsewhere[0].rpartition('.')[0] or 'the document itself'}"
        return f"there are {', '.join(names)}" if names else "remove it"


def closest(name: str, names: Sequence[str]) -> str:
    """Return the one of *names* that *name* was probably meant to be; empty when it resembles none."""
    if len(name) > _COMPARED_CHARACTERS:
        return ""
    folded = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else ""


def printable_path(keys: Sequence[Key]) -> str:
    """Return *keys* as a dotted path that may be shown."""
    return ".".join(printable(str(key)) for key in keys)


def _deepest(value: object, errors: Sequence[ErrorDetails]) -> list[tuple[tuple[Key, ...], ErrorDetails]]:
    """Return *errors* with their places; of a choice of types only those of the type that came nearest."""
    placed = [(_place(value, error), error) for error in errors]
    inner = {keys[:length] for keys, _ in placed for length in range(len(keys))}
    final = {"extra_forbidden", "missing", "value_error", "too_short", "too_long"}
    return [
        (keys, error)
        for keys, error in placed
        if (keys not in inner or error["type"] in final) and not (error["type"] == "too_short" and error["input"])
    ]


def _place(value: Any, error: ErrorDetails) -> tuple[Key, ...]:  # noqa: ANN401 - whatever somebody wrote
    """Return where in the document *error* is; pydantic names the members of a choice of types along the way."""
    keys: list[Key] = []
    steps = error["loc"][:-1] if error["type"] == "missing" else error["loc"]
    for step in steps:
        inside = step in value if isinstance(value, dict) else isinstance(value, tuple) and isinstance(step, int)
        if inside:
            value = value[step]
            keys.append(step)
    return (*keys, error["loc"][-1]) if error["type"] == "missing" else tuple(keys)


def _scalars(value: object, keys: tuple[Key, ...]) -> Iterator[tuple[tuple[Key, ...], object]]:
    """Yield every scalar of *value* and where it is."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _scalars(item, (*keys, name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _scalars(item, (*keys, index))
    else:
        yield keys, value


def _paths(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """Yield the dotted paths of all fields below *model*."""
    for name in names_of(model):
        yield f"{prefix}{name}"
        inner = model_at(model, (name,))
        if inner is not None:
            yield from _paths(inner, f"{prefix}{name}.")


def _number(value: object) -> str:
    return "beyond counting" if value == float("inf") else f"{value}"


def _remedy(name: Key, spot: Spot, value: object, source: str | None) -> str:
    """Return what would be right: what was probably meant when that fits, else an example."""
    for meant in _meant(spot, value, source):
        if spot.fits(meant):
            return f"quote it: {flow(meant)}" if meant == source else f"write {flow(meant)}"
    return _example_remedy("give it a value" if value is None else "write", name, spot)


def _meant(spot: Spot, value: object, source: str | None) -> Iterator[object]:
    """Yield what *value* may have been meant to be, likeliest first."""
    if value is None:
        yield True
        return
    if isinstance(value, bool):
        yield int(value)
    if isinstance(value, tuple) and len(value) == 1:
        yield value[0]
    for text in (source, value):
        if isinstance(text, str):
            yield from _meant_text(spot, text)
    if not isinstance(value, tuple | dict):
        yield (value if source is None else source,)


def _meant_text(spot: Spot, text: str) -> Iterator[object]:
    """Yield what *text* may have been meant to be, likeliest first."""
    yield text
    yield from (shape.mend(text) for shape in spot.shapes())
    if close := closest(text, spot.literals()):
        yield close
    if text.lower() in _TRUE | _FALSE:
        yield text.lower() in _TRUE
    if text.isdecimal() and len(text) <= MAX_DIGITS:
        yield int(text)


def _example_remedy(verb: str, name: Key, spot: Spot | None) -> str:
    """Return an example of the field *name*."""
    example = spot.example() if spot else None
    if example is None:
        return "remove it" if spot is None else f"it takes {spot.words()}"
    if isinstance(name, str):
        return f"{verb}, e.g. {printable(name)}: {flow(example)}"
    return f"{verb}, e.g. {flow(example)}"


def _mended_name(spot: Spot | None, name: str) -> str:
    for shape in spot.shapes() if spot else ():
        if spot and spot.fits(shape.mend(name)):
            return f"write {shape.mend(name)}"
        return f"write, e.g. {shape.example}"
    return "write another name"
