# SPDX-License-Identifier: Apache-2.0
"""What is a simulated host made of? Tests, the bench and the demo put these values together; `write_tree` builds them.

Pure: the dataclasses, and their way to JSON and back (the kernel's process reads the machine from its tree).
"""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, Literal

#: The release of Debian 12's kernel that the machines run unless they say otherwise.
KERNEL: Final = "6.1.0-28-amd64"

#: Base class 06, subclass 04: PCI-to-PCI bridge. Source: PCI Code and ID Assignment Specification.
BRIDGE: Final = "0604"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sriov:
    """A function's SR-IOV capability: routing ids of its VFs are its own + offset + index * stride."""

    total_vfs: int
    vf_device_id: str
    offset: int = 1
    stride: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A network port: the net device that a driver makes of it, and how the host's network set-up configures it."""

    name: str
    mac: str
    address: str | None = None  # IPv4 with prefix length, e.g. 192.0.2.10/24
    gateway: str | None = None  # of a default route


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A block device; *mounts* are the mount points of its partitions in order, "" for one that is not mounted."""

    name: str  # nvme0n1, vda
    size_gib: int = 480
    model: str = "Simulated SSD"
    mounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MdevType:
    """A type of mediated device."""

    type_id: str
    name: str
    available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One PCI function.

    Attributes:
        under: the address of the bridge above it, None on a root bus.
        isolated: False puts it into the IOMMU group of function 0 of its slot, as a device without ACS is.
        iommu_group: a number of the author's choice, e.g. to put a bridge and a device into one group.
        virtio: the virtio device type behind a virtio-pci function (2 block, 20 crypto).
        link: speed in GT/s and width as they are now; link_max as they could be.
    """

    address: str
    vendor_id: str
    product_id: str
    class_id: str
    subsystem_vendor_id: str = "0000"
    subsystem_id: str = "0000"
    revision: str = "00"
    numa_node: int = 0
    under: str | None = None
    isolated: bool = True
    iommu_group: int | None = None
    sriov: Sriov | None = None
    ports: tuple[Port, ...] = ()
    disk: Disk | None = None
    mdev_types: tuple[MdevType, ...] = ()
    virtio: int | None = None
    serial: str | None = None
    part_number: str | None = None
    slot: str | None = None
    link: tuple[str, int] | None = ("16.0", 16)
    link_max: tuple[str, int] | None = ("16.0", 16)
    name: str = ""

    @property
    def is_bridge(self) -> bool:
        """Say whether this is a PCI-to-PCI bridge."""
        return self.class_id.startswith(BRIDGE)

    @property
    def modalias(self) -> str:
        """Return the modalias. Source: Linux, drivers/pci/pci-sysfs.c, modalias_show."""
        base, sub, interface = (self.class_id[i : i + 2].upper() for i in (0, 2, 4))
        return (
            f"pci:v0000{self.vendor_id.upper()}d0000{self.product_id.upper()}"
            f"sv0000{self.subsystem_vendor_id.upper()}sd0000{self.subsystem_id.upper()}"
            f"bc{base}sc{sub}i{interface}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A kernel module as it lies on disk, and what its code does.

    Attributes:
        path: below ``/lib/modules/<kernel>``.
        aliases: patterns of the modaliases that it drives.
        driver: the name of the driver that it registers on *bus*, if any.
        sriov: the driver can make VFs.
        makes: what a bound device gets: ``net``, ``nvme``, ``block``, ``drm``, ``mdev``, ``vfio``, ``virtio``.
        parameters: those that ``/sys/module/*/parameters`` shows, with their defaults.
    """

    name: str
    path: str
    aliases: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    driver: str | None = None
    bus: str = "pci"
    sriov: bool = False
    makes: tuple[str, ...] = ()
    version: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    description: str = ""
    licence: str = "GPL"
    signer: str | None = "Debian Secure Boot CA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A host: its hardware, and how it was installed.

    Attributes:
        modules, builtin: of every kernel in *kernels* (the newest first; it is the one that boots).
        early_modules: those that the initramfs loads, by the modprobe configuration that it was built with.
        grub_args: GRUB_CMDLINE_LINUX of ``/etc/default/grub``.
        boot_args_fixed: what GRUB is told never takes effect, as when a hypervisor boots the kernel itself.
        iommu: ``on``; ``argument``: needs intel_iommu=on or amd_iommu=on; ``absent``.
        secure_boot: None is a machine without UEFI.
        family: ``debian`` (update-grub, initramfs-tools) or ``redhat`` (grubby, dracut).
        grubby_syncs: grubby keeps ``/etc/kernel/cmdline`` in step with the entries, as only some of its versions do.
        files: further files, path → text.
        groups, labels: how the inventory lists it.
    """

    name: str
    functions: tuple[Function, ...]
    modules: tuple[Module, ...]
    builtin: tuple[Module, ...] = ()
    kernels: tuple[str, ...] = (KERNEL,)
    early_modules: tuple[str, ...] = ()
    grub_args: str = ""
    boot_args_fixed: bool = False
    iommu: Literal["on", "argument", "absent"] = "on"
    secure_boot: bool | None = None
    family: Literal["debian", "redhat"] = "debian"
    grubby_syncs: bool = True
    files: dict[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)

    def function(self, address: str) -> Function | None:
        """Return the function at *address*, None where there is none; a VF is not part of the machine."""
        return next((function for function in self.functions if function.address == address), None)


def virtual_function(physical: Function, index: int) -> Function:
    """Return VF *index* of *physical*. Source: Linux, drivers/pci/iov.c, pci_iov_virtfn_bus and _devfn."""
    sriov = physical.sriov
    if sriov is None:
        message = f"{physical.address} has no SR-IOV capability"
        raise ValueError(message)
    number = routing_id(physical.address) + sriov.offset + index * sriov.stride
    domain = physical.address.partition(":")[0]
    address = f"{domain}:{number >> 8:02x}:{number >> 3 & 0x1F:02x}.{number & 7:x}"
    ports = (virtual_port(physical.ports[0], index),) if physical.ports else ()
    return replace(
        physical,
        address=address,
        product_id=sriov.vf_device_id,
        isolated=True,
        iommu_group=None,
        sriov=None,
        ports=ports,
        disk=None,
        mdev_types=(),
        serial=None,
        part_number=None,
        slot=None,
        link=("Unknown", 0),
        link_max=("Unknown", 0),
    )


def virtual_index(physical: Function, address: str) -> int:
    """Return which of its VFs has *address*."""
    sriov = physical.sriov or Sriov(total_vfs=0, vf_device_id="")
    return (routing_id(address) - routing_id(physical.address) - sriov.offset) // sriov.stride


def virtual_port(port: Port, index: int) -> Port:
    """Return the port of VF *index*: a locally administered MAC, a name as systemd gives it."""
    octets = port.mac.split(":")
    return Port(name=f"{port.name}v{index}", mac=":".join(["02", *octets[2:5], octets[5], f"{index:02x}"]))


def routing_id(address: str) -> int:
    """Return bus, device and function of *address* as one number of 16 bits."""
    _, bus, slot = address.split(":")
    device, _, number = slot.partition(".")
    return int(bus, 16) << 8 | int(device, 16) << 3 | int(number)


# -------------------------------------------------------------------------------------------------------------- as JSON
def encode(machine: Machine) -> str:
    """Return *machine* as JSON, without its modules, which lie on the host's disk."""
    return json.dumps(asdict(replace(machine, modules=(), files={})))


def decode(text: str) -> Machine:
    """Return the machine that `encode` wrote."""
    document = json.loads(text)
    document["functions"] = tuple(decode_function(each) for each in document["functions"])
    document["builtin"] = tuple(decode_module(each) for each in document["builtin"])
    return Machine(**_tuples(document))


def encode_module_json(module: Module) -> str:
    """Return *module* as JSON."""
    return json.dumps({each.name: getattr(module, each.name) for each in fields(module)})


def decode_module(document: dict[str, Any]) -> Module:
    """Return the module that *document* describes."""
    return Module(**_tuples(document))


def decode_function(document: dict[str, Any]) -> Function:
    """Return the function that *document* describes."""
    parts = dict(document)
    parts["sriov"] = parts["sriov"] and Sriov(**parts["sriov"])
    parts["disk"] = parts["disk"] and Disk(**_tuples(parts["disk"]))
    parts["ports"] = tuple(Port(**port) for port in parts["ports"])
    parts["mdev_types"] = tuple(MdevType(**each) for each in parts["mdev_types"])
    return Function(**_tuples(parts))


def _tuples(document: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}
