# SPDX-License-Identifier: Apache-2.0
"""`AcceleratorPolicy`: the document that declares desired state for the hosts and devices that it selects. Pure."""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from cyborg_reconciler.documents.base import (
    API_VERSION,
    NOT_EMPTY,
    AcceleratorState,
    ArgName,
    ArgValue,
    DeviceType,
    Document,
    DocumentError,
    Metadata,
    Mode,
    ModuleName,
    Name,
    PciAddress,
    PciClass,
    PciId,
    Selector,
    Text,
    Version,
    VfRange,
)

#: More groups than any device has drivers; it bounds the search for overlaps.
MAX_GROUPS: Final = 256


def _is_true(value: object) -> object:
    if value is not True:
        raise ValueError("not true")
    return value


#: A kernel argument without a value. (1 equals true in Python, and would pass for it.)
BareWord = Annotated[Literal[True], BeforeValidator(_is_true)]

OneOrMany = PciId | Annotated[tuple[PciId, ...], NOT_EMPTY]


class DeviceSelector(Document):
    """Which devices of a selected host: keys are AND, the items of a list are OR."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    vendor_id: OneOrMany | None = Field(None, description="The vendor's id.", examples=["8086"])
    product_id: OneOrMany | None = Field(None, description="The product's id.", examples=[("4940", "4942")])
    device_type: DeviceType | Annotated[tuple[DeviceType, ...], NOT_EMPTY] | None = Field(
        None, description="What the device is for, by its driver, its ids or its class.", examples=["CRYPTO"]
    )
    class_id: PciClass | Annotated[tuple[PciClass, ...], NOT_EMPTY] | None = Field(
        None, alias="class", description="The first digits of the device's class.", examples=["0b40"]
    )
    addresses: Annotated[tuple[PciAddress, ...], NOT_EMPTY] = Field(
        (), description="PCI addresses.", examples=[("0000:3b:00.0",)]
    )
    serials: Annotated[tuple[Text, ...], NOT_EMPTY] = Field(
        (), description="Serial numbers, as `observe` shows them.", examples=[("b4-96-91-ff-ff-12-34-56",)]
    )
    net_names: Annotated[tuple[Text, ...], NOT_EMPTY] = Field(
        (), description="Names of network interfaces.", examples=[("ens1f0",)]
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise DocumentError(
                "",
                "selects nothing in particular",
                'name devices, e.g. {vendor_id: "8086"}, or leave device_selector out',
            )
        return self


class DriverSpec(Document):
    """A driver of the catalogue, by name, and whether it is to be there."""

    name: Name = Field(description="The name of a Driver document.", examples=["virtio-crypto"])
    version: Version | None = Field(
        None, description="The version that is to be there; any without.", examples=["1.2.30"]
    )
    state: Literal["present", "absent"] = Field(
        "present", description="Whether it is to be there.", examples=["present"]
    )


class KernelModules(Document):
    """Modules of the host. `load` and `blacklist` of several policies unite; other lists are atomic."""

    load: tuple[ModuleName, ...] = Field((), description="Loaded now and at boot.", examples=[("vfio-pci",)])
    blacklist: tuple[ModuleName, ...] = Field((), description="Not loaded by device ids.", examples=[("nouveau",)])
    options: dict[ModuleName, dict[ArgName, ArgValue | int]] = Field(
        {}, description="Options by module, for its next load.", examples=[{"vfio-pci": {"disable_vga": 1}}]
    )

    @model_validator(mode="after")
    def _no_module_twice(self) -> Self:
        both = {kernel_name(name) for name in self.load} & {kernel_name(name) for name in self.blacklist}
        if both:
            raise DocumentError("blacklist", f"{', '.join(sorted(both))} stands in load too", "keep it in one of them")
        _refuse_twins("options", self.options)
        for module, options in self.options.items():
            _refuse_twins(f"options.{module}", options)
        return self


class VfGroup(Document):
    """A range of VFs that is bound to another driver than the rest."""

    vfs: VfRange = Field(description="The VFs, by index from 0.")
    driver: ModuleName = Field(description="What they are bound to; none: nothing.")

    @property
    def indexes(self) -> range:
        """The VFs' indexes."""
        first, _, last = self.vfs.partition("-")
        return range(int(first), int(last or first) + 1)

    @model_validator(mode="after")
    def _goes_upwards(self) -> Self:
        if not self.indexes:
            first, _, last = self.vfs.partition("-")
            raise DocumentError("vfs", f"{self.vfs} goes backwards", f'write "{last}-{first}"')
        return self


class Sriov(Document):
    """Virtual functions of a PF."""

    num_vfs: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="How many VFs there are to be; 0: none.", examples=[4]
    )
    vf_driver: ModuleName | None = Field(
        None, description="What the VFs are bound to; none: nothing.", examples=["vfio-pci"]
    )
    groups: Annotated[tuple[VfGroup, ...], Field(max_length=MAX_GROUPS)] = Field(
        (), description="VFs that are bound to another driver.", examples=[({"vfs": "0-3", "driver": "vfio-pci"},)]
    )

    @model_validator(mode="after")
    def _groups_agree(self) -> Self:
        for index, group in enumerate(self.groups):
            if self.num_vfs is not None and group.indexes.stop > self.num_vfs:
                last = f"VFs are 0-{self.num_vfs - 1}" if self.num_vfs else "there are no VFs"
                raise DocumentError(
                    f"groups.{index}.vfs",
                    f"{group.vfs} goes beyond num_vfs {self.num_vfs}: {last}",
                    "raise num_vfs, or lower the range",
                )
        for (_, group), (later, other) in combinations(enumerate(self.groups), 2):
            shared = range(max(group.indexes.start, other.indexes.start), min(group.indexes.stop, other.indexes.stop))
            if shared and group.driver != other.driver:
                raise DocumentError(
                    f"groups.{later}.vfs",
                    f"VF {shared.start} is in {group.vfs} ({group.driver}) and in {other.vfs} ({other.driver})",
                    "give each VF one driver",
                )
        return self


class Binding(Document):
    """What a device without VFs is bound to. vfio-pci takes the whole IOMMU group."""

    driver: ModuleName = Field(description="The driver, or its module; none: nothing.", examples=["vfio-pci"])


class PolicySpec(Document):
    """What is desired."""

    priority: Annotated[int, Field(ge=0, le=1000)] = Field(
        50,
        description="The higher wins, field by field; equal priority and different values are an error.",
        examples=[50],
    )
    mode: Mode = Field("enforce", description="enforce corrects drift, warn reports it.", examples=["enforce"])
    suspend: bool = Field(default=False, description="Whether everything of this policy waits.", examples=[False])
    host_selector: Selector = Field(description="Which hosts.", examples=[{"groups": ["crypto"]}])
    device_selector: DeviceSelector | None = Field(
        None, description="Which of their devices.", examples=[{"vendor_id": "8086", "product_id": ["4940"]}]
    )
    state: AcceleratorState | None = Field(
        None,
        description="ready: the driver is set up and verified; inactive: it is not set up; maintenance: nothing of the "
        "devices is changed. Without: as if nobody had said so.",
        examples=["ready"],
    )
    driver: DriverSpec | None = Field(None, description="The devices' driver.", examples=[{"name": "virtio-crypto"}])
    kernel_args: dict[ArgName, ArgValue | BareWord | Annotated[tuple[ArgValue, ...], NOT_EMPTY]] = Field(
        {},
        description="Kernel arguments: text, a list for a repeated one, true for a bare word. They take a reboot.",
        examples=[{"intel_iommu": "on", "nosmt": True}],
    )
    kernel_modules: KernelModules | None = Field(
        None, description="Modules of the host.", examples=[{"blacklist": ["nouveau"]}]
    )
    sriov: Sriov | None = Field(
        None, description="Virtual functions.", examples=[{"num_vfs": 4, "vf_driver": "vfio-pci"}]
    )
    binding: Binding | None = Field(
        None, description="What the devices themselves are bound to.", examples=[{"driver": "vfio-pci"}]
    )

    @model_validator(mode="after")
    def _features_agree(self) -> Self:
        for field in ("state", "sriov", "binding"):
            if getattr(self, field) is not None and self.device_selector is None:
                raise DocumentError(
                    field, "needs to know which devices", 'add a device_selector, e.g. {vendor_id: "8086"}'
                )
        if self.state == "ready" and self.driver and self.driver.state == "absent":
            raise DocumentError(
                "driver.state",
                "takes away what state: ready sets up",
                "keep one of them; state: inactive sets up nothing",
            )
        if self.binding and self.sriov and (self.sriov.num_vfs or 0) > 0:
            raise DocumentError(
                "binding",
                "excludes num_vfs above 0 on the same device",
                "keep binding or sriov; for VFs there is vf_driver",
            )
        if self.binding and self.device_selector and self.device_selector.net_names:
            raise DocumentError(
                "binding",
                "takes the net device away by whose name net_names selects",
                "select by addresses, or by vendor_id and product_id",
            )
        _refuse_twins("kernel_args", self.kernel_args)
        return self


class AcceleratorPolicy(Document):
    """Desired state for the hosts and devices that it selects."""

    api_version: Literal["cyborg/v1"] = Field(API_VERSION, description="The version of this document.")
    kind: Literal["AcceleratorPolicy"] = Field(description="The kind of this document.")
    metadata: Metadata = Field(description="Its name.", examples=[{"name": "qat-sriov"}])
    spec: PolicySpec = Field(description="What is desired.", examples=[{"host_selector": {"groups": ["crypto"]}}])


def kernel_name(name: str) -> str:
    """Return *name* as the kernel compares it: - and _ are the same."""
    return name.replace("-", "_")


def _refuse_twins(field: str, names: Iterable[str]) -> None:
    """Raise when two of *names* are one name to the kernel."""
    twins = [name for name, count in Counter(map(kernel_name, names)).items() if count > 1]
    if twins:
        raise DocumentError(field, f"{twins[0]} stands there twice, with - and with _", "keep one of them")
