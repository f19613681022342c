# SPDX-License-Identifier: Apache-2.0
"""What have all lists in common? A limit, a marker, an order, a link to the next page. Used by the resources. Pure."""

from typing import Annotated, Any, ClassVar
from urllib.parse import quote, urlencode

from pydantic import Field

from cyborg_reconciler.documents.rest.base import Request
from cyborg_reconciler.stores.pages import Page, PageQuery
from cyborg_reconciler_api.operation import Call, Reply


class ListQuery(Request):
    """How much of a list, and from where. A list adds its filters, and says what it is ordered by."""

    #: Parameters that are no filters.
    OTHERS: ClassVar[frozenset[str]] = frozenset({"limit", "marker", "sort", "since"})

    limit: Annotated[int, Field(ge=1, le=1000)] = Field(100, description="How many at most.", examples=[100])
    marker: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")] | None = Field(
        None, description="The last one that is known already.", examples=["compute-1"]
    )

    def wanted(self) -> PageQuery:
        """Return it as the stores have it."""
        given = self.model_dump(exclude=set(self.OTHERS), exclude_none=True)
        return PageQuery(
            equal={name: str(value) for name, value in given.items()},
            since=getattr(self, "since", None),
            descending=getattr(self, "sort", "").endswith("desc"),
            limit=self.limit,
            marker=self.marker or "",
        )


def listed(call: Call, name: str, page: Page) -> Reply:
    """Return *page* as the body of a list that calls its things *name*."""
    given = call.query.model_dump(mode="json", exclude_unset=True)
    links = [link(call.instance, given)]
    if page.more:
        links.append(link(call.instance, {**given, "marker": page.last}, "next"))
    return Reply(f'{{"{name}":[{",".join(page.documents)}],"links":[{",".join(links)}]}}')


def link(path: str, parameters: dict[str, Any], rel: str = "self") -> str:
    """Return a link as JSON; what is encoded for a query needs nothing more for JSON."""
    words = {key: str(value).lower() if isinstance(value, bool) else value for key, value in parameters.items()}
    return f'{{"rel":"{rel}","href":"{quote(path)}{"?" if words else ""}{urlencode(words)}"}}'
