# SPDX-License-Identifier: Apache-2.0
"""The operations on runs: what was carried out, and what came out."""

from typing import Annotated, Final, Literal

from pydantic import Field

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.rest.base import HostName, Uuid
from cyborg_reconciler.documents.rest.fleet import Run, RunList
from cyborg_reconciler.errors import NotFoundError
from cyborg_reconciler_api.listing import ListQuery, listed
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

UUID: Final = "7f3e2f1c-0d54-4f0a-9a6b-2e5d7f0c1b22"
PLAN: Final = "3f0e8a52-7d7c-4b54-9d0e-0f2a6a2b7c11"
LISTED: Final = {
    "uuid": UUID,
    "plan_uuid": PLAN,
    "status": "running",
    "message": "",
    "request_id": None,
    "started_at": "2026-01-05T12:00:00Z",
    "ended_at": None,
    "cancel_requested_at": None,
    "cancel_requested_by": None,
    "links": [
        {"rel": "self", "href": f"/v1/runs/{UUID}"},
        {"rel": "events", "href": f"/v1/runs/{UUID}/events"},
        {"rel": "plan", "href": f"/v1/plans/{PLAN}"},
    ],
}
SHOWN: Final = {
    **LISTED,
    "hosts": [{"host": "compute-1", "status": "running", "ended_at": None, "outcome": None}],
}
NO_SUCH: Final = "there is no such run"


class RunQuery(ListQuery):
    """Which runs a list has, and how."""

    host: HostName | None = Field(None, description="One of their hosts.")
    status: Literal["pending", "running", "applied", "failed", "interrupted", "cancelled"] | None = Field(
        None, description="How they are, or came out.", examples=["running"]
    )
    marker: Uuid | None = Field(None, description="The uuid of the last one that is known already.")
    sort: Annotated[str, Field(pattern=r"^started_at(:(asc|desc))?$")] = Field(
        "started_at:desc",
        description="In which order: started_at:desc or started_at:asc.",
        examples=["started_at:desc"],
    )


@operation(
    "List runs",
    access=Role.READER,
    query=RunQuery,
    answer=RunList,
    errors={400: "a parameter is unknown, or has no such value"},
    sample=Sample(
        answer={"runs": [{**LISTED, "outcomes": {"running": 1}}], "links": [{"rel": "self", "href": "/v1/runs"}]}
    ),
)
def list_(services: Services, call: Call) -> Reply:
    """List runs, the newest first, a page at a time. `outcomes` counts the hosts of each by what came out."""
    return listed(call, "runs", services.run_store.page(call.query.wanted()))


@operation(
    "Show a run",
    access=Role.READER,
    answer=Run,
    is_single=True,
    errors={404: NO_SUCH},
    sample=Sample(answer=SHOWN),
)
def show(services: Services, call: Call) -> Reply:
    """Show a run, and what came out for each of its hosts, step by step.

    A run is `applied` when every step was reported as done. Whether the hosts are as declared was looked at afterwards,
    and they say it themselves.
    """
    found = services.run_store.document(call.ids["uuid"])
    if found is None:
        raise NotFoundError(wanted=f"run {call.ids['uuid']}", found="there is none")
    return Reply(found)


@operation(
    "Cancel a run",
    access=Role.ADMIN,
    success=202,
    answer=Run,
    errors={404: NO_SUCH, 409: "it has ended"},
    sample=Sample(answer={**SHOWN, "cancel_requested_at": "2026-01-05T12:01:00Z", "cancel_requested_by": "admin"}),
)
def cancel(services: Services, call: Call) -> Reply:
    """Ask for a run to be the last of its pass. What has begun on a host comes to its end there.

    One that is pending is cancelled at once, and what was declared before it is declared again. Asking twice does no
    harm.
    """
    return Reply(services.runs.cancel(call.caller, call.ids["uuid"]))
