# SPDX-License-Identifier: Apache-2.0
"""What travels about accelerators. Source: Cyborg's API proposal of the Pike release. Pure."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from cyborg_reconciler.documents.base import DeviceType, PciAddress, PciId
from cyborg_reconciler.documents.rest.base import Answer, FreeTree, HostName, Link, Request, Time, Title, Uuid

StateName = Literal["ready", "inactive", "maintenance"]

#: How many units, and the most that a database's integer holds.
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]

SPEC_KEYS = ("remote", "num", "device_type", "acc_type", "vendor_id", "product_id", "acc_capability")


def _given(name: str) -> dict[str, JsonValue]:
    """Return the JSON Schema of an object in which *name* is given, and is not null."""
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


class SpecsGiven(Request):
    """A specification, or the part of it that is to change."""

    remote: Annotated[int, Field(ge=0, le=1)] | None = Field(
        None, description="1: it is reached over a network.", examples=[0]
    )
    num: Count | None = Field(None, description="How many units it has.", examples=[1])
    device_type: DeviceType | None = Field(None, description="What it is for.", examples=["CRYPTO"])
    acc_type: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{0,64}$")] | None = Field(
        None, description="Its kind, more closely.", examples=["QAT"]
    )
    vendor_id: PciId | None = Field(None, description="The vendor.", examples=["8086"])
    product_id: PciId | None = Field(None, description="The product.", examples=["4940"])
    acc_capability: FreeTree | None = Field(
        None, description="What it can do: a free tree.", examples=[{"num": 2, "ipsec": {"aes": {"3des": 50}}}]
    )


class AcceleratorGiven(Request):
    """A new accelerator, or the name for one that was found."""

    model_config = ConfigDict(json_schema_extra={"if": _given("address"), "then": _given("host")})

    name: Title = Field(description="Unique among all accelerators.")
    uuid: Uuid | None = Field(None, description="Its uuid; that of hardware that was found claims it.")
    acc_specs: SpecsGiven | None = Field(None, description="Its specification.", examples=[{"device_type": "CRYPTO"}])
    host: HostName | None = Field(None, description="The host that it is on.")
    address: PciAddress | None = Field(None, description="Where it is on that host.", examples=["0000:3b:00.0"])

    @model_validator(mode="after")
    def _address_has_a_host(self) -> Self:
        if self.address is not None and self.host is None:
            msg = "an address needs the host that it is on"
            raise ValueError(msg)
        return self


class AttachmentGiven(Request):
    """Whom to attach an accelerator to: a VM or a host; without either, its own host, or the caller's project."""

    model_config = ConfigDict(json_schema_extra={"not": {"allOf": [_given("instance_uuid"), _given("host")]}})

    name: Title | None = Field(None, description="The accelerator's name; refused where it has another.")
    uuid: Uuid | None = Field(None, description="The accelerator's uuid; refused where it is another.")
    instance_uuid: Uuid | None = Field(None, description="A VM.")
    host: HostName | None = Field(None, description="A host.")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.instance_uuid is not None and self.host is not None:
            msg = "a VM or a host, not both"
            raise ValueError(msg)
        return self


class AttachmentOrSpecs(AttachmentGiven):
    """An attachment, or, where it has ``acc_specs``, an update of the specification and nothing else."""

    acc_specs: SpecsGiven | None = Field(
        None, description="What is to change in the specification.", examples=[{"acc_capability": {"num": 2}}]
    )

    @property
    def is_update(self) -> bool:
        """Whether it updates the specification, and attaches nothing."""
        return "acc_specs" in self.model_fields_set

    @model_validator(mode="after")
    def _one_purpose(self) -> Self:
        if self.is_update and len(self.model_fields_set) > 1:
            msg = "acc_specs updates the specification, anything else attaches: send one of them"
            raise ValueError(msg)
        return self


class PatchStep(Request):
    """One operation of a JSON Patch. Source: RFC 6902."""

    op: Literal["add", "replace", "test"] = Field(description="What to do.", examples=["replace"])
    path: Literal["/desired_state", "/state", "/name", "/description"] = Field(
        description="Where; /state is another word for /desired_state.", examples=["/desired_state"]
    )
    value: JsonValue = Field(description="The value.", examples=["ready"])


class Specs(Answer):
    """A specification."""

    remote: int = Field(description="1: it is reached over a network.", examples=[0])
    num: int = Field(description="How many units it has.", examples=[1])
    device_type: str = Field(description="What it is for.", examples=["CRYPTO"])
    acc_type: str = Field(description="Its kind, more closely.", examples=["QAT"])
    vendor_id: str | None = Field(description="The vendor.", examples=["8086"])
    product_id: str | None = Field(description="The product.", examples=["4940"])
    acc_capability: dict[str, Any] = Field(description="What it can do: a free tree.", examples=[{"num": 2}])


class Status(Answer):
    """How an accelerator is doing."""

    setup_required: bool = Field(description="Its driver is not set up.", examples=[False])
    reboot_required: bool = Field(description="Its host must be rebooted first.", examples=[False])
    health: str = Field(description="As hosts have it: Healthy, Degraded, …", examples=["Healthy"])
    reason: str = Field(
        "", description="Why it cannot be set up: no hardware of its host is known to be it. Else empty.", examples=[""]
    )


class Attached(Answer):
    """Whom it is attached to."""

    instance_uuid: Uuid | None = Field(None, description="A VM.")
    host: str | None = Field(None, description="A host.", examples=["compute-1"])
    project_id: str | None = Field(None, description="A project.", examples=["a9b1c2"])
    status: Literal["pending", "done", "failed"] = Field(description="Where that is.", examples=["done"])
    attached_at: Time


class Accelerator(Answer):
    """A unit of hardware or software that is, or can be made, ready to use."""

    uuid: Uuid = Field(description="That of the hardware that it comes from, where there is some.")
    name: Title = Field(description="Unique among all accelerators.")
    description: str = Field(description="For people.", examples=[""])
    host: str | None = Field(description="The host that it is on.", examples=["compute-1"])
    state: StateName = Field(description="As observed and verified.", examples=["ready"])
    desired_state: StateName = Field(description="As declared.", examples=["ready"])
    acc_specs: Specs
    acc_status: Status
    driver: str | None = Field(description="The driver that supports it.", examples=["intel-qat"])
    resource_provider_uuid: Uuid | None = Field(description="Its provider in Placement.")
    attach_info: dict[str, Any] | None = Field(
        description="How a compute service is to attach it.", examples=[{"type": "PCI", "address": "0000:3b:00.0"}]
    )
    attachment: Attached | None
    created_at: Time
    updated_at: Time
    links: list[Link]


class AcceleratorList(Answer):
    """A page of accelerators."""

    accelerator: list[Accelerator]
    links: list[Link]
