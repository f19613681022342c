# SPDX-License-Identifier: Apache-2.0
"""Which operation answers which method of which path? The whole API as one table; read by `app` and `openapi`."""

from typing import Final

from cyborg_reconciler_api.operation import Table
from cyborg_reconciler_api.resources import accelerators, description, monitoring, root

#: Paths that carry no version.
UNVERSIONED: Final = frozenset({"/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"})

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
    "/": {"GET": root.versions},
    "/v1": {"GET": root.version_1},
    "/openapi.json": {"GET": description.openapi_of(lambda: ROUTES)},
    "/docs": {"GET": description.page_of(lambda: ROUTES)},
    "/healthz": {"GET": monitoring.health},
    "/readyz": {"GET": monitoring.readiness},
    "/metrics": {"GET": monitoring.metrics},
}
