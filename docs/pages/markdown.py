# SPDX-License-Identifier: Apache-2.0
"""How does a generated page spell tables, cells and notices? Called by the other pages. Pure."""

from collections.abc import Iterable, Sequence

NOTICE = "<!-- Written by `make docs` from the source: change that, not this page. -->"


def cell(text: str) -> str:
    """Return *text* as it may stand in a table: on one line, its bars escaped, code as Markdown has it."""
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def code(text: str) -> str:
    """Return *text* as code; nothing for nothing."""
    return f"`{text}`" if text else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; *rows* are of texts in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def fence(text: str, language: str) -> str:
    """Return *text* as a block of code."""
    return f"```{language}\n{text.strip()}\n```"


def page(title: str, *parts: str) -> str:
    """Return a whole page of *parts*, with the notice that it is generated."""
    return "\n\n".join([f"# {title}", NOTICE, *(part.strip() for part in parts if part.strip())]) + "\n"
