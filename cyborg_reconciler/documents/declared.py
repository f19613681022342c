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

#: What stands in the place of a file, of what is declared over the API.
API: Final = "api"

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
        undoes: what is not declared any more goes back to what it was, as long as there is one policy; False where a
            source came up empty that may be so by mistake.
        warnings: what is allowed, and perhaps not meant.
    """

    policies: tuple[Located[AcceleratorPolicy], ...] = ()
    drivers: tuple[Located[Driver], ...] = ()
    pools: tuple[Located[RolloutPool], ...] = ()
    digest: str = ""
    undoes: bool = True
    warnings: tuple[Problem, ...] = ()
