# SPDX-License-Identifier: Apache-2.0
"""The operations on hosts: where each stands. Nothing is changed here."""

from typing import Annotated, Final

from pydantic import Field

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.rest.fleet import HealthName, HostList, HostShown, PhaseName, SyncName
from cyborg_reconciler.errors import NotFoundError
from cyborg_reconciler_api.listing import ListQuery, listed
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

SHOWN: Final = {
    "name": "compute-1",
    "uuid": "5d2b64a0-6a3e-4d0f-9c1b-2f6f4a2d9d11",
    "sync": "OutOfSync",
    "health": "Progressing",
    "phase": "PendingApproval",
    "failed_in": None,
    "reason": "PendingApproval",
    "message": "`cyborg-reconciler approve --limit compute-1` lets it go on; `apply` asks for itself",
    "generation": 3,
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "PendingApproval",
            "message": "`cyborg-reconciler approve --limit compute-1` lets it go on; `apply` asks for itself",
            "last_transition_time": "2026-01-05T12:00:00Z",
            "observed_generation": 3,
        }
    ],
    "fingerprint": "9c1e7b0a",
    "facts_received_at": "2026-01-05T12:00:00Z",
    "observed_at": "2026-01-05T12:00:00Z",
    "changed_at": None,
    "agent_seen_at": None,
    "groups": ["crypto"],
    "labels": {"pool": "crypto"},
    "links": [{"rel": "self", "href": "/v1/hosts/compute-1"}],
}


class HostQuery(ListQuery):
    """Which hosts a list has, and how."""

    sync: SyncName | None = Field(None, description="Whether they are as declared.", examples=["OutOfSync"])
    health: HealthName | None = Field(None, description="How they are doing.", examples=["Degraded"])
    phase: PhaseName | None = Field(None, description="Where in a change they are.", examples=["PendingApproval"])
    sort: Annotated[str, Field(pattern=r"^name(:(asc|desc))?$")] = Field(
        "name", description="In which order: name:asc or name:desc.", examples=["name:asc"]
    )


@operation(
    "List hosts",
    access=Role.READER,
    query=HostQuery,
    answer=HostList,
    errors={400: "a filter or another parameter is unknown, or has no such value"},
    sample=Sample(answer={"hosts": [SHOWN], "links": [{"rel": "self", "href": "/v1/hosts"}]}),
)
def list_(services: Services, call: Call) -> Reply:
    """List every host that was ever seen, by name, a page at a time. Filters are AND; the marker is a host's name."""
    return listed(call, "hosts", services.hosts.page(call.query.wanted()))


@operation(
    "Show a host",
    access=Role.READER,
    answer=HostShown,
    is_single=True,
    errors={404: "no host of this name was ever seen"},
    sample=Sample(answer=SHOWN),
)
def show(services: Services, call: Call) -> Reply:
    """Show where a host stands: whether it is as declared, what is being done, what waits and why.

    Conditions have the manner of Kubernetes': a type, a status, a reason and since when it is so. `AgentSilent` is
    there for hosts with an agent.
    """
    found = services.hosts.document(call.ids["host"])
    if found is None:
        raise NotFoundError(wanted=f"host {call.ids['host']}", found="none of this name was ever seen")
    return Reply(found)
