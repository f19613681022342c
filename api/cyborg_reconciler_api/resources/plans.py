# SPDX-License-Identifier: Apache-2.0
"""The operations on plans: what would be done on hosts, by what is known of them; and to agree to it."""

from typing import Final

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.rest.plan import Plan, PlanGiven
from cyborg_reconciler.errors import NotFoundError
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

UUID: Final = "3f0e8a52-7d7c-4b54-9d0e-0f2a6a2b7c11"
HOST: Final = {
    "host": "compute-1",
    "generation": 3,
    "digest": "5f2b0c8d",
    "fingerprint": "9c1e7b0a",
    "steps": ["sriov 0000:6b:00.0"],
    "pool": "crypto",
    "sync": "OutOfSync",
    "health": "Progressing",
    "phase": "PendingApproval",
    "facts_received_at": "2026-01-05T11:58:00Z",
    "actions": [
        {
            "id": "sriov 0000:6b:00.0",
            "target": "0000:6b:00.0",
            "feature": "sriov",
            "disruption": "device_reset",
            "reboot": False,
            "reason": "",
            "drift": False,
            "changes": [
                {
                    "path": ["0000:6b:00.0", "sriov", "num_vfs"],
                    "observed": 0,
                    "desired": 16,
                    "policy": "qat-sriov",
                    "file": "policies/qat.yml",
                    "line": 8,
                }
            ],
        }
    ],
    "waits": [],
    "unknown_fields": [],
}
SHOWN: Final = {
    "uuid": UUID,
    "created_at": "2026-01-05T12:00:00Z",
    "created_by": "admin",
    "allow_reboot": False,
    "policies_digest": "e3b0c442",
    "approved_at": None,
    "approved_by": None,
    "hosts": [HOST],
    "summary": {"hosts": 1, "change": 1, "hosts_changing": 1},
    "links": [{"rel": "self", "href": f"/v1/plans/{UUID}"}],
}
APPROVED: Final = {**SHOWN, "approved_at": "2026-01-05T12:05:00Z", "approved_by": "admin"}
NO_SUCH: Final = "there is no such plan"


@operation(
    "Compute a plan",
    access=Role.ADMIN,
    success=201,
    request=PlanGiven,
    answer=Plan,
    errors={
        400: "the body is not of this shape; a host is in no inventory; a selector selects none, or more than 1000",
        409: "what is declared contradicts itself; all problems are named",
    },
    sample=Sample(request={"hosts": ["compute-1"]}, answer=SHOWN),
)
def create(services: Services, call: Call) -> Reply:
    """Compute what would be done on some hosts, by the facts that are kept of them, and keep that plan.

    No host is touched. What cannot be planned waits, and says why: a host whose facts are too old (`FactsStale`), or
    were gathered before somebody declared something that they do not speak of, has to be looked at again first.
    """
    uuid, document = services.plans.create(call.caller, call.body)
    return Reply(document, location=f"/v1/plans/{uuid}")


@operation(
    "Show a plan",
    access=Role.READER,
    answer=Plan,
    is_single=True,
    errors={404: NO_SUCH},
    sample=Sample(answer=SHOWN),
)
def show(services: Services, call: Call) -> Reply:
    """Show a plan: one that was asked for, or what a run carried out; of the latter the steps alone are kept."""
    found = services.plan_store.document(call.ids["uuid"])
    if found is None:
        raise NotFoundError(wanted=f"plan {call.ids['uuid']}", found="there is none")
    return Reply(found)


@operation(
    "Approve a plan",
    access=Role.ADMIN,
    answer=Plan,
    errors={
        404: NO_SUCH,
        409: "it is not what would be planned now: facts, policies or what follows from them have changed, or the "
        "facts have become too old; or it does nothing; or a run made it for itself",
    },
    sample=Sample(answer=APPROVED),
)
def approve(services: Services, call: Call) -> Reply:
    """Agree to a plan. Whoever keeps the hosts as declared looks at them, and carries it out.

    The approval is for just these actions under this generation, on each host by itself: when either changes, that host
    waits again.
    """
    return Reply(services.plans.approve(call.caller, call.ids["uuid"]))
