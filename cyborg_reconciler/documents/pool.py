# SPDX-License-Identifier: Apache-2.0
"""`RolloutPool`: how changes reach the hosts of a pool: how many at once, who approves, whether they may reboot. Pure."""

from typing import Annotated, Literal

from pydantic import Field

from cyborg_reconciler.documents.base import Document, Metadata, Selector


class Reboot(Document):
    """Whether a plan may reboot a host, how long that may take, and how often for one generation."""

    allowed: bool = False
    timeout_s: Annotated[int, Field(ge=30, le=7200)] = 900
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 2


class PoolSpec(Document):
    """The pool. A host is in one pool: its `host_selector` alone decides that."""

    host_selector: Selector
    max_unavailable: Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^(100|[1-9]?[0-9])%$")] = 1
    approval: Literal["automatic", "manual"] = "manual"
    reboot: Reboot = Reboot()


class RolloutPool(Document):
    """How changes reach the hosts of a pool."""

    api_version: Literal["cyborg/v1"] = Field("cyborg/v1")
    kind: Literal["RolloutPool"]
    metadata: Metadata
    spec: PoolSpec
