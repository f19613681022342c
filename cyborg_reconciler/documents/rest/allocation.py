# SPDX-License-Identifier: Apache-2.0
"""What travels about allocations. Pure."""

from typing import Annotated

from pydantic import Field

from cyborg_reconciler.documents.rest.base import Answer, Link, Request, Time, Uuid

#: Units of an accelerator, up to what a database's integer holds.
Amount = Annotated[int, Field(ge=1, le=2**31 - 1, examples=[1])]


class AllocationGiven(Request):
    """So much of an accelerator."""

    accelerator: Uuid = Field(description="The accelerator's uuid.")
    amount: Amount = Field(description="How many of its units.")


class AllocationsGiven(Request):
    """All that a consumer is to have."""

    allocations: Annotated[tuple[AllocationGiven, ...], Field(min_length=1, max_length=1000)] = Field(
        description="What it is to have; it takes the place of what it has.",
        examples=[[{"accelerator": "8e45a2ea-5364-4b0d-a252-bf8becaa606e", "amount": 1}]],
    )


class Allocation(Answer):
    """So much of an accelerator."""

    accelerator: Uuid = Field(description="The accelerator's uuid.")
    amount: int = Field(description="How many of its units.", examples=[1])


class AllocationsShown(Answer):
    """All that a consumer has."""

    consumer: Uuid = Field(description="Who has it: a VM, say.")
    allocations: list[Allocation]
    created_at: Time
    links: list[Link]
