# SPDX-License-Identifier: Apache-2.0
"""What is in the collection? The page of its modules, filters, roles and playbooks, from their own documentation.

Called by `generate`. Reads the collection's files.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from docs.pages.markdown import cell, code, fence, page, table

COLLECTION = Path(__file__).resolve().parents[2] / "collections/ansible_collections/openstack/cyborg"
NAMESPACE = "openstack.cyborg"

#: Ansible's own markup, and how Markdown has it. Source: Ansible, "Ansible markup" of the developer guide.
MARKUP = (
    (r"\b(?:C|V|O|RV|E)\((?:ignore:)?((?:\\.|[^)\\])*)\)", r"`\1`"),
    (r"\bM\(openstack\.cyborg\.(\w+)\)", r"[\1](#\1)"),
    (r"\bP\(([\w.]+)#\w+\)", r"`\1`"),
    (r"\bM\(([\w.]+)\)", r"`\1`"),
    (r"\bB\(([^)]*)\)", r"**\1**"),
    (r"\bI\(([^)]*)\)", r"*\1*"),
    (r"\bU\(([^)]*)\)", r"<\1>"),
)
INTRODUCTION = """
The collection `openstack.cyborg` works without the rest of this project: [use the modules
alone](../how-to/use-the-modules-alone.md). `ansible-doc openstack.cyborg.sriov_vfs` shows the same as this page on a
terminal. Every module has check mode; those that change something have diff mode, take the lock of the host, and read
again before they write.
"""

Yaml = Mapping[str, Any]


def render() -> str:
    """Return the page."""
    modules = [read_module(path) for path in sorted((COLLECTION / "plugins/modules").glob("*.py"))]
    filters = [read_module(path) for path in sorted((COLLECTION / "plugins/filter").glob("*.py"))]
    roles = sorted((COLLECTION / "roles").iterdir())
    index = [(f"[{name}](#{name})", markup(doc["short_description"])) for name, doc, _, _ in modules]
    return page(
        "Modules, filters, roles and playbooks",
        INTRODUCTION,
        table(["module", "what it does"], index),
        *(section(*module) for module in modules),
        "## Filters",
        *(section(*one).replace("## ", "### ", 1) for one in filters),
        "## Roles",
        *(role(path) for path in roles),
        "## Playbooks",
        *(playbook(path) for path in sorted((COLLECTION / "playbooks").glob("*.yml"))),
    )


def read_module(path: Path) -> tuple[str, Yaml, str, Yaml]:
    """Return name, documentation, examples and return values of the module at *path*, its fragments merged in."""
    texts = read_strings(path)
    doc = dict(yaml.safe_load(texts["DOCUMENTATION"]))
    options = dict(doc.get("options") or {})
    for fragment in doc.get("extends_documentation_fragment", ()):
        options |= read_fragment(fragment)
    return path.stem, doc | {"options": options}, texts["EXAMPLES"], yaml.safe_load(texts.get("RETURN", "{}")) or {}


def read_strings(path: Path) -> dict[str, str]:
    """Return the strings that a Python file gives to names, in classes too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assignments = (node for node in ast.walk(tree) if isinstance(node, ast.Assign))
    return {
        node.targets[0].id: node.value.value
        for node in assignments
        if isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def read_fragment(name: str) -> Yaml:
    """Return the options of one of our own fragments; those of others have none."""
    if not name.startswith(f"{NAMESPACE}."):
        return {}
    file, _, part = name.removeprefix(f"{NAMESPACE}.").partition(".")
    texts = read_strings(COLLECTION / f"plugins/doc_fragments/{file}.py")
    found: Yaml = yaml.safe_load(texts[part.upper() or "DOCUMENTATION"])["options"]
    return found


def section(name: str, doc: Yaml, examples: str, returns: Yaml) -> str:
    """Return what is to be said of one module."""
    parts = [f"## {name}", sentences(doc["description"])]
    parts += ["\n".join(f"- {markup(note)}" for note in doc["notes"])] if doc.get("notes") else []
    parts += [table(["option", "type", "without it", "what it says"], option_rows(doc["options"], ""))]
    parts += [fence(examples, "yaml"), table(["returns", "type", "when", "what it says"], return_rows(returns, ""))]
    return "\n\n".join(parts)


def option_rows(options: Yaml, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each option, and for each inside of it."""
    for name, option in options.items():
        words = sentences(option["description"])
        choices = ", ".join(code(str(choice)) for choice in option.get("choices", ()))
        default = "**must be there**" if option.get("required") else code(spell(option.get("default")))
        yield f"`{prefix}{name}`", kind_of(option), default, f"{words} One of {choices}." if choices else words
        yield from option_rows(option.get("suboptions", {}), f"{prefix}{name}.")


def return_rows(returns: Yaml, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each value that is returned, and for each inside of it."""
    for name, value in returns.items():
        yield f"`{prefix}{name}`", kind_of(value), str(value.get("returned", "")), sentences(value["description"])
        yield from return_rows(value.get("contains", {}), f"{prefix}{name}.")


def kind_of(option: Yaml) -> str:
    """Return the type of an option."""
    return f"list of {option['elements']}" if option.get("elements") else str(option.get("type", "str"))


def spell(value: object) -> str:
    """Return a default as YAML has it."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value) or '""'


def sentences(text: str | list[str]) -> str:
    """Return a description, which may be a list of paragraphs, in one."""
    return cell(" ".join(map(markup, [text] if isinstance(text, str) else text)))


def markup(text: str) -> str:
    """Return *text* with Ansible's markup turned into Markdown's."""
    for pattern, replacement in MARKUP:
        text = re.sub(pattern, replacement, text)
    return text.replace("`\\\\", "`\\")


def role(path: Path) -> str:
    """Return what is to be said of one role."""
    spec = yaml.safe_load((path / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]
    head = [f"### {NAMESPACE}.{path.name}", f"{markup(spec['short_description'])}. {sentences(spec['description'])}"]
    rows = option_rows(spec["options"], "")
    return "\n\n".join([*head, table(["variable", "type", "without it", "what it says"], rows)])


def playbook(path: Path) -> str:
    """Return what is to be said of one playbook: what its first lines say, the first one with a command."""
    first, *more = re.findall(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    words, _, command = first.partition(": ")
    return "\n\n".join([f"### {NAMESPACE}.{path.stem}", f"{words}:", fence(command, "sh"), " ".join(more)])
