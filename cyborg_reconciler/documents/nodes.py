# SPDX-License-Identifier: Apache-2.0
"""What does a YAML text hold, and on which line does each thing stand?

Reads YAML 1.2's core schema: `on` and `yes` are text, and so are dates. Refuses what a declaration has no use for and
what could be used against its reader: tags, merge keys, duplicate keys, deep nesting, aliases that multiply.
Called by `parse`. Pure.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

#: The parser yields events and knows no types; libyaml's is some twenty times as fast, and not every build has it.
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_CHARACTERS: Final = 4 * 1024 * 1024
MAX_DEPTH: Final = 32
#: Some thousands of documents.
MAX_NODES: Final = 300_000
#: Nodes that aliases may add to one text.
MAX_ALIASED_NODES: Final = 10_000
#: A longer row of digits is no number that anybody counts with.
MAX_DIGITS: Final = 18

#: Source: YAML 1.2.2, section 10.3.2, Tag Resolution of the core schema.
NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL: Final = {text: text.lower() == "true" for text in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAYBE_TYPED: Final = frozenset("+-.0123456789~nNtTfF")

#: Source: YAML 1.2.2, section 5.1, c-printable.
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

#: The parser's words (libyaml's, or those of its counterpart in Python), then ours: what is wrong, what would be right.
_SYNTAX: Final = (
    (
        "mapping values are not allowed",
        "a colon stands where no field can begin",
        "indent it as its neighbours, or put text that holds `: ` in quotes",
    ),
    (
        "cannot start any token",
        "text without quotes begins with a tab or with one of % @ `",
        "indent with spaces; put the text in quotes",
    ),
    ("expected ':'", "there is a name without a colon", "write `name: value`"),
    ("expected ',' or", "a list [ or a block { is not closed", "add the missing , ] or }"),
    ("expected <block end>", "the indentation does not fit the lines above", "indent the fields of one block alike"),
    (
        "did not find expected key",
        "the indentation does not fit the lines above",
        "indent the fields of one block alike",
    ),
    ("expected '-' indicator", "the indentation does not fit the lines above", "indent the items of one list alike"),
    ("unexpected end of stream", "text in quotes is not closed", "add the closing quote"),
    (
        "escape",
        "a backslash in double quotes begins no escape that YAML knows",
        "use single quotes, or double the backslash",
    ),
    ("flow node", "a value is missing inside [ ] or { }", "add the value, or the closing ] or }"),
    ("node content", "a value is missing", "put text that begins with a special sign in quotes"),
    ("tag handle", "tags are not read", "remove the tag, or put the text in quotes"),
)


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something wrong in a text, on a line (from 1)."""

    line: int
    message: str
    remedy: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """One document of a text.

    Attributes:
        value: dicts, tuples, texts, numbers, booleans and None.
        lines: by dotted path; the root's path is empty.
        sources: what stands in the text for each number, boolean and None, by dotted path.
    """

    value: Any
    lines: dict[str, int]
    sources: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Scalar:
    line: int
    text: str
    plain: bool  # it stands without quotes


@dataclass(frozen=True, slots=True)
class _List:
    line: int
    items: "list[_Node]"


@dataclass(frozen=True, slots=True)
class _Block:
    line: int
    pairs: "list[tuple[_Node, _Node]]"


@dataclass(frozen=True, slots=True)
class _Alias:
    line: int
    target: "_Node"


_Node = _Scalar | _List | _Block | _Alias


class _MistakeError(Exception):
    """Ends the reading of a text."""

    def __init__(self, line: int, message: str, remedy: str) -> None:
        self.mistake = Mistake(line, message, remedy)
        super().__init__(message)


def parse_trees(text: str, *, loader: Any = LOADER) -> tuple[list[Tree], list[Mistake]]:  # noqa: ANN401 - PyYAML's loaders have no common base
    """Return the documents of a YAML *text*, and what is wrong in it. Documents without content are left out."""
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_CHARACTERS:
        return [], [Mistake(0, f"it has {len(text)} characters, and {MAX_CHARACTERS} are read", "divide it into files")]
    if found := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        return [], [Mistake(line, f"there is a character that is no text (U+{ord(found[0]):04X})", "remove it")]
    trees: list[Tree] = []
    mistakes: list[Mistake] = []
    aliased = _Allowance(MAX_ALIASED_NODES)
    try:
        for root in _compose(text, loader):
            if not (isinstance(root, _Scalar) and root.plain and root.text in NULLS):
                flattener = _Flattener({}, {}, mistakes, aliased)
                value = flattener.value(root, "", 0, inside_alias=False)
                trees.append(Tree(value, flattener.lines, flattener.sources))
    except _MistakeError as exc:
        mistakes.append(exc.mistake)
    return trees, mistakes


@dataclass(slots=True)
class _Allowance:
    """How many nodes aliases may still add."""

    left: int


def _compose(text: str, loader: Any) -> Iterator[_Node]:  # noqa: ANN401 - as above
    """Yield the root of each document of *text*."""
    events = yaml.parse(text, Loader=loader)
    composer = _Composer(events)
    try:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                composer.anchors.clear()
                yield composer.node(next(events), 1)
    except yaml.MarkedYAMLError as exc:
        raise _syntax_error(exc, text.rstrip().count("\n") + 1) from exc
    except (yaml.YAMLError, ValueError) as exc:  # ValueError: the parser in Python, of an escape beyond Unicode
        raise _MistakeError(0, "it is not YAML", "check it with an editor that knows YAML") from exc


@dataclass(slots=True)
class _Composer:
    """Turns the parser's events into nodes, and counts them."""

    events: Iterator[Any]
    anchors: dict[str, _Node] = field(default_factory=dict)
    count: int = 0

    def node(self, event: Any, depth: int) -> _Node:  # noqa: ANN401 - the parser's events have no common type
        """Return the node that begins with *event*."""
        line = event.start_mark.line + 1
        self.count += 1
        if self.count > MAX_NODES:
            raise _MistakeError(line, f"it holds more than {MAX_NODES} values", "divide it into files")
        if depth > MAX_DEPTH:
            raise _MistakeError(line, f"it is nested more than {MAX_DEPTH} deep", "no field of a document lies so deep")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors:
                return _Alias(line, self.anchors[event.anchor])
            message = f"*{event.anchor} has no &{event.anchor} before it"
            raise _MistakeError(line, message, "define it first, or write the value out")
        if event.tag is not None:
            raise _MistakeError(
                line, f"tags ({_tag(event.tag)}) are not read", "remove the tag, or put the text in quotes"
            )
        if isinstance(event, yaml.ScalarEvent):
            node: _Node = _Scalar(line, event.value, event.implicit[0])
        elif isinstance(event, yaml.SequenceStartEvent):
            node = _List(line, self._items(depth + 1))
        else:
            node = _Block(line, self._pairs(depth + 1))
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _items(self, depth: int) -> list[_Node]:
        items: list[_Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, depth))
        return items

    def _pairs(self, depth: int) -> list[tuple[_Node, _Node]]:
        pairs: list[tuple[_Node, _Node]] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.node(event, depth)
            pairs.append((key, self.node(next(self.events), depth)))
        return pairs


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:40]


def _syntax_error(exc: yaml.MarkedYAMLError, last: int) -> _MistakeError:
    """Return what the parser says in our words; it may point behind the *last* line."""
    problem = f"{exc.problem} {exc.context}"
    quoted = "quoted scalar" in problem and "end of stream" in problem
    mark = (exc.context_mark if quoted else exc.problem_mark) or exc.problem_mark or exc.context_mark
    line = min(mark.line + 1, last) if mark else 0
    opened = exc.context_mark.line + 1 if exc.context_mark else line
    for needle, message, remedy in _SYNTAX:
        if needle in problem:
            where = f" (the part that begins on line {opened})" if 0 < opened < line else ""
            return _MistakeError(line, f"{message}{where}", remedy)
    return _MistakeError(line, "it is not YAML", "check it with an editor that knows YAML")


@dataclass(frozen=True, slots=True)
class _Flattener:
    """Turns the nodes of one document into plain values, and notes where everything stands."""

    lines: dict[str, int]
    sources: dict[str, str]
    mistakes: list[Mistake]
    aliased: _Allowance

    def value(self, node: _Node, path: str, depth: int, *, inside_alias: bool) -> Any:  # noqa: ANN401 - whatever somebody wrote
        """Return the value of *node*."""
        self.lines.setdefault(path, node.line)
        while isinstance(node, _Alias):
            node, inside_alias = node.target, True
        if inside_alias:
            self._count(node, depth)
        if isinstance(node, _List):
            prefix = f"{path}." if path else ""
            return tuple(
                self.value(item, f"{prefix}{index}", depth + 1, inside_alias=inside_alias)
                for index, item in enumerate(node.items)
            )
        if isinstance(node, _Block):
            return self._fields(node, path, depth, inside_alias=inside_alias)
        return self._scalar(node, path)

    def _count(self, node: _Node, depth: int) -> None:
        self.aliased.left -= 1
        if self.aliased.left < 0:
            raise _MistakeError(node.line, f"aliases add more than {MAX_ALIASED_NODES} values", "write the values out")
        if depth > MAX_DEPTH:
            raise _MistakeError(node.line, f"aliases nest more than {MAX_DEPTH} deep", "write the values out")

    def _fields(self, node: _Block, path: str, depth: int, *, inside_alias: bool) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key, item in node.pairs:
            name = self._name(key, path)
            if name is None:
                continue
            inner = f"{path}.{name}" if path else name
            if name in seen:
                message = f"stands there twice, on line {seen[name]} and on line {key.line}"
                self.mistakes.append(Mistake(key.line, message, "keep one of them", inner))
                continue
            seen[name] = self.lines[inner] = key.line
            fields[name] = self.value(item, inner, depth + 1, inside_alias=inside_alias)
        return fields

    def _name(self, key: _Node, path: str) -> str | None:
        """Return the name that *key* is; None, and a mistake, when it is none."""
        while isinstance(key, _Alias):
            key = key.target
        if not isinstance(key, _Scalar):
            wrong, remedy = "a field's name is a list or a block", "names are text"
        elif key.plain and key.text == "<<":
            wrong, remedy = "merge keys (<<) are not read", "write the fields out"
        elif key.plain and not isinstance(resolve_scalar(key.text), str):
            shown = key.text[:MAX_DIGITS] or "nothing"
            wrong, remedy = f"{shown} without quotes is no text, and a name is", f'quote it: "{shown}"'
        else:
            return key.text
        self.mistakes.append(Mistake(key.line, wrong, remedy, path))
        return None

    def _scalar(self, node: _Scalar, path: str) -> str | float | bool | None:
        if not node.text.isascii() and _SURROGATE.search(node.text):
            self.mistakes.append(Mistake(node.line, "half of a character is escaped here", "write it whole", path))
            return ""
        if not node.plain:
            return node.text
        value = resolve_scalar(node.text)
        if not isinstance(value, str):
            self.sources[path] = node.text
        return value


def resolve_scalar(text: str) -> str | float | bool | None:
    """Return what *text* means where it stands without quotes."""
    if text and text[0] not in _MAYBE_TYPED:
        return text
    if text in NULLS:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base) if len(text) <= MAX_DIGITS else float("inf")
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
