# SPDX-License-Identifier: Apache-2.0
"""Does the code keep the rules of the house that ruff cannot check? Run by `make lint`.

Reads every Python file of the checkout and prints one line for each breach. The rules:

- a file has at most 400 lines, a function 50 (documentation not counted), or `# long: why` stands beside it
  (for a file: on a line of its own in the first ten; for a function: on its `def` line);
- every `noqa` and `type: ignore` says why, on the same line;
- tests pass fakes instead of patching names, and nothing is left to be implemented;
- every file names its licence;
- what runs on a host imports nothing but the standard library, Ansible's module_utils and the collection itself,
  and pyudev only where it may be missing; the collection never imports the controller, and uses no newer Python
  than 3.8 has.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREES = ("cyborg_reconciler", "api", "collections", "tests", "tools", "docs")
COLLECTION = Path("collections/ansible_collections/openstack/cyborg")

FILE_LINES = 400
FUNCTION_LINES = 50
#: The first lines of a file, where its licence and its reasons stand.
HEAD_LINES = 10

EXCUSED = re.compile(r"#\s*long: \w+ \w+")
SUPPRESSION = re.compile(
    r"#\s*(noqa|type:\s*ignore)\b(:\s*[A-Z]+[0-9]+(,\s*[A-Z]+[0-9]+)*|\[[a-z-]+(,\s*[a-z-]+)*\])?(?P<rest>.*)"
)
REASON = re.compile(r"\w+ \w+")
#: Spelled so that this file keeps the rules too.
PATCHING = re.compile(r"\bmonkeypatch\.setattr\b|\bMagic[M]ock\b|\bmocker\.patch\b")
UNFINISHED = re.compile(r"\bNotImplemented[E]rror\b")
#: What a module may import besides the standard library, by where it runs.
ON_HOSTS = ("ansible.module_utils", "ansible_collections.openstack.cyborg.plugins.module_utils")
#: What Python's library has since 3.9 or later, and ruff does not know of.
TOO_NEW = {"bit_count", "hardlink_to", "is_relative_to", "pairwise", "removeprefix", "removesuffix", "with_stem"}
DOCUMENTATION_NAMES = {"DOCUMENTATION", "EXAMPLES", "RETURN"}

Breach = tuple[int, str]


def licence_of(path: Path) -> str:
    """Return the words that the head of the file at *path* must hold."""
    if COLLECTION not in path.parents:
        return "SPDX-License-Identifier: Apache-2.0"
    if COLLECTION / "plugins/module_utils" in path.parents:
        return "BSD-2-Clause"
    return "GPL-3.0-or-later"


def span(node: ast.stmt) -> int:
    """Return how many lines *node* takes."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def documentation_lines(tree: ast.Module) -> int:
    """Return how many lines of a module are its docstring and the documentation that Ansible reads."""
    lines = span(tree.body[0]) if ast.get_docstring(tree) else 0
    for node in tree.body:
        if isinstance(node, ast.Assign) and DOCUMENTATION_NAMES & {getattr(name, "id", "") for name in node.targets}:
            lines += span(node)
    return lines


def find_sizes(tree: ast.Module, lines: list[str]) -> Iterator[Breach]:
    """Yield the file and the functions that are too long."""
    length = len(lines) - documentation_lines(tree)
    if length > FILE_LINES and not any(EXCUSED.match(line) for line in lines[:HEAD_LINES]):
        yield 1, f"the file has {length} lines, and {FILE_LINES} are the limit"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = span(node) - (span(node.body[0]) if ast.get_docstring(node) else 0)
            if length > FUNCTION_LINES and not EXCUSED.search(lines[node.lineno - 1]):
                yield node.lineno, f"{node.name} has {length} lines, and {FUNCTION_LINES} are the limit"


def find_words(lines: list[str]) -> Iterator[Breach]:
    """Yield what single lines say that they should not."""
    for number, line in enumerate(lines, start=1):
        suppression = SUPPRESSION.search(line)
        if suppression and not REASON.search(suppression["rest"]):
            yield number, f"say why beside `{suppression[1]}`"
        if PATCHING.search(line):
            yield number, "pass a fake instead of patching a name"
        if UNFINISHED.search(line):
            yield number, "finish it, or leave it out"


def imported_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the modules that the statement *node* imports; those of relative imports are our own and left out."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if node.level == 0 else []


def is_on_hosts(name: str) -> bool:
    """Return whether the module *name* is there when Ansible runs a module on a host."""
    return name.partition(".")[0] in sys.stdlib_module_names or name.startswith(ON_HOSTS)


def find_imports(tree: ast.Module, path: Path) -> Iterator[Breach]:
    """Yield what a file of the collection imports and may not."""
    guarded = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Try) for inner in ast.walk(node)}
    on_hosts = path.relative_to(COLLECTION / "plugins").parts[0] in {"modules", "module_utils"}
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    for node in imports:
        for name in imported_names(node):
            top = name.partition(".")[0]
            if top == "cyborg_reconciler":
                yield node.lineno, "the collection does not import the controller"
            elif on_hosts and not is_on_hosts(name) and not (top == "pyudev" and id(node) in guarded):
                yield node.lineno, f"{name} may be missing on a host: only the standard library is there"


def find_newer(tree: ast.Module) -> Iterator[Breach]:
    """Yield the uses of what Python 3.8, the oldest on hosts, does not have."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in TOO_NEW:
            yield node.lineno, f"Python 3.8 has no {node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "functools" and "cache" in {a.name for a in node.names}:
            yield node.lineno, "Python 3.8 has no functools.cache"


def find_breaches(path: Path, text: str) -> Iterator[Breach]:
    """Yield every breach in *text*, the content of the file at *path*, which is relative to the checkout."""
    if not text.strip():
        return
    lines = text.splitlines()
    tree = ast.parse(text, filename=str(path))
    if licence_of(path) not in "\n".join(lines[:HEAD_LINES]):
        yield 1, f"the first lines must hold `{licence_of(path)}`"
    yield from find_sizes(tree, lines)
    yield from find_words(lines)
    if COLLECTION / "plugins" in path.parents:
        yield from find_imports(tree, path)
        yield from find_newer(tree)


def python_files() -> Iterator[Path]:
    """Yield the project's Python files, relative to the checkout, in order."""
    for tree in TREES:
        for path in sorted((ROOT / tree).rglob("*.py")):
            if "output" not in path.parts and not path.is_symlink():
                yield path.relative_to(ROOT)


def main() -> int:
    """Print the breaches; return 0 when there are none."""
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in python_files()}
    breaches = [f"{path}:{line}: {what}" for path, text in texts.items() for line, what in find_breaches(path, text)]
    print("\n".join(breaches), end="\n" if breaches else "")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
