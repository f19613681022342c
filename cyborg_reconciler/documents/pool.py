# SPDX-License-Identifier: Apache-2.0
"""`RolloutPool`: how changes reach the hosts of a pool: how many at once, who approves, may they reboot. Pure."""

from typing import Annotated, Literal

from pydantic import Field

from cyborg_reconciler.documents.base import API_VERSION, Document, Metadata, Selector, Shape

#: A share of the pool's hosts.
Percentage = Annotated[str, Field(pattern=r"^(100|[1-9][0-9]?)%$"), Shape("a percentage from 1% to 100%", "10%")]


class Reboot(Document):
    """Whether a plan may reboot a host, how long that may take, and how often for one generation."""

    allowed: bool = Field(default=False, description="Whether a plan may reboot hosts of this pool.", examples=[True])
    timeout_s: Annotated[int, Field(ge=30, le=7200)] = Field(
        900, description="Seconds until the host must be back.", examples=[900]
    )
    max_attempts: Annotated[int, Field(ge=1, le=10)] = Field(
        2, description="Reboots for one generation of a host; then RebootLoopDetected.", examples=[2]
    )


class PoolSpec(Document):
    """The pool. A host is in one pool: its `host_selector` alone decides that."""

    host_selector: Selector = Field(description="Which hosts are in the pool.", examples=[{"groups": ["crypto"]}])
    max_unavailable: Annotated[int, Field(ge=1)] | Percentage = Field(
        1, description="How many hosts, or which share of them, change at the same time.", examples=["10%"]
    )
    approval: Literal["automatic", "manual"] = Field(
        "manual", description="Whether a plan waits for a person.", examples=["manual"]
    )
    reboot: Reboot = Field(Reboot(), description="Without it no host is rebooted.", examples=[{"allowed": True}])


class RolloutPool(Document):
    """How changes reach the hosts of a pool."""

    api_version: Literal["cyborg/v1"] = Field(API_VERSION, description="The version of this document.")
    kind: Literal["RolloutPool"] = Field(description="The kind of this document.")
    metadata: Metadata = Field(description="Its name.", examples=[{"name": "crypto"}])
    spec: PoolSpec = Field(description="The pool.", examples=[{"host_selector": {"groups": ["crypto"]}}])
