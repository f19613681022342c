# SPDX-License-Identifier: Apache-2.0
"""What the API and the conductor keep of accelerators and hardware, and what they ask of the database for that.

No I/O in here; the database's adapter fills the Protocols.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Protocol

import msgspec

from cyborg_reconciler.core.state import HEALTHS, Health
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.pages import Page

#: What can be declared of an accelerator, and what can be observed.
State = Literal["ready", "inactive", "maintenance"]

#: Where an attachment is: recorded, carried out, or given up.
AttachStatus = Literal["pending", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """Whom an accelerator is attached to: one of a VM, a host, a project.

    Attributes:
        status: ``done`` for a VM and a project, whose attachment is the record itself; of a host, once it was verified.
    """

    status: AttachStatus
    attached_at: datetime
    instance_uuid: str | None = None
    host: str | None = None
    project_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """What the public API offers: a device, a part of one, or something that an operator told of.

    Attributes:
        uuid: that of the hardware that it comes from, where there is some.
        name: unique among all.
        host, address: where it was found; None without hardware.
        parent: the uuid of the PF, of a VF.
        origin: ``discovery`` found it in the facts, or a ``driver`` of the host's agent where no facts tell of it;
            ``api``: an operator told of it, and owns its specification.
        claimed: an operator has named it.
        acc_capability: the tree as discovery or its owner gave it. overlay: what an operator laid over it since.
        state: as it was observed and verified. desired_state: as it is declared.
        present: it was there at the last look.
        health: as it was seen. told_health: what its host's agent says of it.
        state_policy, binding_policy: the policies that declare its state and its binding, with their place.
        version: rises with every change; what an update must have seen.
    """

    uuid: str
    name: str
    created_at: datetime
    updated_at: datetime
    host: str | None = None
    address: str | None = None
    parent: str | None = None
    origin: Literal["discovery", "driver", "api"] = "discovery"
    claimed: bool = False
    description: str = ""
    device_type: str = "GENERIC"
    acc_type: str = ""
    vendor_id: str | None = None
    product_id: str | None = None
    remotable: int = 0
    num: int = 1
    acc_capability: Mapping[str, Any] = field(default_factory=dict)
    overlay: Mapping[str, Any] = field(default_factory=dict)
    driver: str | None = None
    state: State = "inactive"
    desired_state: State = "inactive"
    health: Health = Health.UNKNOWN
    setup_required: bool = False
    reboot_required: bool = False
    attach_info: Mapping[str, Any] | None = None
    attachment: Attachment | None = None
    resource_provider_uuid: str | None = None
    present: bool = True
    state_policy: str = ""
    binding_policy: str = ""
    told_health: Health = Health.HEALTHY
    version: int = 1

    @property
    def fares(self) -> Health:
        """How it fares: the worse of what was seen and what its host's agent says; what is gone, by that alone."""
        return max(self.health, self.told_health, key=HEALTHS.index) if self.present else self.health

    @property
    def waits(self) -> str:
        """Why nothing can make it ready, which names a host: no hardware there is known to be it; else empty."""
        if self.host is None or self.address is not None:
            return ""
        return (
            f"nothing that was found on {self.host} has its uuid; until something has, it is not set up. "
            "What is there already is claimed by its own uuid, or by host and address"
        )


#: Where the public API has accelerators.
ACCELERATORS: Final = "/v1/accelerators"


def document_of(one: Accelerator) -> str:
    """Return the JSON document that the public API gives of an accelerator."""
    return msgspec.json.encode(
        {
            "uuid": one.uuid,
            "name": one.name,
            "description": one.description,
            "host": one.host,
            "state": one.state,
            "desired_state": one.desired_state,
            "acc_specs": {
                "remote": one.remotable,
                "num": one.num,
                "device_type": one.device_type,
                "acc_type": one.acc_type,
                "vendor_id": one.vendor_id,
                "product_id": one.product_id,
                "acc_capability": laid_over(one.acc_capability, one.overlay),
            },
            "acc_status": {
                "setup_required": one.setup_required,
                "reboot_required": one.reboot_required,
                "health": one.fares,
                "reason": one.waits,
            },
            "driver": one.driver,
            "resource_provider_uuid": one.resource_provider_uuid,
            "attach_info": one.attach_info,
            "attachment": _attachment(one.attachment),
            "created_at": one.created_at,
            "updated_at": one.updated_at,
            "links": [{"rel": "self", "href": f"{ACCELERATORS}/{one.uuid}"}],
        }
    ).decode()


def _attachment(one: Attachment | None) -> dict[str, Any] | None:
    if one is None:
        return None
    target = {"instance_uuid": one.instance_uuid, "host": one.host, "project_id": one.project_id}
    named = {key: value for key, value in target.items() if value is not None}
    return {**named, "status": one.status, "attached_at": one.attached_at}


def laid_over(tree: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return *tree* with *overlay* laid over it, branch by branch.

    >>> laid_over({"num": 2, "ipsec": {"aes": 1}}, {"ipsec": {"des": 50}})
    {'num': 2, 'ipsec': {'aes': 1, 'des': 50}}
    """
    found = dict(tree)
    for key, value in overlay.items():
        below = found.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        found[key] = laid_over(below, value) if both else value  # type: ignore[arg-type]  # both are, when it is read
    return found


#: By what accelerators can be listed in order; the uuid decides between equals.
SortKey = Literal["uuid", "name", "host", "created_at", "updated_at"]


@dataclass(frozen=True, slots=True)
class AcceleratorFilter:
    """Which accelerators, in which order, how many, and after which; None and empty: whichever.

    Attributes:
        attached: whether they are attached. marker: the uuid of the last one that is known already.
    """

    equal: Mapping[str, str] = field(default_factory=dict)
    attached: bool | None = None
    sort: SortKey = "uuid"
    descending: bool = False
    limit: int = 100
    marker: str = ""


class ObservedAccelerators(Protocol):
    """The accelerators, as far as the worker asks. Every method raises JournalError, as a journal's do."""

    def found_on(self, hosts: Collection[str]) -> Sequence[Accelerator]:
        """Return the accelerators that are there on *hosts*, at an address."""

    def record(self, seen: Sequence[tuple[Accelerator, Sequence[Event]]]) -> None:
        """Keep what was observed of accelerators, and what is to be told of each, in one transaction.

        No host is looked at for that. What has another version than was *seen* by now stays as it is.
        """

    def unsettled(self, hosts: Collection[str]) -> Sequence[Accelerator]:
        """Return the accelerators that are attached to one of *hosts*, which is not done."""

    def implying(self) -> Sequence[Accelerator]:
        """Return the accelerators at an address of a host that an operator wants attached to it, or in some state."""


class AcceleratorStore(ObservedAccelerators, Protocol):
    """The accelerators. Every method raises JournalError (or a subclass) when the database cannot be used."""

    def page(self, wanted: AcceleratorFilter) -> Page:
        """Return a page of what is *wanted*; never more than that is read.

        Raises:
            RequestInvalidError: the marker is that of no accelerator, where the order asks for more than its uuid.
        """

    def document(self, uuid: str) -> tuple[str, int] | None:
        """Return the accelerator's JSON document and its version; None when there is no such accelerator."""

    def accelerator(self, uuid: str) -> Accelerator | None:
        """Return the accelerator."""

    def at(self, host: str, address: str) -> Accelerator | None:
        """Return the accelerator that was found on *host* at *address*, and is still there."""

    def add(self, one: Accelerator, event: Event) -> None:
        """Keep a new accelerator, tell of it, and have its host looked at, in one transaction.

        Raises:
            ConflictError: its name or its uuid is taken.
        """

    def update(self, one: Accelerator, seen: int, event: Event) -> Accelerator:
        """Keep what has become of an accelerator whose version was *seen*; return it with its new version.

        In one transaction with *event*; the host that it is on, and the one that it is attached to, are looked at next.

        Raises:
            OvertakenError: it has another version by now. ConflictError: its name is taken.
        """

    def allocated(self, uuid: str) -> Sequence[str]:
        """Return the consumers that have an allocation of the accelerator."""


@dataclass(frozen=True, slots=True)
class Device:
    """A physical device that was found, supported or not.

    Attributes:
        is_accelerator: it is offered; not so where that could not be told.
    """

    uuid: str
    host: str
    address: str
    is_accelerator: bool


class HardwareStore(Protocol):
    """Every physical device that was found. Every method raises JournalError when the database cannot be used."""

    def device(self, uuid: str) -> Device | None:
        """Return the device, there or not."""

    def device_at(self, host: str, address: str) -> Device | None:
        """Return the device that is at *address* on *host*."""

    def has_host(self, name: str) -> bool:
        """Return whether there is a host of this name."""

    def page(self, host: str, limit: int, marker: str, *, descending: bool = False) -> Page:
        """Return a page of the hardware that is there, of one host or (empty) of all, in the order of uuids.

        Raises:
            NotFoundError: there is no such host.
        """
