# SPDX-License-Identifier: Apache-2.0
"""What travels about drivers on hosts. Pure."""

from typing import Literal

from pydantic import Field

from cyborg_reconciler.documents.base import Version
from cyborg_reconciler.documents.rest.base import Answer, Link, Request, Uuid


class VersionAsked(Request):
    """Which version of a driver."""

    version: Version | None = Field(None, description="The version that is to be there.", examples=["1.2.30"])


class RunAsked(Answer):
    """A run that is to come: the host's next pass carries it out, as its pool and approvals let it."""

    uuid: Uuid
    status: Literal["pending"] = Field(description="It has not come out yet.", examples=["pending"])
    host: str = Field(description="The host.", examples=["compute-1"])
    driver: str = Field(description="The driver.", examples=["intel-qat"])
    state: Literal["present", "absent"] = Field(description="What is declared now.", examples=["present"])
    version: str | None = Field(description="The version that is to be there; any where none is.", examples=["1.2.30"])
    links: list[Link]
