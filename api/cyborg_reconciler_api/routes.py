# SPDX-License-Identifier: Apache-2.0
"""Which operation answers which method of which path? The whole API as one table; read by `app` and `openapi`."""

import functools
from typing import Final

from cyborg_reconciler_api.operation import Table, operations_of
from cyborg_reconciler_api.resources import (
    accelerators,
    agents,
    allocations,
    backends,
    description,
    drivers,
    events,
    hardware,
    host_drivers,
    hosts,
    monitoring,
    plans,
    policies,
    root,
    runs,
    services,
)

#: What every server tells of itself, whomever it serves.
COMMON: Final = frozenset({"/", "/v1", "/healthz", "/readyz", "/metrics"})

#: Paths that carry no version.
UNVERSIONED: Final = frozenset({"/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"})


@functools.cache
def served(agents_are: str) -> Table:
    """Return what a server answers by the setting `agents`: all of the table, or what is for users or for agents.

    >>> "/v1/lookup" in served("elsewhere"), "/v1/hosts" in served("only"), "/metrics" in served("only")
    (False, False, True)
    """
    if agents_are == "here":
        return ROUTES
    for_agents = {path for path, _, one in operations_of(ROUTES) if one.access == "agent"}
    answered = for_agents | COMMON if agents_are == "only" else ROUTES.keys() - for_agents
    return {path: methods for path, methods in ROUTES.items() if path in answered}


ROUTES: Final[Table] = {
    "/v1/accelerators": {"GET": accelerators.list_, "POST": accelerators.create},
    "/v1/accelerators/{uuid}": {
        "GET": accelerators.show,
        "POST": accelerators.create_at,
        "PUT": accelerators.attach,
        "PATCH": accelerators.patch,
        "DELETE": accelerators.detach,
    },
    "/v1/accelerators/{uuid}/{acc_spec}": {"PUT": accelerators.describe},
    "/v1/allocations/{consumer}": {"GET": allocations.show, "PUT": allocations.put, "DELETE": allocations.remove},
    "/v1/hosts": {"GET": hosts.list_},
    "/v1/hosts/{host}": {"GET": hosts.show},
    "/v1/policies": {"GET": policies.list_, "POST": policies.create},
    "/v1/policies/{name}": {"GET": policies.show, "PUT": policies.replace, "DELETE": policies.remove},
    "/v1/drivers": {"GET": drivers.list_},
    "/v1/drivers/{name}": {"GET": drivers.show},
    "/v1/services": {"GET": services.list_},
    "/v1/backends": {"GET": backends.list_},
    "/v1/backends/{uuid}": {"GET": backends.show},
    "/v1/backends/{uuid}/services": {"GET": backends.services_},
    "/v1/plans": {"POST": plans.create},
    "/v1/plans/{uuid}": {"GET": plans.show},
    "/v1/plans/{uuid}/approve": {"POST": plans.approve},
    "/v1/runs": {"GET": runs.list_},
    "/v1/runs/{uuid}": {"GET": runs.show},
    "/v1/runs/{uuid}/cancel": {"POST": runs.cancel},
    "/v1/runs/{uuid}/events": {"GET": events.of_run},
    "/v1/events": {"GET": events.list_},
    "/v1/hardware": {"GET": hardware.list_},
    "/v1/hosts/{host}/hardware": {"GET": hardware.list_of_host},
    "/v1/discovery": {"POST": hardware.discover},
    "/v1/hosts/{host}/discovery": {"POST": hardware.discover_host},
    "/v1/hosts/{host}/drivers/{driver}/discovery": {"POST": hardware.discover_driver},
    "/v1/hosts/{host}/drivers/{driver}/install": {"POST": host_drivers.install},
    "/v1/hosts/{host}/drivers/{driver}/update": {"POST": host_drivers.update},
    "/v1/hosts/{host}/drivers/{driver}/uninstall": {"POST": host_drivers.uninstall},
    # What agents have, and nothing else.
    "/v1/lookup": {"POST": agents.look_up},
    "/v1/hello": {"POST": agents.hello},
    "/v1/heartbeat/{host}": {"POST": agents.check_in},
    # What the server tells of itself.
    "/": {"GET": root.versions},
    "/v1": {"GET": root.version_1},
    "/openapi.json": {"GET": description.openapi_of(served)},
    "/docs": {"GET": description.page_of(served)},
    "/healthz": {"GET": monitoring.health},
    "/readyz": {"GET": monitoring.readiness},
    "/metrics": {"GET": monitoring.metrics},
}
