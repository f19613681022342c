# SPDX-License-Identifier: Apache-2.0
"""The services: which servers, conductors, workers, agents and drivers there are, and which of them are up."""

from typing import Annotated, Final

from pydantic import Field

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.rest.base import HostName, Uuid
from cyborg_reconciler.documents.rest.fleet import ServiceList, ServiceStatus, ServiceType
from cyborg_reconciler_api.listing import ListQuery, listed
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

SHOWN: Final = {
    "uuid": "0b6c9d3e-6f0e-5d38-8a2c-7d0b8f5b1c11",
    "type": "conductor",
    "name": "http://192.0.2.10:6671",
    "host": "ctl-1",
    "status": "up",
    "message": "",
    "version": "0.1.0",
    "started_at": "2026-01-05T11:00:00Z",
    "last_seen_at": "2026-01-05T12:00:00Z",
}


class ServiceQuery(ListQuery):
    """Which services a list has, and how."""

    type: ServiceType | None = Field(None, description="What they are.", examples=["worker"])
    host: HostName | None = Field(None, description="The machine that they run on.", examples=["ctl-1"])
    status: ServiceStatus | None = Field(None, description="Whether they are up.", examples=["down"])
    marker: Uuid | None = Field(None, description="The uuid of the last one that is known already.")
    sort: Annotated[str, Field(pattern=r"^host(:(asc|desc))?$")] = Field(
        "host", description="By host, type and name: host:asc or host:desc.", examples=["host:asc"]
    )


@operation(
    "List services",
    access=Role.READER,
    query=ServiceQuery,
    answer=ServiceList,
    errors={400: "a filter or another parameter is unknown, or has no such value"},
    sample=Sample(answer={"services": [SHOWN], "links": [{"rel": "self", "href": "/v1/services"}]}),
)
def list_(services: Services, call: Call) -> Reply:
    """List what takes part, a page at a time: servers of the API, conductors, workers, agents and their drivers.

    Those of the control plane say again and again that they are up, are down when they have missed that three times,
    and are forgotten after a week. A server that serves users and agents is two of them, an API and a conductor. Agents
    are up that have checked in within three intervals, and with them those of their drivers that they said to work.
    """
    return listed(call, "services", services.presence.page(call.query.wanted()))
