# SPDX-License-Identifier: Apache-2.0
"""Which documents does a text hold, and if it is wrong: where, how, and what would be right?

Called by the adapters that read declarations, with the text of one file. Pure.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from cyborg_reconciler.documents.base import API_VERSION
from cyborg_reconciler.documents.declared import Document, Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.documents.judge import MAX_PROBLEMS, Judge, closest
from cyborg_reconciler.documents.nodes import Tree, parse_trees
from cyborg_reconciler.documents.policy import AcceleratorPolicy
from cyborg_reconciler.documents.pool import RolloutPool
from cyborg_reconciler.documents.wording import printable, show
from cyborg_reconciler.errors import Problem

#: The documents that this release reads, by the word after ``kind``.
KINDS: Final[dict[str, type[Document]]] = {
    "AcceleratorPolicy": AcceleratorPolicy,
    "Driver": Driver,
    "RolloutPool": RolloutPool,
}


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came of one text: its documents, or its problems; never both.

    Attributes:
        drivers: the names of the drivers in it, valid or not: policies elsewhere may speak of them.
    """

    documents: tuple[Located[Document], ...] = ()
    problems: tuple[Problem, ...] = ()
    drivers: frozenset[str] = frozenset()


def parse_documents(text: str, file: str) -> Parsed:
    """Return the documents in the YAML *text* of *file*, or everything that is wrong with it. Never raises."""
    trees, mistakes = parse_trees(text)
    documents: list[Located[Document]] = []
    problems = [Problem(file, wrong.line, printable(wrong.path), wrong.message, wrong.remedy) for wrong in mistakes]
    for tree in trees:
        found = list(_head_problems(tree, file)) or _judge(tree, file, documents)
        problems.extend(found)
    drivers = frozenset(name for tree in trees if (name := _driver_name(tree)))
    if not problems:
        return Parsed(documents=tuple(documents), drivers=drivers)
    problems.sort(key=lambda problem: problem.line)
    if len(problems) > MAX_PROBLEMS:
        last = problems[MAX_PROBLEMS]
        more = Problem(file, last.line, "", "there are more problems from here on", "mend those above first")
        problems = [*problems[:MAX_PROBLEMS], more]
    return Parsed(problems=tuple(problems), drivers=drivers)


def parse_json(text: str, place: str) -> Parsed:
    """Return the document in the JSON *text*, judged as YAML is, of which it is a part; no line is told. Never raises.

    *text*: one line, as `json.dumps` writes it.
    """
    parsed = parse_documents(text, place)
    return Parsed(
        tuple(Located(located.document, place) for located in parsed.documents),
        tuple(replace(problem, line=0) for problem in parsed.problems),
        parsed.drivers,
    )


def load_document(kind: str, text: str) -> Document:
    """Return a document that was valid when it was kept as JSON.

    Raises:
        ValueError: it is none of this release.
    """
    if kind not in KINDS:
        raise ValueError(kind)
    return KINDS[kind].model_validate(_frozen(json.loads(text)))


def _frozen(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return *value* with its lists as YAML's readers give them."""
    if isinstance(value, dict):
        return {name: _frozen(item) for name, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _driver_name(tree: Tree) -> str | None:
    """Return the name of the driver that *tree* is, or is meant to be."""
    value: Any = tree.value
    if not isinstance(value, dict) or value.get("kind") != "Driver" or not isinstance(value.get("metadata"), dict):
        return None
    name = value["metadata"].get("name")
    return name if isinstance(name, str) else None


def _judge(tree: Tree, file: str, documents: list[Located[Document]]) -> list[Problem]:
    """Return what is wrong with *tree*; when nothing is, add it to *documents*."""
    model = KINDS[tree.value["kind"]]
    judge = Judge(model, tree, file)
    try:
        document = model.model_validate(tree.value)
    except ValidationError as verdict:
        return judge.problems(verdict)
    problems = judge.problems(None)
    if not problems:
        documents.append(Located(document, file, tree.lines))
    return problems


def _head_problems(tree: Tree, file: str) -> Iterator[Problem]:
    """Yield what hides which document *tree* is to be."""
    value: Any = tree.value
    line = tree.lines[""]
    if not isinstance(value, dict):
        yield Problem(
            file, line, "", f"{show(value)} is not a document", "begin it with api_version:, kind:, metadata: and spec:"
        )
        return
    for field, known in (("api_version", (API_VERSION,)), ("kind", tuple(KINDS))):
        found = value.get(field)
        if found is None:
            yield Problem(file, line, field, "is missing", f"add {field}: {' or '.join(known)}")
        elif found not in known:
            close = closest(str(found), known) if field == "kind" else ""
            remedy = f"did you mean {close}?" if close else f"this release reads {', '.join(known)}"
            yield Problem(file, tree.lines[field], field, f"{show(found)} is not known", remedy)
