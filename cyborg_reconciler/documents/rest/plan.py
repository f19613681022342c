# SPDX-License-Identifier: Apache-2.0
"""What travels about plans. Pure."""

from typing import Annotated, Any, Self

from pydantic import Field, JsonValue, model_validator

from cyborg_reconciler.documents.base import Selector
from cyborg_reconciler.documents.rest.base import Answer, HostName, Link, Request, Time, Uuid


class PlanGiven(Request):
    """For which hosts to plan: these, or those that a selector selects."""

    hosts: Annotated[tuple[HostName, ...], Field(min_length=1, max_length=1000)] | None = Field(
        None, description="Hosts of the inventory, by name.", examples=[["compute-1"]]
    )
    host_selector: Selector | None = Field(
        None, description="Hosts of the inventory, as policies select them.", examples=[{"groups": ["crypto"]}]
    )
    allow_reboot: bool = Field(
        default=False, description="Plan reboots where they are needed, whatever the pools say.", examples=[False]
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.hosts is None) == (self.host_selector is None):
            msg = "give hosts or host_selector: one of them"
            raise ValueError(msg)
        return self


class PlanChange(Answer):
    """One difference that is removed."""

    path: list[str] = Field(description="Where.", examples=[["0000:6b:00.0", "sriov", "num_vfs"]])
    observed: JsonValue = Field(description="As it is; null: it is not there.", examples=[0])
    desired: JsonValue = Field(description="As it is to be; null: it is not to be there.", examples=[16])
    policy: str | None = Field(description="Who declares it; null: nobody does any more.", examples=["qat-sriov"])
    file: str | None = Field(description="Where that stands.", examples=["policies/qat.yml"])
    line: int | None = Field(description="On which line.", examples=[4])


class PlanAction(Answer):
    """One step."""

    id: str = Field(description="Unique among the steps of the host.", examples=["sriov 0000:6b:00.0"])
    target: str = Field(description="A PCI address, or host.", examples=["0000:6b:00.0"])
    feature: str = Field(description="What of it.", examples=["sriov"])
    disruption: str = Field(description="What it costs the host's users.", examples=["device_reset"])
    reboot: bool = Field(description="Whether it reboots the host.", examples=[False])
    reason: str = Field(description="Why it is done so.", examples=[""])
    drift: bool = Field(description="Whether it was as declared before.", examples=[False])
    changes: list[PlanChange]


class PlanWait(Answer):
    """Something that is not done, and why."""

    target: str = Field(description="A PCI address, or host.", examples=["host"])
    reason: str = Field(description="One of the reasons to wait.", examples=["FactsStale"])
    message: str = Field(
        description="The same for people, with what would help.", examples=["the facts are 1200 s old"]
    )
    action: PlanAction | None = Field(None, description="What would be done.")


class PlannedHost(Answer):
    """What is planned for a host. Of a plan that a run made, the steps alone are kept."""

    host: str = Field(description="Its name.", examples=["compute-1"])
    generation: int = Field(description="Of its desired state, that it is planned for.", examples=[3])
    digest: str = Field(description="Of the actions: what an approval is bound to.", examples=["5f2b…"])
    fingerprint: str = Field(description="Of the facts that it was made from.", examples=["9c1e…"])
    steps: list[str] = Field(description="The steps, in their order.", examples=[["sriov 0000:6b:00.0"]])
    pool: str | None = Field(None, description="The host's pool.", examples=["crypto"])
    sync: str | None = Field(None, description="Whether it is as declared.", examples=["OutOfSync"])
    health: str | None = Field(None, description="How it is doing.", examples=["Progressing"])
    phase: str | None = Field(None, description="Planned, PendingApproval, or Idle.", examples=["PendingApproval"])
    facts_received_at: Time | None = Field(None, description="When the facts that it was made from came in.")
    actions: list[PlanAction] | None = Field(None, description="What would be done.")
    waits: list[PlanWait] | None = Field(None, description="What waits, and why.")
    unknown_fields: list[dict[str, Any]] | None = Field(
        None, description="What could not be read.", examples=[[{"path": ["host", "kernel_args"], "reason": "…"}]]
    )


class Plan(Answer):
    """What would be done on some hosts."""

    uuid: Uuid = Field(description="Its own.")
    created_at: Time
    created_by: str | None = Field(description="Who asked for it; null: a run made it for itself.", examples=["admin"])
    allow_reboot: bool | None = Field(description="Reboots are planned whatever the pools say.", examples=[False])
    policies_digest: str = Field(description="Of what was declared.", examples=["e3b0…"])
    approved_at: Time | None = Field(description="When somebody agreed to it.")
    approved_by: str | None = Field(description="Who agreed to it.", examples=["admin"])
    hosts: list[PlannedHost]
    summary: dict[str, int] | None = Field(None, description="Counts.", examples=[{"hosts": 1, "change": 1}])
    links: list[Link]
