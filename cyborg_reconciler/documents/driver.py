# SPDX-License-Identifier: Apache-2.0
"""`Driver`: how one family of devices is supported; an entry of the catalogue. Pure."""

from typing import Annotated, Literal

from pydantic import Field

from cyborg_reconciler.documents.base import Document, Metadata, ModuleName, PciId

#: A role by its full name; it reaches Ansible as it is.
RoleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]

Feature = Literal["driver", "kernel_args", "kernel_modules", "sriov", "binding"]


class Match(Document):
    """Which devices the driver is for: keys are AND, the items of a list are OR; none: every device."""

    vendor_id: PciId | None = None
    product_id: tuple[PciId, ...] = ()
    class_id: str | None = Field(None, alias="class")


class Roles(Document):
    """The roles that install and remove the driver, each given `cyborg_driver`. Without: there is nothing to install."""

    install: RoleName
    uninstall: RoleName


class DkmsSource(Document):
    """A source tree with a dkms.conf, on the controller; relative to the document's own file."""

    path: str
    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]{1,64}$")]


class DriverDocSpec(Document):
    """What the driver is."""

    device_type: Literal["GPU", "CRYPTO", "NIC", "NVME", "FPGA", "PROCESSING", "GENERIC"]
    match: tuple[Match, ...] = ()
    kernel_module: ModuleName | None = None
    version: str | None = None
    features: tuple[Feature, ...] = ()
    conflicts: tuple[ModuleName, ...] = ()
    roles: Roles | None = None
    dkms: DkmsSource | None = None


class Driver(Document):
    """A catalogue entry."""

    api_version: Literal["cyborg/v1"] = Field("cyborg/v1")
    kind: Literal["Driver"]
    metadata: Metadata
    spec: DriverDocSpec
