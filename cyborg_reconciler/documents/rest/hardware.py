# SPDX-License-Identifier: Apache-2.0
"""What travels about hardware. Source: Cyborg's internal API, as of the Pike release. Pure."""

from typing import Literal

from pydantic import Field

from cyborg_reconciler.documents.rest.accelerator import Specs
from cyborg_reconciler.documents.rest.base import Answer, Link, Uuid


class HardwareStatus(Answer):
    """How a device is doing."""

    setup_required: bool = Field(description="Its driver is not set up.", examples=[True])
    reboot_required: bool = Field(description="Its host must be rebooted first.", examples=[False])
    health: str = Field(description="As hosts have it: Healthy, Degraded, …", examples=["Healthy"])
    reason: str = Field(description="Why it is not healthy, or why that is not known.", examples=[""])


class Hardware(Answer):
    """A physical device, supported or not."""

    uuid: Uuid = Field(description="That of the accelerator, too, where it is one.")
    host: str = Field(description="The host that it is on.", examples=["compute-1"])
    address: str = Field(description="Where it is on that host.", examples=["0000:3b:00.0"])
    acc_specs: Specs
    acc_status: HardwareStatus


class HardwareList(Answer):
    """A page of hardware."""

    hardware: list[Hardware]
    links: list[Link]


class Underway(Answer):
    """It has begun."""

    status: Literal["IN-PROGRESS"] = Field(description="That it has begun.", examples=["IN-PROGRESS"])
