# SPDX-License-Identifier: Apache-2.0
"""The operations on accelerators. Source: Cyborg's API proposal of the Pike release, and what this project adds."""

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import Field

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.base import DeviceType, PciId
from cyborg_reconciler.documents.rest.accelerator import (
    SPEC_KEYS,
    Accelerator,
    AcceleratorGiven,
    AcceleratorList,
    AttachmentOrSpecs,
    PatchStep,
    SpecsGiven,
    StateName,
)
from cyborg_reconciler.documents.rest.base import HostName, Request, Title, Uuid
from cyborg_reconciler.errors import FieldError, ForbiddenError, NotFoundError, RequestInvalidError
from cyborg_reconciler.stores.accelerators import ACCELERATORS, AcceleratorFilter, document_of
from cyborg_reconciler.stores.accelerators import Accelerator as Record
from cyborg_reconciler_api.listing import listed
from cyborg_reconciler_api.operation import JSON, JSON_PATCH, Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

UUID: Final = "8e45a2ea-5364-4b0d-a252-bf8becaa606e"
SPECS: Final = {
    "remote": 0,
    "num": 1,
    "device_type": "CRYPTO",
    "acc_type": "QAT",
    "vendor_id": "8086",
    "product_id": "4940",
    "acc_capability": {"num": 2, "ipsec": {"aes": {"3des": 50, "num": 1}}},
}
SHOWN: Final = {
    "uuid": UUID,
    "name": "IPSec Card",
    "description": "",
    "host": "compute-1",
    "state": "ready",
    "desired_state": "ready",
    "acc_specs": SPECS,
    "acc_status": {"setup_required": False, "reboot_required": False, "health": "Healthy", "reason": ""},
    "driver": "intel-qat",
    "resource_provider_uuid": None,
    "attach_info": {"type": "PCI", "address": "0000:3b:00.0"},
    "attachment": None,
    "created_at": "2026-01-05T12:00:00Z",
    "updated_at": "2026-01-05T12:00:00Z",
    "links": [{"rel": "self", "href": f"{ACCELERATORS}/{UUID}"}],
}
ATTACHED: Final = {
    **SHOWN,
    "attachment": {"host": "compute-1", "status": "pending", "attached_at": "2026-01-05T12:00:00Z"},
}

NO_SUCH: Final = "there is no such accelerator"
BAD_BODY: Final = "the body is not JSON, or not of this shape; every field that is wrong is named"
OVERTAKEN: Final = "another process updated it first: the ETag of If-Match is not its own any more, or it lost a race"


class AcceleratorQuery(Request):
    """Which accelerators a list has, and how."""

    device_type: DeviceType | None = Field(None, description="What they are for.", examples=["CRYPTO"])
    acc_type: str | None = Field(None, max_length=64, description="Their kind, more closely.", examples=["QAT"])
    vendor_id: PciId | None = Field(None, description="The vendor.", examples=["8086"])
    product_id: PciId | None = Field(None, description="The product.", examples=["4940"])
    host: HostName | None = Field(None, description="The host that they are on.")
    state: StateName | None = Field(None, description="As observed.", examples=["ready"])
    name: Title | None = Field(None, description="The name.")
    driver: str | None = Field(None, max_length=255, description="The driver.", examples=["intel-qat"])
    resource_provider_uuid: Uuid | None = Field(None, description="The provider in Placement.")
    attached: bool | None = Field(None, description="Whether they are attached.", examples=[False])
    instance_uuid: Uuid | None = Field(None, description="The VM that they are attached to.")
    limit: Annotated[int, Field(ge=1, le=1000)] = Field(100, description="How many at most.", examples=[100])
    marker: Uuid | None = Field(None, description="The uuid of the last one that is known already.")
    sort: Annotated[str, Field(pattern=r"^(uuid|name|host|created_at|updated_at)(:(asc|desc))?$")] = Field(
        "uuid", description="In which order: a field, and :asc or :desc.", examples=["name:asc"]
    )

    def as_filter(self) -> AcceleratorFilter:
        """Return it as the store has it."""
        others = {"attached", "limit", "marker", "sort"}
        key, _, direction = self.sort.partition(":")
        return AcceleratorFilter(
            equal=self.model_dump(exclude=others, exclude_none=True),
            attached=self.attached,
            sort=key,  # type: ignore[arg-type]  # the pattern lets nothing else pass
            descending=direction == "desc",
            limit=self.limit,
            marker=self.marker or "",
        )


@operation(
    "List accelerators",
    access=Role.READER,
    query=AcceleratorQuery,
    answer=AcceleratorList,
    errors={400: "the marker is that of no accelerator, where the order asks for more than its uuid"},
    sample=Sample(answer={"accelerator": [SHOWN], "links": [{"rel": "self", "href": ACCELERATORS}]}),
)
def list_(services: Services, call: Call) -> Reply:
    """List accelerators in every state, a page at a time. Filters are AND; `next` in `links` leads to the next page."""
    return listed(call, "accelerator", services.accelerator_store.page(call.query.as_filter()))


@operation(
    "Show an accelerator",
    access=Role.READER,
    answer=Accelerator,
    is_single=True,
    errors={404: NO_SUCH},
    sample=Sample(answer=SHOWN),
)
def show(services: Services, call: Call) -> Reply:
    """Show an accelerator: what it is, how it is doing, and whom it is attached to. Its version is the ETag."""
    found = services.accelerator_store.document(call.ids["uuid"])
    if found is None:
        raise NotFoundError(wanted=f"accelerator {call.ids['uuid']}", found="there is none")
    return Reply(found[0], version=found[1])


CREATED: Final = Sample(request={"name": "IPSec Card", "uuid": UUID})
CREATING: Final = {
    400: f"{BAD_BODY}; or there is no such host, or what has the uuid is elsewhere",
    409: "another accelerator has the name or the uuid; or what was found there is no accelerator, or nothing was",
}


@operation(
    "Create an accelerator",
    access=Role.ADMIN,
    success=201,
    request=AcceleratorGiven,
    errors=CREATING,
    sample=CREATED,
)
def create(services: Services, call: Call) -> Reply:
    """Create an accelerator, or claim one that discovery found, by its uuid or by its host and address.

    One on no host is ready at once; one that names a host, and one that was found, becomes ready when its driver is set
    up and verified there. What a policy declares of the state of what was found stays so.

    One that names a host, and neither an address there nor the uuid of hardware that was found, is a record: it becomes
    that hardware if something with its uuid is found. Until then `acc_status.reason` says so, and it is not ready.
    """
    return _created(services, services.accelerators.create(call.caller, call.body))


@operation(
    "Create an accelerator with a given uuid",
    access=Role.ADMIN,
    success=201,
    request=AcceleratorGiven,
    errors=CREATING,
    sample=CREATED,
)
def create_at(services: Services, call: Call) -> Reply:
    """Create an accelerator with the uuid of the path; a uuid in the body must be the same one."""
    given: AcceleratorGiven = call.body
    if given.uuid not in {None, call.ids["uuid"]}:
        raise RequestInvalidError("the body", [FieldError("$.uuid", "is another than that of the path")])
    given = given.model_copy(update={"uuid": call.ids["uuid"]})
    return _created(services, services.accelerators.create(call.caller, given))


def _created(services: Services, one: Record) -> Reply:
    _hasten(services, one)
    # The specification's own spelling, without the version.
    return Reply(location=f"/accelerators/{one.uuid}", version=one.version)


def _hasten(services: Services, one: Record) -> None:
    """Have the agent hear at once what is wanted of *one*, if its driver is the agent's."""
    if one.origin == "driver" and one.host is not None:
        services.discovery.hasten(one.host)


def _updated(one: Record) -> Reply:
    return Reply(document_of(one), version=one.version)


class SpecsOfKey(SpecsGiven):
    """An update of one key of the specification, by its own name or inside of acc_specs."""

    acc_specs: SpecsGiven | None = Field(None, description="The key in its specification.", examples=[{"num": 1}])


@operation(
    "Update the specification",
    access=Role.MEMBER,
    request=SpecsOfKey,
    answer=Accelerator,
    is_single=True,
    errors={
        400: f"{BAD_BODY}; or the path names no key of a specification",
        403: "it is not attached to the caller's project, and he is no admin",
        404: NO_SUCH,
        409: f"{OVERTAKEN}; or discovery found another value",
    },
    sample=Sample(request={"acc_capability": {"num": 2}}, answer=SHOWN),
)
def describe(services: Services, call: Call) -> Reply:
    """Update the specification: all that is given (`acc-specs`), or the one key that the path names.

    Of what discovery found, `remote` can be set, and more can be laid over `acc_capability`; that survives rediscovery.
    """
    key = call.ids["acc_spec"].replace("-", "_")
    given = call.body.model_dump(exclude_none=True)
    specs = given.pop("acc_specs", {}) | given
    if key != "acc_specs":
        if key not in SPEC_KEYS:
            raise RequestInvalidError("the path", [FieldError("acc_spec", f"is none of {', '.join(SPEC_KEYS)}")])
        if set(specs) != {key}:
            raise RequestInvalidError("the body", [FieldError("$", f"must have {key}, and nothing else")])
    elif given:
        raise RequestInvalidError("the body", [FieldError("$.acc_specs", "must stand there alone")])
    return _described(services, call, SpecsGiven.model_validate(specs))


def _described(services: Services, call: Call, specs: SpecsGiven | None) -> Reply:
    """Update the specification, as the body says; both ways to ask for that are answered alike."""
    if specs is None or not specs.model_dump(exclude_none=True):
        raise RequestInvalidError("the body", [FieldError("$.acc_specs", "must say what is to change")])
    return _updated(services.accelerators.describe(call.caller, call.ids["uuid"], specs, call.seen))


@operation(
    "Attach an accelerator, or update its specification",
    access=Role.MEMBER,
    request=AttachmentOrSpecs,
    answer=Accelerator,
    is_single=True,
    errors={
        400: f"{BAD_BODY}; or there is no such host; or it has `acc_specs` and a target",
        403: "the specification is not the caller's to change",
        404: NO_SUCH,
        409: f"it is attached already, or not ready, or a policy declares its binding; {OVERTAKEN}",
    },
    sample=Sample(request={"name": "IPSec Card", "uuid": UUID}, answer=ATTACHED),
)
def attach(services: Services, call: Call) -> Reply:
    """Attach the accelerator to a VM (`instance_uuid`) or a host; without either, to its own host.

    One on no host is attached to the caller's project. A VM's attachment is recorded, and carried out by the compute
    service; a host's is on its way until `attachment.status` says that it is done. A body with `acc_specs` updates the
    specification instead.
    """
    if call.body.is_update:
        return _described(services, call, call.body.acc_specs)
    return _updated(services.accelerators.attach(call.caller, call.ids["uuid"], call.body, call.seen))


@operation(
    "Detach an accelerator",
    access=Role.MEMBER,
    success=204,
    is_single=True,
    errors={
        403: "it is attached to another project, and the caller is no admin",
        404: NO_SUCH,
        409: f"there are allocations of it; {OVERTAKEN}",
    },
    sample=Sample(),
)
def detach(services: Services, call: Call) -> Reply:
    """Detach the accelerator. It stays, for others to use."""
    return Reply(version=services.accelerators.detach(call.caller, call.ids["uuid"], call.seen).version)


#: What of an accelerator is nobody's to change but an admin's.
NAMING: Final = frozenset({"/name", "/description"})
Patch = Annotated[Sequence[PatchStep], Field(min_length=1, max_length=16)]


@operation(
    "Set an accelerator ready, inactive or in maintenance; rename it",
    access=Role.MANAGER,
    request=Patch,
    answer=Accelerator,
    is_single=True,
    content_types=(JSON_PATCH, JSON),
    errors={
        400: "the body is no JSON Patch for these paths, or has no such value",
        403: "name and description are an admin's to change",
        404: NO_SUCH,
        409: f"a policy declares the state, and is named; the name is taken; a test fails; {OVERTAKEN}",
    },
    sample=Sample(request=[{"op": "replace", "path": "/desired_state", "value": "ready"}], answer=SHOWN),
)
def patch(services: Services, call: Call) -> Reply:
    """Change `desired_state`, which a manager may, and as an admin `name` or `description`.

    What is set ready has its driver installed and verified by the reconciler; it is offered as ready only then. Where
    no hardware is known to be it, it waits for that, and `acc_status.reason` says so.
    """
    if call.caller.role < Role.ADMIN and any(step.op != "test" and step.path in NAMING for step in call.body):
        raise ForbiddenError(
            wanted="to change name or description",
            found=f"{call.caller.name} is {call.caller.role}",
            remedy=f"ask somebody who is {Role.ADMIN}",
        )
    one = services.accelerators.patch(call.caller, call.ids["uuid"], call.body, call.seen)
    _hasten(services, one)
    return _updated(one)
