# SPDX-License-Identifier: Apache-2.0
"""What a host reports of itself: the JSON document that the collection's fact modules write and the controller reads.

Decoded with msgspec, since facts are many. Pure: bytes in, values out; the observer's adapter and the journal call it.

In every field ``null`` means "is not there" and ``{"unknown": "reason"}`` means "could not be read"; the two are never
mixed up. Facts are trees, never in a cycle: nobody need look for one in them (``gc=False``).
"""

from typing import Annotated, Final

import msgspec

from cyborg_reconciler.errors import FactsUnreadableError

#: The only version of the facts document that this release reads.
FACTS_VERSION: Final = 1

#: A PCI function's address with its domain, which may be longer than four digits (VMD). (`$` would let a line's end
#: pass, here and below.)
ADDRESS: Final = r"^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]\Z"

Address = Annotated[str, msgspec.Meta(pattern=ADDRESS)]

#: The id of a vendor or a product.
Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{4}\Z")]

#: A digest, a uuid or a MAC, no longer than the journal has room for: what is longer is none.
Mark = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]{0,64}\Z")]

Scalar = str | int | bool | None


class Unknown(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A fact that could not be read, and why."""

    unknown: str


class Holder(msgspec.Struct, frozen=True, gc=False):
    """Who uses a device or a module.

    Attributes:
        kind: ``process`` (an open file), ``block`` (mounted, swap, member of dm or md), ``net`` (has an address or a
            master), ``namespace`` (its net device was moved away), ``module`` (another module).
        name: the process, mount point, net device or module.
        pid: of a process, else None.
        detail: what is held, e.g. ``/dev/vfio/12``.
    """

    kind: str
    name: str
    pid: int | None = None
    detail: str = ""


class Protection(msgspec.Struct, frozen=True, gc=False):
    """Why a device must not be touched.

    Attributes:
        reason: ``root_disk``, ``default_route``, ``connection`` or ``unknown``.
        via: how it reaches the device, e.g. ``bond0`` or ``0000:00:1c.0 is upstream of 0000:03:00.0``.
    """

    reason: str
    via: str = ""


class VfDriver(msgspec.Struct, frozen=True, gc=False):
    """A range of VFs (``0-3`` or ``5``) and the driver that they are bound to."""

    vfs: str
    driver: str


class MdevType(msgspec.Struct, frozen=True, gc=False):
    """A type of mediated device that a function offers."""

    type_id: str
    name: str | Unknown | None = None
    available: int | Unknown | None = None


class Device(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One PCI function. Of one that could not be looked into everything is unknown, and it counts as protected.

    Source: Linux, Documentation/ABI/testing/sysfs-bus-pci and sysfs-kernel-iommu_groups.
    """

    address: Address
    vendor_id: Id | Unknown
    product_id: Id | Unknown
    subsystem_vendor_id: str | Unknown | None = None
    subsystem_id: str | Unknown | None = None
    class_id: str | Unknown  # six digits: base class, subclass, programming interface
    revision: str | Unknown | None = None
    driver: str | Unknown | None = None  # what the function itself is bound to
    function_driver: str | Unknown | None = None  # the driver on the virtio bus behind a virtio-pci function
    driver_override: str | Unknown | None = None
    modalias: str | Unknown | None = None
    modules: list[str] | Unknown = []  # modules on disk that match the modalias, best first
    numa_node: int | Unknown | None = None
    iommu_group: int | Unknown | None = None
    iommu_members: list[str] = []  # all functions of the group, this one included; none where that is unknown
    physfn: str | Unknown | None = None  # a VF's PF
    vf_index: int | None = None
    total_vfs: int | Unknown | None = None
    num_vfs: int | Unknown | None = None
    vf_autoprobe: bool | Unknown | None = None  # false while drivers are kept from new VFs, by a run that makes some
    vfs: list[str] = []  # addresses, by index; none where num_vfs is unknown
    boot_num_vfs: int | Unknown | None = None  # what the persistence on the host makes at boot
    boot_vf_drivers: list[VfDriver] | Unknown = []
    boot_driver: str | Unknown | None = None  # the binding that persists
    mdev_types: list[MdevType] | Unknown = []
    net_names: list[str] = []
    macs: list[Mark] | Unknown = []
    nvme_names: list[str] | Unknown = []
    block_names: list[str] = []
    serial: str | Unknown | None = None
    part_number: str | Unknown | None = None
    slot: str | Unknown | None = None
    link_speed: str | Unknown | None = None
    link_width: int | Unknown | None = None
    link_speed_max: str | Unknown | None = None
    link_width_max: int | Unknown | None = None
    holders: list[Holder] | Unknown = []
    protected: list[Protection] | Unknown = []


class Module(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A kernel module: as loaded, as it lies on disk for the running kernel, as it is configured."""

    name: str  # with underscores, as the kernel says it
    loaded: bool | Unknown
    builtin: bool | Unknown = False
    refcount: int | Unknown | None = None
    holders: list[Holder] | Unknown = []
    loaded_version: str | Unknown | None = None
    disk_version: str | Unknown | None = None
    loaded_srcversion: str | Unknown | None = None
    disk_srcversion: str | Unknown | None = None
    path: str | Unknown | None = None  # the file that modprobe would load
    signer: str | Unknown | None = None
    package: str | Unknown | None = None  # that installed the file; None also where nobody asked (``packages``)
    installed_version: str | Unknown | None = None
    installed_by: str | Unknown | None = None  # dpkg, rpm or dkms
    parameters: dict[str, str | Unknown] = {}  # running values, /sys/module/*/parameters
    parameters_unknown: str | None = None  # why they could not be listed
    devices: list[str] = []  # addresses bound to its driver
    protected: list[Protection] = []  # it drives a protected device


class DkmsBuild(msgspec.Struct, frozen=True, gc=False):
    """One line of ``dkms status``; *kernel* is None for a source that is merely added, or broken: gone.

    Where *state* is unknown, more of the package may be so; *version* is None where not even that could be read.
    """

    name: str
    version: str | None
    kernel: str | None
    state: str | Unknown  # added, built, installed or broken


class Drivers(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What `driver_facts` gathers: the modules behind the host's devices, DKMS, and modprobe's configuration."""

    modules: list[Module]
    dkms: list[DkmsBuild] | Unknown = []
    dkms_present: bool = False
    blacklisted: list[str] | Unknown = []  # modprobe.d, its install lines, the command line
    options: dict[str, dict[str, str]] = {}  # modprobe.d
    options_unknown: str | None = None  # why modprobe.d could not be read
    load: list[str] | Unknown = []  # modules-load.d
    initramfs_due: list[str] | Unknown = []  # configured since the initramfs was built, by a run that was cut short


class Kernel(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One installed kernel."""

    release: str
    headers: bool
    initramfs: bool
    next_boot: bool | Unknown = False


class KernelFacts(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What `kernel_facts` gathers. Arguments are the words of the command line, in their order."""

    release: str | Unknown
    architecture: str | Unknown
    boot_id: Mark | Unknown
    boot_loader: str | Unknown | None = None  # grub, grub-bls
    args_configured: list[str] | Unknown = []
    args_next_boot: list[str] | Unknown = []
    args_running: list[str] | Unknown = []
    kernels: list[Kernel] | Unknown = []
    iommu_enabled: bool | Unknown = False
    secure_boot: bool | Unknown | None = None  # None: no UEFI
    lockdown: str | Unknown | None = None
    os_family: str | Unknown = ""  # debian, redhat, suse, …
    os_id: str | Unknown = ""
    os_version: str | Unknown = ""


class OwnedField(msgspec.Struct, frozen=True, gc=False):
    """A field that a controller set, with the value it had before (None: it was not there).

    *device*: which device it was of, by ids and serial (``8086:4940 SN123``). Of what is the host's: the device that a
    policy asked for it for, with its address (``0000:6b:00.0 8086:4940 SN123``); empty where none was.
    """

    path: list[str]
    before: Scalar | list[Scalar]
    set: Scalar | list[Scalar]
    device: str = ""


class Ownership(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The host's own record of which controller set what."""

    controller_id: str | None = None
    fencing_token: int = 0
    fields: list[OwnedField] = []


class Facts(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Everything that one host reports in one pass."""

    facts_version: int
    hostname: str | Unknown
    machine_id: str | Unknown | None = None
    system_uuid: Mark | Unknown | None = None
    devices: list[Device]
    drivers: Drivers
    kernel: KernelFacts
    ownership: Ownership | None = None
    ownership_unknown: str | None = None  # why the record could not be read
    fingerprint: Mark

    def device(self, address: str) -> Device | None:
        """Return the device at *address*, or None."""
        return next((device for device in self.devices if device.address == address), None)


_decoder = msgspec.json.Decoder(Facts)


def decode_facts(document: bytes | str) -> Facts:
    """Return the facts that *document* holds.

    Raises:
        FactsUnreadableError: it is no JSON, not of this shape, or of another version.
    """
    try:
        facts = _decoder.decode(document)
    except msgspec.MsgspecError as exc:
        _refuse_other_versions(document)
        raise FactsUnreadableError(wanted=f"facts of version {FACTS_VERSION}", found=str(exc)) from exc
    if facts.facts_version != FACTS_VERSION:
        _refuse_other_versions(document)
    return facts


def _refuse_other_versions(document: bytes | str) -> None:
    """Raise when *document* is of another version: that explains whatever else is wrong with it."""
    try:
        version = msgspec.json.decode(document, type=_Versioned).facts_version
    except msgspec.MsgspecError:
        return
    if version != FACTS_VERSION:
        raise FactsUnreadableError(
            wanted=f"facts of version {FACTS_VERSION}",
            found=f"version {version}: the collection on the controller and this program differ",
        )


class _Versioned(msgspec.Struct):
    facts_version: int
