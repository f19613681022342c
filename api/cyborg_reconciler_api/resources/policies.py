# SPDX-License-Identifier: Apache-2.0
"""The operations on policies: what is declared over the API, and, to be read, what the tree declares."""

from typing import Annotated, Final, Literal

from pydantic import Field

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.rest.policy import Policy, PolicyBody, PolicyList
from cyborg_reconciler.errors import NotFoundError
from cyborg_reconciler_api.listing import ListQuery, listed
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

DOCUMENT: Final = {
    "api_version": "cyborg/v1",
    "kind": "AcceleratorPolicy",
    "metadata": {"name": "qat-sriov"},
    "spec": {
        "host_selector": {"groups": ["crypto"]},
        "device_selector": {"vendor_id": "8086", "product_id": ["4940"]},
        "sriov": {"num_vfs": 16, "vf_driver": "vfio-pci"},
    },
}
SHOWN: Final = {
    "name": "qat-sriov",
    "owner": "api",
    "file": None,
    "also_in": None,
    "policy": DOCUMENT,
    "created_at": "2026-01-05T12:00:00Z",
    "updated_at": "2026-01-05T12:00:00Z",
    "links": [{"rel": "self", "href": "/v1/policies/qat-sriov"}],
}
BODY: Final = PolicyBody()

NO_SUCH: Final = "neither the API nor the tree has such a policy"
WRONG: Final = (
    "the document is not valid: every problem is named, with its JSON path and what would be right; "
    "or it names a driver that there is not"
)
OF_TREE: Final = "it stands in the tree, whose file is named: change it there"
OVERTAKEN: Final = "another process updated it first: the ETag of If-Match is not its own any more, or it lost a race"


class PolicyQuery(ListQuery):
    """Which policies a list has, and how."""

    owner: Literal["api", "tree"] | None = Field(None, description="Whose they are.", examples=["api"])
    sort: Annotated[str, Field(pattern=r"^name(:(asc|desc))?$")] = Field(
        "name", description="In which order: name:asc or name:desc.", examples=["name:asc"]
    )


@operation(
    "List policies",
    access=Role.READER,
    query=PolicyQuery,
    answer=PolicyList,
    errors={400: "a parameter is unknown, or has no such value"},
    sample=Sample(answer={"policies": [SHOWN], "links": [{"rel": "self", "href": "/v1/policies"}]}),
)
def list_(services: Services, call: Call) -> Reply:
    """List the policies of API and tree, by name, a page at a time.

    Those of the tree (`owner` is `tree`) say in which file they stand, and can only be read here; they are listed as
    the tree was when hosts were last looked at.
    """
    return listed(call, "policies", services.policy_store.page(call.query.wanted()))


@operation(
    "Show a policy",
    access=Role.READER,
    answer=Policy,
    is_single=True,
    errors={404: NO_SUCH},
    sample=Sample(answer=SHOWN),
)
def show(services: Services, call: Call) -> Reply:
    """Show a policy, and whose it is. Its version is the ETag."""
    return _shown(services, call.ids["name"])


def _shown(services: Services, name: str, status: int | None = None) -> Reply:
    found = services.policy_store.document(name)
    if found is None:
        raise NotFoundError(wanted=f"policy {name}", found="there is none")
    return Reply(found[0], version=found[1], status=status)


@operation(
    "Declare a policy",
    access=Role.ADMIN,
    success=201,
    request=BODY,
    errors={400: WRONG, 409: "the API or the tree has a policy of this name; where the tree has it, its file is named"},
    sample=Sample(request=DOCUMENT),
)
def create(services: Services, call: Call) -> Reply:
    """Declare desired state: the same document as in YAML, an `AcceleratorPolicy`, as JSON.

    It is resolved together with the tree's policies at the next look at the hosts: priorities, modes, pools and
    approvals are the same. Names are unique over both.
    """
    made = services.policies.create(call.caller, call.body)
    return Reply(location=f"/v1/policies/{made.name}", version=made.version)


@operation(
    "Replace a policy",
    access=Role.ADMIN,
    request=BODY,
    answer=Policy,
    is_single=True,
    errors={400: f"{WRONG}; or it has another name", 404: NO_SUCH, 409: f"{OF_TREE}; {OVERTAKEN}"},
    sample=Sample(request=DOCUMENT, answer=SHOWN),
)
def replace(services: Services, call: Call) -> Reply:
    """Put another document of the same name in the place of a policy."""
    name = call.ids["name"]
    services.policies.replace(call.caller, name, call.body, call.seen)
    return _shown(services, name)


@operation(
    "Delete a policy",
    access=Role.ADMIN,
    success=204,
    is_single=True,
    errors={404: NO_SUCH, 409: f"{OF_TREE}; {OVERTAKEN}"},
    sample=Sample(),
)
def remove(services: Services, call: Call) -> Reply:
    """Declare it no more: what this policy alone had set goes back to what it was before, as approvals and pools allow.

    Nothing goes back while there is no policy left at all, or while the tree has come to declare nothing.
    """
    services.policies.remove(call.caller, call.ids["name"], call.seen)
    return Reply()
