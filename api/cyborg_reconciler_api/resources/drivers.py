# SPDX-License-Identifier: Apache-2.0
"""The operations on drivers: the catalogue, of shipped ones and of those that the tree declares."""

from collections.abc import Sequence
from typing import Annotated, Final
from urllib.parse import quote

from pydantic import Field

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.declared import Located, is_of_tree
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.documents.rest.base import Link
from cyborg_reconciler.documents.rest.policy import DriverList, DriverShown
from cyborg_reconciler.errors import NotFoundError
from cyborg_reconciler.stores.pages import Page
from cyborg_reconciler_api.listing import ListQuery, listed
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

DRIVERS: Final = "/v1/drivers"
SHOWN: Final = {
    "name": "edu",
    "owner": "tree",
    "file": "policies/edu.yml",
    "driver": {
        "api_version": "cyborg/v1",
        "kind": "Driver",
        "metadata": {"name": "edu"},
        "spec": {"device_type": "PROCESSING", "kernel_module": "edu", "match": [{"vendor_id": "1234"}]},
    },
    "links": [{"rel": "self", "href": f"{DRIVERS}/edu"}],
}


class DriverQuery(ListQuery):
    """Which drivers a list has, and how."""

    sort: Annotated[str, Field(pattern=r"^name(:(asc|desc))?$")] = Field(
        "name", description="In which order: name:asc or name:desc.", examples=["name:asc"]
    )


@operation(
    "List drivers",
    access=Role.READER,
    query=DriverQuery,
    answer=DriverList,
    errors={400: "a parameter is unknown, or has no such value"},
    sample=Sample(answer={"drivers": [SHOWN], "links": [{"rel": "self", "href": DRIVERS}]}),
)
def list_(services: Services, call: Call) -> Reply:
    """List the catalogue, by name: the drivers that came with this release, and those that the tree declares.

    One of the tree takes the place of a shipped one of the same name.
    """
    wanted = call.query.wanted()
    found = sorted(_all(services), key=_name, reverse=wanted.descending)
    after = [
        one
        for one in found
        if not wanted.marker or (_name(one) < wanted.marker if wanted.descending else _name(one) > wanted.marker)
    ]
    shown = after[: wanted.limit]
    last = _name(shown[-1]) if shown else ""
    return listed(call, "drivers", Page([_document(one) for one in shown], last, len(after) > len(shown)))


@operation(
    "Show a driver",
    access=Role.READER,
    answer=DriverShown,
    is_single=True,
    errors={404: "neither this release nor the tree has such a driver"},
    sample=Sample(answer=SHOWN),
)
def show(services: Services, call: Call) -> Reply:
    """Show what a driver is for: which devices it matches, what can be declared of them, and which roles install it."""
    name = call.ids["name"]
    for one in _all(services):
        if _name(one) == name:
            return Reply(_document(one))
    raise NotFoundError(wanted=f"driver {name}", found="there is none")


def _all(services: Services) -> Sequence[Located[Driver]]:
    """Return the catalogue: a few dozen documents, in no order."""
    own = services.declared.drivers()
    names = {_name(one) for one in own}
    return [*own, *(one for one in services.shipped_drivers if _name(one) not in names)]


def _name(one: Located[Driver]) -> str:
    return one.document.metadata.name


def _document(one: Located[Driver]) -> str:
    of_tree, name = is_of_tree(one.file), _name(one)
    shown = DriverShown(
        name=name,
        owner="tree" if of_tree else "shipped",
        file=one.file if of_tree else None,
        driver=one.document.model_dump(mode="json", by_alias=True, exclude_unset=True),
        links=[Link(rel="self", href=f"{DRIVERS}/{quote(name)}")],
    )
    return shown.model_dump_json()
