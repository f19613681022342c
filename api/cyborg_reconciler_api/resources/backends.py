# SPDX-License-Identifier: Apache-2.0
"""The operations on backends: a backend is one driver on one host. Source: Cyborg's generic driver, Pike."""

from typing import Annotated, Final

from pydantic import Field

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.rest.base import HostName, Title, Uuid
from cyborg_reconciler.documents.rest.fleet import Backend, BackendList, BackendServices
from cyborg_reconciler.errors import NotFoundError
from cyborg_reconciler_api.listing import ListQuery, link, listed
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

PATH: Final = "/v1/backends/0b6c9d3e-6f0e-5d38-8a2c-7d0b8f5b1c11"
SHOWN: Final = {
    "uuid": "0b6c9d3e-6f0e-5d38-8a2c-7d0b8f5b1c11",
    "host": "compute-1",
    "driver": "intel-qat",
    "health": "Healthy",
    "accelerators": 4,
    "states": {"ready": 4},
    "type": None,
    "status": None,
    "endpoint_known": False,
    "told_at": None,
    "discovered_at": "2026-01-05T12:00:00Z",
    "links": [{"rel": "self", "href": PATH}, {"rel": "services", "href": f"{PATH}/services"}],
}
NO_SUCH: Final = "there is no such backend"


class BackendQuery(ListQuery):
    """Which backends a list has, and how."""

    host: HostName | None = Field(None, description="The host.")
    driver: Title | None = Field(None, description="The driver.", examples=["intel-qat"])
    marker: Uuid | None = Field(None, description="The uuid of the last one that is known already.")
    sort: Annotated[str, Field(pattern=r"^host(:(asc|desc))?$")] = Field(
        "host", description="By host and driver: host:asc or host:desc.", examples=["host:asc"]
    )


@operation(
    "List backends",
    access=Role.READER,
    query=BackendQuery,
    answer=BackendList,
    errors={400: "a parameter is unknown, or has no such value"},
    sample=Sample(answer={"backends": [SHOWN], "links": [{"rel": "self", "href": "/v1/backends"}]}),
)
def list_(services: Services, call: Call) -> Reply:
    """List backends, by host and driver, a page at a time. A backend is one driver on one host: what it has found.

    It is a driver of the catalogue that the host has devices of, or one that the host's agent has, or both.
    """
    return listed(call, "backends", services.backends.page(call.query.wanted()))


@operation(
    "Show a backend",
    access=Role.READER,
    answer=Backend,
    is_single=True,
    errors={404: NO_SUCH},
    sample=Sample(answer=SHOWN),
)
def show(services: Services, call: Call) -> Reply:
    """Show how many accelerators a driver has found on a host, how they are, and what the driver says of itself."""
    found = services.backends.document(call.ids["uuid"])
    if found is None:
        raise NotFoundError(wanted=f"backend {call.ids['uuid']}", found="there is none")
    return Reply(found)


@operation(
    "List what a backend offers",
    access=Role.READER,
    answer=BackendServices,
    is_single=True,
    errors={404: NO_SUCH},
    sample=Sample(
        answer={
            "services": [{"device_type": "CRYPTO", "acc_type": "QAT", "accelerators": 4, "ready": 4, "num": 4}],
            "links": [{"rel": "self", "href": f"{PATH}/services"}],
        }
    ),
)
def services_(services: Services, call: Call) -> Reply:
    """List the kinds of acceleration that a backend offers, and how many of its accelerators are ready for each."""
    found = services.backends.services(call.ids["uuid"])
    if found is None:
        raise NotFoundError(wanted=f"backend {call.ids['uuid']}", found="there is none")
    return Reply(f'{{"services":[{",".join(found)}],"links":[{link(call.instance, {})}]}}')
