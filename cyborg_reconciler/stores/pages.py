# SPDX-License-Identifier: Apache-2.0
"""Which part of a list is wanted, and what is given of it? What all stores that are listed have in common. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list: each thing as the JSON document that the API gives, and whether there are more after the last.

    Attributes:
        last: by what the next page begins after the last one, see the query's marker; empty when there is none.
    """

    documents: Sequence[str]
    last: str = ""
    more: bool = False


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which things of a list, in which order, how many, and after which.

    Attributes:
        equal: fields and the values that they must have. since: of events, from when on.
        marker: the last one that is known already, by what the list is ordered by; empty: begin at the beginning.
    """

    equal: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    descending: bool = False
    limit: int = 100
    marker: str = ""
