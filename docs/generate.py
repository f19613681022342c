# SPDX-License-Identifier: Apache-2.0
"""Are the reference pages what the source says? Run by `make docs`, which writes them; with ``--check`` it only looks.

Each module of `docs.pages` makes one page. Reads the source and writes below docs/reference.
"""

import sys
from pathlib import Path

from docs.pages import (
    access,
    agent,
    commands,
    documents,
    errors,
    facts,
    metrics,
    modules,
    rest_api,
    settings,
    standing,
)

REFERENCE = Path(__file__).resolve().parent / "reference"


def render_pages() -> dict[Path, str]:
    """Return the text of every generated file, by where it lies."""
    pages = {
        "access.md": access.render(),
        "agent.md": agent.render(),
        "cli.md": commands.render(),
        "documents.md": documents.render(),
        "errors.md": errors.render(),
        "facts.md": facts.render(),
        "metrics.md": metrics.render(),
        "modules.md": modules.render(),
        "rest-api.md": rest_api.render(),
        "settings.md": settings.render(),
        "standing.md": standing.render(),
    }
    schemas = {f"schemas/{name}": text for name, text in documents.render_schemas().items()}
    return {REFERENCE / name: text for name, text in (pages | schemas).items()}


def find_stale(pages: dict[Path, str]) -> list[Path]:
    """Return the files that are not, or are not as *pages* have them; and schemas of documents that are no more."""
    stale = [path for path, text in pages.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    return stale + [path for path in sorted((REFERENCE / "schemas").glob("*.json")) if path not in pages]


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` name those that are stale; return 0 when all is well."""
    pages = render_pages()
    stale = find_stale(pages)
    names = ", ".join(str(path.relative_to(REFERENCE.parent.parent)) for path in stale)
    if "--check" in arguments:
        print(f"stale: {names}; run make docs" if stale else "the reference is what the source says")
        return 1 if stale else 0
    for path in stale:
        if path in pages:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pages[path], encoding="utf-8")
        else:
            path.unlink()
    print(f"written: {names}" if stale else "the reference was up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
