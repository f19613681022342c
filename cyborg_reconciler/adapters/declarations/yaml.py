# SPDX-License-Identifier: Apache-2.0
"""What do the YAML files of a tree declare now, together with what is declared elsewhere?

Fills the port `Declarations`. Reads files and folders, writes nothing. Made by `bootstrap`.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from cyborg_reconciler.adapters.declarations.catalogue import read_catalogue
from cyborg_reconciler.adapters.declarations.folder import File, Listing, unreadable
from cyborg_reconciler.adapters.declarations.source_tree import read_source
from cyborg_reconciler.documents.assemble import assemble
from cyborg_reconciler.documents.declared import Declared, Document, Located
from cyborg_reconciler.documents.nodes import MAX_CHARACTERS
from cyborg_reconciler.documents.parse import Parsed, parse_documents
from cyborg_reconciler.errors import DeclarationsInvalidError, Problem
from cyborg_reconciler.ports import Source

#: A tree that is being written (a checkout, say) is read again this often, after a pause.
ATTEMPTS: Final = 3
PAUSE_S: Final = 0.2


class YamlDeclarations:
    """The documents in files and trees.

    Args:
        paths: files, and trees of ``*.yml`` and ``*.yaml``; what is hidden in a tree is skipped.
        others: what is declared beside them; names are unique over all.
    """

    def __init__(self, paths: Sequence[Path], others: Sequence[Source] = ()) -> None:
        self._paths, self._others = tuple(paths), tuple(others)

    def stamp(self) -> str:
        """Return a digest that is another one whenever a file came, went or was written. Opens no file."""
        return " ".join([self._list().stamp(), *(source.stamp() for source in self._others)])

    def read(self) -> Declared:
        """Return all that is declared now. No file, or only empty ones: `Declared` without policies, and a warning.

        Raises:
            DeclarationsInvalidError: a path cannot be read, a document has a problem, or documents contradict each
                other; it lists all of that.
            ReconcilerError: one of the others cannot be read.
        """
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE_S)
            before = self._list()
            files = [(file, _read_file(file)) for file in before.files]
            if self._list().stamp() == before.stamp():
                return _declare(before, files, [source.read() for source in self._others])
        paths = ", ".join(map(str, self._paths))
        message = f"it was written again and again while it was read ({ATTEMPTS} attempts)"
        raise DeclarationsInvalidError([Problem(paths, 0, "", message, "try again when it rests")])

    def _list(self) -> Listing:
        listing = Listing()
        for path in self._paths:
            listing.add(path)
        return listing


def _declare(listing: Listing, files: Sequence[tuple[File, str | Problem]], others: Sequence[Parsed]) -> Declared:
    """Return what the texts of *files* declare, and *others*."""
    problems, warnings = list(listing.problems), list(listing.warnings)
    documents: list[Located[Document]] = []
    named: set[str] = set()
    for file, text in files:
        parsed = Parsed(problems=(text,)) if isinstance(text, Problem) else parse_documents(text, file.shown)
        problems.extend(parsed.problems)
        documents.extend(parsed.documents)
        named.update(parsed.drivers)
        if not parsed.documents and not parsed.problems:
            warnings.append(Problem(file.shown, 0, "", "declares nothing", "remove it, or fill it"))
    if listing.asked and not files:
        paths = ", ".join(map(str, listing.asked))
        warnings.append(Problem(paths, 0, "", "holds no *.yml or *.yaml file", "check the path"))
    prunes = bool(documents) or not listing.asked
    for parsed in others:
        problems.extend(parsed.problems)
        documents.extend(parsed.documents)
        named.update(parsed.drivers)
    declared, contradictions = assemble(documents, read_catalogue(), named)
    folders = {file.shown: file.asked.parent for file, _ in files}
    sources = [read_source(driver, folders.get(driver.file, Path())) for driver in declared.drivers]
    problems.extend((*contradictions, *(problem for _, wrong in sources for problem in wrong)))
    if problems:
        raise DeclarationsInvalidError(sorted(problems, key=lambda problem: (problem.file, problem.line)))
    drivers = tuple(driver for driver, _ in sources)
    if declared.policies and not prunes:
        text, paths = "declares nothing; while that is so, nothing is undone", ", ".join(map(str, listing.asked))
        warnings.append(Problem(paths, 0, "", text, "bring its files back, or do without the tree"))
    return replace(declared, drivers=drivers, warnings=(*warnings, *declared.warnings), prunes=prunes)


def _read_file(file: File) -> str | Problem:
    """Return the text of *file*, or why it cannot be had."""
    try:
        with file.path.open("rb") as opened:
            content = opened.read(MAX_CHARACTERS + 1)
        if len(content) > MAX_CHARACTERS:
            return Problem(file.shown, 0, "", f"is larger than {MAX_CHARACTERS} bytes", "divide it into files")
        return content.decode()
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        return Problem(file.shown, line, "", "is not UTF-8", "save it as UTF-8")
    except OSError as exc:
        return unreadable(file.shown, exc)
