# SPDX-License-Identifier: Apache-2.0
"""The operations on drivers of hosts: install, update, uninstall. Each declares, and answers with the run to come."""

from typing import Final

import msgspec

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.conductor.drivers import DriverCommand
from cyborg_reconciler.documents.rest.host_driver import RunAsked, VersionAsked
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

RUN: Final = "7f3e2f1c-0d54-4f0a-9a6b-2e5d7f0c1b22"
ASKED: Final = {
    "uuid": RUN,
    "status": "pending",
    "host": "compute-1",
    "driver": "intel-qat",
    "state": "present",
    "version": None,
    "links": [{"rel": "self", "href": f"/v1/runs/{RUN}"}],
}
BAD_VERSION: Final = "the version is none, or another parameter is unknown"
NO_SUCH: Final = "there is no such host, or no such driver"
DECLARED: Final = "a policy of the tree declares the driver there, and is named"
NO_VERSION: Final = f"{DECLARED}; or the driver is built from a source of another version"


@operation(
    "Install a driver on a host",
    access=Role.MANAGER,
    success=202,
    query=VersionAsked,
    answer=RunAsked,
    errors={400: BAD_VERSION, 404: NO_SUCH, 409: NO_VERSION},
    sample=Sample(answer=ASKED),
)
def install(services: Services, call: Call) -> Reply:
    """Declare that a driver is to be on a host, in any version or in one, and answer with the run that is to come.

    The host's next pass carries it out; it obeys the host's pool, and waits for approval where that asks for it.
    """
    return _ask(services, call, "install", call.query.version)


@operation(
    "Update a driver on a host",
    access=Role.MANAGER,
    success=202,
    query=VersionAsked,
    answer=RunAsked,
    errors={400: BAD_VERSION, 404: NO_SUCH, 409: NO_VERSION},
    sample=Sample(answer={**ASKED, "version": "1.2.30"}),
)
def update(services: Services, call: Call) -> Reply:
    """Declare that a driver is to be on a host in the version of the catalogue, or in the one that is given."""
    return _ask(services, call, "update", call.query.version)


@operation(
    "Uninstall a driver from a host",
    access=Role.MANAGER,
    success=202,
    answer=RunAsked,
    errors={404: NO_SUCH, 409: DECLARED},
    sample=Sample(answer={**ASKED, "state": "absent"}),
)
def uninstall(services: Services, call: Call) -> Reply:
    """Declare that a driver is not to be on a host, and answer with the run that is to come."""
    return _ask(services, call, "uninstall", None)


def _ask(services: Services, call: Call, command: DriverCommand, version: str | None) -> Reply:
    one = services.drivers.ask(call.caller, command, call.ids["host"], call.ids["driver"], version)
    path = f"/v1/runs/{one.run}"
    told = {name: getattr(one, name) for name in ("host", "driver", "state", "version")}
    answer = {"uuid": one.run, "status": "pending", **told, "links": [{"rel": "self", "href": path}]}
    return Reply(msgspec.json.encode(answer), location=path)
