# SPDX-License-Identifier: Apache-2.0
"""The operations on allocations: who has how much of which accelerator."""

from typing import Final

import msgspec

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.rest.allocation import AllocationsGiven, AllocationsShown
from cyborg_reconciler.errors import FieldError, NotFoundError, RequestInvalidError
from cyborg_reconciler.stores.allocations import Allocations
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.parsing import UUID as CANONICAL
from cyborg_reconciler_api.services import Services

CONSUMER: Final = "0c5d6a3b-9b1e-4a57-8f5c-1d2e3f4a5b6c"
UUID: Final = "8e45a2ea-5364-4b0d-a252-bf8becaa606e"
PATH: Final = "/v1/allocations"
GIVEN: Final = {"allocations": [{"accelerator": UUID, "amount": 1}]}
SHOWN: Final = {
    "consumer": CONSUMER,
    **GIVEN,
    "created_at": "2026-01-05T12:00:00Z",
    "links": [{"rel": "self", "href": f"{PATH}/{CONSUMER}"}],
}
NONE: Final = "the consumer has no allocation"
OVERTAKEN: Final = "another process changed it first: the ETag of If-Match is not its own any more, or it lost a race"


@operation(
    "Show what a consumer has",
    access=Role.READER,
    answer=AllocationsShown,
    is_single=True,
    errors={404: NONE},
    sample=Sample(answer=SHOWN),
)
def show(services: Services, call: Call) -> Reply:
    """Show which accelerators a consumer has allocated, and how many units of each."""
    found = services.allocation_store.of(call.ids["consumer"])
    if found is None:
        raise NotFoundError(wanted=f"allocations of {call.ids['consumer']}", found="there are none")
    return _shown(found)


def _shown(found: Allocations) -> Reply:
    document = {
        "consumer": found.consumer,
        "allocations": [{"accelerator": uuid, "amount": amount} for uuid, amount in sorted(found.amounts.items())],
        "created_at": found.created_at,
        "links": [{"rel": "self", "href": f"{PATH}/{found.consumer}"}],
    }
    return Reply(msgspec.json.encode(document), version=found.version)


@operation(
    "Set what a consumer has",
    access=Role.ADMIN,
    request=AllocationsGiven,
    answer=AllocationsShown,
    is_single=True,
    errors={
        400: "the body is not of this shape, or there is no such accelerator; the consumer is no uuid",
        409: f"others have so much of an accelerator that there is not enough left; {OVERTAKEN}",
    },
    sample=Sample(request=GIVEN, answer=SHOWN),
)
def put(services: Services, call: Call) -> Reply:
    """Let a consumer have just these accelerators, and nothing else. While it has one, that stays attached."""
    consumer = call.ids["consumer"]
    if not CANONICAL.fullmatch(consumer):
        raise RequestInvalidError("the path", [FieldError("consumer", "is not a uuid in lower case, with dashes")])
    return _shown(services.allocations.put(call.caller, consumer, call.body.allocations, call.seen))


@operation(
    "Take from a consumer all that it has",
    access=Role.ADMIN,
    success=204,
    is_single=True,
    errors={404: NONE, 409: OVERTAKEN},
    sample=Sample(),
)
def remove(services: Services, call: Call) -> Reply:
    """Forget what a consumer has; its accelerators can be detached then."""
    services.allocations.remove(call.caller, call.ids["consumer"], call.seen)
    return Reply()
