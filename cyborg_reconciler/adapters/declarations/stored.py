# SPDX-License-Identifier: Apache-2.0
"""What is declared beside the tree, and what the tree declares to those who cannot see it.

`StoredPolicies` is what `YamlDeclarations` is given beside its paths; `RecordedDeclarations` fills the port for the
API, which plans without a tree. Both read the database through the stores, and write nothing. Made by `bootstrap`.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cyborg_reconciler.adapters.declarations.catalogue import read_catalogue
from cyborg_reconciler.documents.assemble import assemble
from cyborg_reconciler.documents.declared import API_PLACE, Declared
from cyborg_reconciler.documents.parse import Parsed, parse_json
from cyborg_reconciler.errors import DeclarationsInvalidError, Problem
from cyborg_reconciler.ports import Source
from cyborg_reconciler.stores.policies import DeclaredStore, PolicyStore


@dataclass(frozen=True, slots=True)
class StoredPolicies:
    """The policies that the API was given."""

    store: PolicyStore

    def stamp(self) -> str:
        """Return a digest that is another one whenever one came, went or changed."""
        return self.store.stamp()

    def read(self) -> Parsed:
        """Return them, or all that is wrong with them: an older release may have taken what this one does not."""
        return united([parse_json(one.text, f"{API_PLACE}{one.name}") for one in self.store.policies()])


class RecordedDeclarations:
    """What the tree declared when it was last read, and what *others* declare now.

    It is parsed once for each state of it, be that valid or not: one object serves all of a process. Safe to call from
    many threads.
    """

    def __init__(self, store: DeclaredStore, others: Sequence[Source]) -> None:
        self._store, self._others = store, others
        self._lock = threading.Lock()
        self._known: tuple[str, Declared | Sequence[Problem]] | None = None

    def stamp(self) -> str:
        """Return a digest that is another one whenever something may be declared otherwise."""
        return " ".join([self._store.stamp(), *(source.stamp() for source in self._others)])

    def read(self) -> Declared:
        """Return all of it.

        Raises:
            DeclarationsInvalidError: a document has a problem, or documents contradict each other.
        """
        known = self._known
        if known is None or known[0] != self.stamp():
            with self._lock:  # who comes meanwhile has it from the one who parses it
                stamp, known = self.stamp(), self._known  # the stamp first: what comes later is seen next time
                if known is None or known[0] != stamp:
                    known = self._known = stamp, self._parsed()
        found = known[1]
        if not isinstance(found, Declared):
            raise DeclarationsInvalidError(found)
        return found

    def _parsed(self) -> Declared | Sequence[Problem]:
        try:
            return self._parse()
        except DeclarationsInvalidError as exc:
            return exc.problems

    def _parse(self) -> Declared:
        parsed = united([Parsed(tuple(self._store.documents())), *(source.read() for source in self._others)])
        declared, contradictions = assemble(parsed.documents, read_catalogue(), parsed.drivers)
        if problems := (*parsed.problems, *contradictions):
            raise DeclarationsInvalidError(problems)
        return replace(declared, prunes=self._store.prunes())


def united(all_parsed: Sequence[Parsed]) -> Parsed:
    """Return what came of several texts as if they were one."""
    return Parsed(
        tuple(document for parsed in all_parsed for document in parsed.documents),
        tuple(problem for parsed in all_parsed for problem in parsed.problems),
        frozenset(name for parsed in all_parsed for name in parsed.drivers),
    )
