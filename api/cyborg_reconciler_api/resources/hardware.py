# SPDX-License-Identifier: Apache-2.0
"""The operations on hardware: what was found on hosts, and looking again. Source: Cyborg's internal API."""

from typing import Annotated, Final

from pydantic import Field

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.rest.base import Uuid
from cyborg_reconciler.documents.rest.hardware import HardwareList, Underway
from cyborg_reconciler_api.listing import ListQuery, listed
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.resources.accelerators import SPECS, UUID
from cyborg_reconciler_api.services import Services

NO_HOST: Final = "there is no such host"
AT_IT: Final = "its agent was asked at its own port, and is looking already"
FOUND: Final = {
    "uuid": UUID,
    "host": "compute-1",
    "address": "0000:3b:00.0",
    "acc_specs": SPECS,
    "acc_status": {"setup_required": True, "reboot_required": False, "health": "Healthy", "reason": ""},
}
LISTED: Final = Sample(answer={"hardware": [FOUND], "links": [{"rel": "self", "href": "/v1/hardware"}]})
BEGUN: Final = '{"status":"IN-PROGRESS"}'
UNDERWAY: Final = Sample(answer={"status": "IN-PROGRESS"})


class HardwareQuery(ListQuery):
    """Which part of the list."""

    marker: Uuid | None = Field(None, description="The uuid of the last one that is known already.")
    sort: Annotated[str, Field(pattern=r"^uuid(:(asc|desc))?$")] = Field(
        "uuid", description="In which order: uuid:asc or uuid:desc.", examples=["uuid:asc"]
    )


@operation("List hardware", access=Role.READER, query=HardwareQuery, answer=HardwareList, sample=LISTED)
def list_(services: Services, call: Call) -> Reply:
    """List the physical devices of all hosts, supported or not, a page at a time, in the order of their uuids."""
    return _page(services, call, "")


@operation(
    "List the hardware of a host",
    access=Role.READER,
    query=HardwareQuery,
    answer=HardwareList,
    errors={404: NO_HOST},
    sample=LISTED,
)
def list_of_host(services: Services, call: Call) -> Reply:
    """List the physical devices of a host, supported or not."""
    return _page(services, call, call.ids["host"])


def _page(services: Services, call: Call, host: str) -> Reply:
    wanted = call.query.wanted()
    page = services.hardware.page(host, wanted.limit, wanted.marker, descending=wanted.descending)
    return listed(call, "hardware", page)


@operation("Look at all hosts again", access=Role.MANAGER, success=202, answer=Underway, sample=UNDERWAY)
def discover(services: Services, call: Call) -> Reply:
    """Have every host looked at again, by its agent or by Ansible. What is desired ready is set up."""
    services.discovery.discover(call.caller)
    return Reply(BEGUN)


@operation(
    "Look at a host again",
    access=Role.MANAGER,
    success=202,
    answer=Underway,
    errors={404: NO_HOST, 409: AT_IT},
    sample=UNDERWAY,
)
def discover_host(services: Services, call: Call) -> Reply:
    """Have a host looked at again: by its agent, or by Ansible where it has none."""
    services.discovery.discover(call.caller, [call.ids["host"]])
    return Reply(BEGUN)


@operation(
    "Look at the devices of one driver again",
    access=Role.MANAGER,
    success=202,
    answer=Underway,
    errors={404: f"{NO_HOST}; or its agent, or without one the catalogue, has no such driver", 409: AT_IT},
    sample=UNDERWAY,
)
def discover_driver(services: Services, call: Call) -> Reply:
    """Have the devices that one driver of a host's agent supports looked at again."""
    services.discovery.discover(call.caller, [call.ids["host"]], call.ids["driver"])
    return Reply(BEGUN)
