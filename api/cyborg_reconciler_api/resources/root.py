# SPDX-License-Identifier: Apache-2.0
"""The versions of the API. Source: OpenStack's API guidelines, "API Discoverability"."""

from typing import Any, Final

import msgspec

from cyborg_reconciler.documents.rest.root import OneVersion, Versions
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

#: Paths without a host: clients resolve them against the address by which they know this server, perhaps a proxy's.
V1: Final[dict[str, Any]] = {
    "id": "v1.0",
    "status": "CURRENT",
    "links": [{"rel": "self", "href": "/v1/"}, {"rel": "collection", "href": "/"}],
}
ALL: Final = {"versions": [V1]}
ONE: Final = {"version": V1}


@operation("List the versions of the API", access="anybody", answer=Versions, sample=Sample(answer=ALL))
def versions(services: Services, call: Call) -> Reply:
    """List the versions of the API that this server speaks, and where each is. Nobody is asked who he is."""
    del services, call
    return Reply(msgspec.json.encode(ALL))


@operation("Show version 1 of the API", access="anybody", answer=OneVersion, sample=Sample(answer=ONE))
def version_1(services: Services, call: Call) -> Reply:
    """Show where version 1 of the API stands; `collection` in its links leads to the list of all versions."""
    del services, call
    return Reply(msgspec.json.encode(ONE))
