# SPDX-License-Identifier: Apache-2.0
"""`AcceleratorPolicy`: the document that declares desired state for the hosts and devices that it selects. Pure."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cyborg_reconciler.documents.base import (
    API_VERSION,
    ArgName,
    ArgValue,
    Document,
    Metadata,
    Mode,
    ModuleName,
    Name,
    PciAddress,
    PciId,
    Selector,
    VfRange,
)

OneOrMany = PciId | tuple[PciId, ...]


class DeviceSelector(Document):
    """Which devices of a selected host: keys are AND, the items of a list are OR."""

    vendor_id: OneOrMany | None = None
    product_id: OneOrMany | None = None
    device_type: str | tuple[str, ...] | None = Field(None, description="GPU, CRYPTO, NIC, NVME, FPGA or PROCESSING")
    class_id: str | tuple[str, ...] | None = Field(None, alias="class", description="the first digits of the class, e.g. 0b40")
    addresses: tuple[PciAddress, ...] = ()
    serials: tuple[str, ...] = ()
    net_names: tuple[str, ...] = ()


class DriverSpec(Document):
    """A driver of the catalogue, by name, and whether it is to be there."""

    name: Name
    version: str | None = None
    state: Literal["present", "absent"] = "present"


class KernelModules(Document):
    """Modules of the host. `load` and `blacklist` of several policies unite; other lists are atomic."""

    load: tuple[ModuleName, ...] = ()
    blacklist: tuple[ModuleName, ...] = ()
    options: dict[ModuleName, dict[ArgName, ArgValue | int]] = {}

    @model_validator(mode="after")
    def _no_module_twice(self) -> Self:
        both = {name.replace("-", "_") for name in self.load} & {name.replace("-", "_") for name in self.blacklist}
        if both:
            msg = f"{', '.join(sorted(both))}: in load and in blacklist; keep it in one of them"
            raise ValueError(msg)
        return self


class VfGroup(Document):
    """A range of VFs that is bound to another driver than the rest."""

    vfs: VfRange
    driver: ModuleName


class Sriov(Document):
    """Virtual functions of a PF."""

    num_vfs: Annotated[int, Field(ge=0, le=65535)] | None = None
    vf_driver: ModuleName | None = None
    groups: tuple[VfGroup, ...] = ()


class Binding(Document):
    """What a device without VFs is bound to. vfio-pci takes the whole IOMMU group."""

    driver: ModuleName


class PolicySpec(Document):
    """What is desired."""

    priority: Annotated[int, Field(ge=0, le=1000)] = 50
    mode: Mode = "enforce"
    suspend: bool = False
    host_selector: Selector
    device_selector: DeviceSelector | None = None
    driver: DriverSpec | None = None
    kernel_args: dict[ArgName, ArgValue | Literal[True] | tuple[ArgValue, ...]] = {}
    kernel_modules: KernelModules | None = None
    sriov: Sriov | None = None
    binding: Binding | None = None

    @model_validator(mode="after")
    def _devices_where_needed(self) -> Self:
        if (self.sriov or self.binding) and self.device_selector is None:
            msg = "sriov and binding need a device_selector; add one"
            raise ValueError(msg)
        if self.binding and self.sriov and (self.sriov.num_vfs or 0) > 0:
            msg = "binding and sriov.num_vfs above 0 exclude each other on one device; keep one of them"
            raise ValueError(msg)
        return self


class AcceleratorPolicy(Document):
    """Desired state for the hosts and devices that it selects."""

    api_version: Literal["cyborg/v1"] = Field(API_VERSION)
    kind: Literal["AcceleratorPolicy"]
    metadata: Metadata
    spec: PolicySpec
