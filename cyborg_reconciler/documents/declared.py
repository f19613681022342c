# SPDX-License-Identifier: Apache-2.0
"""What a source of declarations yields: documents, each with the file and line it comes from. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.documents.policy import AcceleratorPolicy
from cyborg_reconciler.documents.pool import RolloutPool
from cyborg_reconciler.errors import Problem

Document = AcceleratorPolicy | Driver | RolloutPool

#: How the place of a document begins that came over the API, and of one that is shipped. All others are files.
API_PLACE: Final = "api: "
SHIPPED_PLACE: Final = "(shipped) "

#: The place of a policy that nobody wrote: it follows from what was asked for over the API.
IMPLIED_PLACE: Final = f"{API_PLACE}implied"


def is_of_tree(place: str) -> bool:
    """Return whether a document at *place* is a tree's: the API can only read it."""
    return not place.startswith((API_PLACE, SHIPPED_PLACE))


T_co = TypeVar("T_co", bound=Document, covariant=True)


@dataclass(frozen=True, slots=True)
class Located(Generic[T_co]):
    """A document and where it stands.

    Attributes:
        lines: the line of each field, from 1, by its dotted path, e.g. ``spec.sriov.num_vfs``.
    """

    document: T_co
    file: str
    lines: Mapping[str, int] = field(default_factory=dict)

    def line(self, path: str) -> int:
        """Return the line of the field at *path*, or of its nearest ancestor that has one; 0 when none has."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path.rpartition(".")[0]
        return self.lines.get("", 0)


@dataclass(frozen=True, slots=True)
class Declared:
    """Everything declared at one moment.

    Attributes:
        policies, drivers, pools: ordered by name; a user's drivers come before the shipped ones.
        digest: of all the documents' contents; equal digests mean equal declarations. Empty: nothing is declared.
        warnings: what is allowed, and perhaps not meant.
        prunes: whether what is owned and no longer declared goes back to what it was. Not when a source that should
            declare something declares nothing: its documents may be missing by mistake.
    """

    policies: tuple[Located[AcceleratorPolicy], ...] = ()
    drivers: tuple[Located[Driver], ...] = ()
    pools: tuple[Located[RolloutPool], ...] = ()
    digest: str = ""
    warnings: tuple[Problem, ...] = ()
    prunes: bool = True
