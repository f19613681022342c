# SPDX-License-Identifier: Apache-2.0
"""What a feature is: the questions that `resolve`, `interpret` and `plan` ask of each. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol

from cyborg_reconciler.core.state import (
    ABSENT,
    HOST,
    Action,
    Change,
    FieldPath,
    Observed,
    Origin,
    Reason,
    Value,
    Wait,
    words_of,
)
from cyborg_reconciler.core.subject import (
    Subject,
    describe_holders,
    describe_protections,
    driver_proper,
    ids_of,
    module_name,
    to_json,
)
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.plan import Own
from cyborg_reconciler.documents.policy import PolicySpec

#: The key by which policies merge, e.g. ``("sriov", "num_vfs")``.
LeafKey = tuple[str, ...]
LeafValue = str | int | bool | tuple[str, ...]


class Said(NamedTuple):
    """A leaf that a policy declares; *place* is the field of the document that says it, below ``spec``."""

    key: LeafKey
    value: LeafValue
    place: str


class Leaf(NamedTuple):
    """A leaf's value and the policy that won it."""

    value: LeafValue
    origin: Origin


class Field(NamedTuple):
    """A desired field: its path without the target, its value, its policy."""

    tail: tuple[str, ...]
    value: Value
    origin: Origin


#: Why something waits, and the words for it.
Trouble = tuple[Reason, str]


#: A driver of the catalogue whose module is on disk and not loaded.
NOT_LOADED: Final = "not loaded"

#: Where a module, or a driver's state, is to be one of these, it does not stay.
GONE: Final = frozenset({ABSENT, NOT_LOADED})


#: How a kernel that takes signed modules alone is locked down.
#: Source: Linux, security/lockdown/lockdown.c, LOCKDOWN_MODULE_SIGNATURE.
LOCKDOWNS: Final = frozenset({"integrity", "confidentiality"})

#: Options by which a module takes devices that have no driver: ``vendor:device[:subvendor[:subdevice[:…]]],…``.
#: Source: Linux, drivers/vfio/pci/vfio_pci.c, vfio_pci_fill_ids; drivers/pci/pci-stub.c.
CLAIMS: Final = frozenset({"vfio_pci.ids", "pci_stub.ids"})

#: PCI_ANY_ID, as it is written in `CLAIMS`.
ANY_ID: Final = "ffffffff"


#: The host's record of who set what there.
RECORD: Final = "/var/lib/cyborg-reconciler/ownership.json"


class DesireError(Exception):
    """The merged leaves of one target contradict each other; its text says how, and names the policies."""


class RestoreError(Exception):
    """A field that no policy declares any more cannot go back to what it was; its text says why, and what to do."""


class RecordError(RestoreError):
    """The host's record has the field wrong.

    Args:
        why: what is wrong with it.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}: put the host's record right ({RECORD})")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a feature may know when it turns changes into actions.

    Attributes:
        desired: everything desired of the host, but for what its policies hold back.
        reboot: the plan may reboot this host.
        drift: the host was as desired under this generation.
        failures: attempts in a row that did not end verified.
        restored: those of *desired* that no policy declares any more.
        kept_back: who declares what is not so, and may not be made so now: `desired` is without it.
    """

    subject: Subject
    desired: Mapping[FieldPath, Value]
    reboot: bool
    drift: bool
    failures: int = 0
    restored: frozenset[FieldPath] = frozenset()
    kept_back: Mapping[FieldPath, Origin] = field(default_factory=dict)


class Feature(Protocol):
    """A module of this package; features act in the order of the registry."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """Its key in the documents."""

    @property
    def SCOPE(self) -> Literal["host", "device", "pf"]:  # noqa: N802 - a module's constant
        """What its fields belong to: the host, any function, or physical functions alone."""

    def declare(self, spec: PolicySpec) -> Iterable[Said]:
        """Return the leaves that a policy declares."""

    def desire(self, leaves: Mapping[LeafKey, Leaf]) -> Iterable[Field]:
        """Return the fields that merged *leaves* ask for.

        Raises:
            DesireError: they contradict each other.
        """

    def restore(
        self, path: FieldPath, declared: Mapping[FieldPath, Value], subject: Subject
    ) -> Iterable[tuple[FieldPath, Value]]:
        """Return the fields that go back to what they were, as the owned field at *path* is not in *declared*.

        Shape: nothing where *declared* says the same under another path, or where *path* is none of the feature's.

        Raises:
            RestoreError: the field cannot go back.
        """

    def observe(self, path: FieldPath, desired: Value, subject: Subject) -> Observed:
        """Return what the field at *path* is; *desired* decides between ways to say the same."""

    def act(self, changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
        """Return what removes *changes*, all of one target, or why it waits."""


def is_boot(path: FieldPath) -> bool:
    """Return whether *path* says what the next boot makes, rather than what runs."""
    return len(path) > 3 and path[2] == "boot"  # noqa: PLR2004 - target, feature, "boot", the field's own path


def own(changes: Iterable[Change]) -> list[Own]:
    """Return what to enter in the host's record before *changes* are made."""
    return [
        Own(path=list(change.path), before=to_json(change.observed), set=to_json(change.desired))
        for change in changes
        if change.declared_by.policy
    ]


def release(changes: Iterable[Change], subject: Subject) -> list[list[str]]:
    """Return the owned paths that *changes* bring back to what they were."""
    return [list(c.path) for c in changes if not c.declared_by.policy and c.path in subject.owned]


def kept_back_by(origin: Origin) -> Trouble:
    """Return why a change that *origin* declares is not made: the policy's own wish."""
    if origin.suspended:
        return Reason.SUSPENDED, f"policy {origin.policy} is suspended"
    reason = Reason.MODE_WARN if origin.mode == "warn" else Reason.SUSPENDED
    return reason, f"policy {origin.policy} is in mode {origin.mode}"


def wait(trouble: Trouble, action: Action) -> Wait:
    """Return the wait of *action*."""
    return Wait(*trouble, action.target, action)


def reason_of(changes: Iterable[Change]) -> str:
    """Return why an action is needed: what is otherwise than desired."""
    return "; ".join(f"{change.field} is {words_of(change.observed)}" for change in changes)


def protection_of(name: str, device: reported.Device) -> Trouble | None:
    """Return why *device*, called *name*, must never be touched; None when it may be."""
    if isinstance(device.protected, reported.Unknown):
        text = f"it could not be read whether {name} may be touched: {device.protected.unknown}"
        return Reason.PROTECTED_DEVICE, text
    if device.protected:
        return Reason.PROTECTED_DEVICE, f"{name} carries the {describe_protections(device.protected)}"
    return None


def use_of(name: str, device: reported.Device) -> Trouble | None:
    """Return why *device*, called *name*, may not be reset now: protected or in use, or nobody knows."""
    protection = protection_of(name, device)
    if protection is not None:
        return protection
    if isinstance(device.holders, reported.Unknown):
        return Reason.DEVICE_IN_USE, f"it could not be read who holds {name}: {device.holders.unknown}"
    if device.holders:
        return Reason.DEVICE_IN_USE, f"{name} is held by {describe_holders(device.holders)}"
    return None


def driver_use(name: str, device: reported.Device) -> Trouble | None:
    """Return why *device*, called *name*, may not lose its driver now: see `use_of`; or it has VFs, which would go."""
    if isinstance(device.num_vfs, reported.Unknown):
        return Reason.UNKNOWN, f"it could not be read how many VFs {name} has: {device.num_vfs.unknown}"
    if device.num_vfs:
        text = f"{name} has {device.num_vfs} VFs, which would go with its driver: declare sriov.num_vfs: 0 first"
        return Reason.DEVICE_IN_USE, text
    return use_of(name, device)


def module_use(module: reported.Module | None, subject: Subject) -> Trouble | None:
    """Return who keeps *module* from being unloaded while the kernel runs; None when nobody does."""
    if module is None or module.loaded is False:
        return None
    for asked, fact in (
        (f"whether {module.name} is loaded", module.loaded),
        (f"who holds {module.name}", module.holders),
    ):
        if isinstance(fact, reported.Unknown):
            return Reason.MODULE_IN_USE, f"it could not be read {asked}: {fact.unknown}"
    if module.holders and not isinstance(module.holders, reported.Unknown):
        return Reason.MODULE_IN_USE, f"{module.name} is held by {describe_holders(module.holders)}"
    if isinstance(module.refcount, reported.Unknown):
        return Reason.MODULE_IN_USE, f"it could not be read how often {module.name} is used: {module.refcount.unknown}"
    if module.refcount:
        text = f"{module.name} has a reference count of {module.refcount}, and the kernel does not say from whom"
        return Reason.MODULE_IN_USE, text
    troubles = (driver_use(device.address, device) for device in subject.driven_by(module.name))
    return next((trouble for trouble in troubles if trouble is not None), None)


def module_protection(name: str, subject: Subject) -> Trouble | None:
    """Return which protected device the module called *name* drives, or may drive; None when it drives none."""
    module = subject.module(name)
    if module is not None and module.protected:
        text = f"{module.name} drives what carries the {describe_protections(module.protected)}"
        return Reason.PROTECTED_DEVICE, text
    certain = [(device.address, device) for device in subject.driven_by(name)]
    perhaps = [(f"{one.address}, whose driver could not be read,", one) for one in subject.perhaps_driven_by(name)]
    troubles = (protection_of(*called) for called in (*certain, *perhaps))
    return next((trouble for trouble in troubles if trouble is not None), None)


def claim_trouble(option: str, value: Value, subject: Subject) -> Trouble | None:
    """Return which protected device a module takes at boot when its *option* has *value*; None when it takes none."""
    if module_name(option) not in CLAIMS or not isinstance(value, str):
        return None
    claimed = [words.split(":") for words in value.split(",")]
    for device in subject.devices.values():
        trouble = protection_of(device.address, device)
        if trouble is not None and any(_is_claimed(device, words) for words in claimed):
            return trouble[0], f"{option} takes {ids_of(device)}, and {trouble[1]}"
    return None


def _is_claimed(device: reported.Device, words: Sequence[str]) -> bool:
    """Return whether the ids in *words* may be those of *device*; ids that nobody can read may be any."""
    ids = (device.vendor_id, device.product_id, device.subsystem_vendor_id, device.subsystem_id)
    known = [(word.lower(), one) for word, one in zip(words, ids, strict=False) if isinstance(one, str)]
    return all(word == ANY_ID or word.removeprefix("0x").zfill(4) == one for word, one in known)


def leaving_module(device: reported.Device, setting: Setting) -> str:
    """Return the module that drives *device* and that the plan takes away; empty when none."""
    return next((name for name in setting.subject.modules_of(device) if _taken_by(name, setting)), "")


def module_conflict(name: str, setting: Setting, need: str = "") -> Trouble | None:
    """Return who takes module *name* away while another needs it; None when nobody does the one, or the other.

    Asked wherever a module goes, and with *need* by what needs it: neither is done, as each would undo the other.
    """
    taken = _taken_by(name, setting)
    needed = (need or _needed_by(name, setting)) if taken else ""
    return (Reason.CONFLICTED, f"{needed} needs {name}, and {taken}: drop one of them") if needed else None


def _taken_by(name: str, setting: Setting) -> str:
    """Return what takes module *name* away, in words; empty when nothing does."""
    if setting.desired.get((HOST, "kernel_modules", "blacklist", name)) is True:
        return "kernel_modules.blacklist keeps it out"
    for driver in _drivers_of(name, setting.subject):
        state = setting.desired.get((HOST, "driver", driver, "state"))
        if state in GONE:
            return f"driver {driver} is to be {'absent' if state is ABSENT else state}"
    if setting.desired.get((HOST, "kernel_modules", "load", name)) is ABSENT:
        return "kernel_modules.load, which is no longer declared, takes it away"
    return ""


def _needed_by(name: str, setting: Setting) -> str:
    """Return what is declared and needs module *name*; empty when nothing does. What merely goes back needs nothing."""
    declared = {path: value for path, value in setting.desired.items() if path not in setting.restored}
    if declared.get((HOST, "kernel_modules", "load", name)) is True:
        return "kernel_modules.load"
    for driver in _drivers_of(name, setting.subject):
        if declared.get((HOST, "driver", driver, "state"), ABSENT) not in GONE:
            return f"driver {driver}"
    devices = setting.subject.driven_by(name)
    drivers = {name, *(module_name(str(driver_proper(device))) for device in devices)}
    for path, value in declared.items():
        if path[1:] == ("sriov", "num_vfs"):
            asks = value != 0 and any(device.address == path[0] for device in devices)
        else:
            chosen = path[1:] == ("binding", "driver") or path[1:3] == ("sriov", "vf_driver")
            asks = chosen and isinstance(value, str) and module_name(value) in drivers
        if asks:
            return f"{path[1]}.{path[2]} of {path[0]}"
    return ""


def _drivers_of(name: str, subject: Subject) -> list[str]:
    """Return the drivers of the catalogue whose module is called *name*."""
    found = subject.catalogue.items()
    return [driver for driver, spec in found if spec.kernel_module and module_name(spec.kernel_module) == name]


def signature_trouble(module: reported.Module | None, kernel: reported.KernelFacts) -> Trouble | None:
    """Return why *kernel* refuses *module* (None: it is not there yet) for its signature; None when it takes it."""
    for asked, fact in (("Secure Boot is on", kernel.secure_boot), ("the kernel is locked down", kernel.lockdown)):
        if isinstance(fact, reported.Unknown):
            return Reason.UNKNOWN, f"it could not be read whether {asked}: {fact.unknown}"
    if kernel.secure_boot is not True and kernel.lockdown not in LOCKDOWNS:
        return None
    if module is None or module.signer is None:
        name = module.name if module else "the module"
        text = f"Secure Boot or lockdown is on, and {name} is not signed: sign it with an enrolled key (mokutil)"
        return Reason.SECURE_BOOT_UNSIGNED, text
    if isinstance(module.signer, reported.Unknown):
        return Reason.UNKNOWN, f"it could not be read who signed {module.name}: {module.signer.unknown}"
    return None


def iommu_trouble(kernel: reported.KernelFacts) -> Trouble | None:
    """Return why vfio-pci cannot work on the host; None when it can."""
    if isinstance(kernel.iommu_enabled, reported.Unknown):
        return Reason.UNKNOWN, f"it could not be read whether the IOMMU is on: {kernel.iommu_enabled.unknown}"
    if not kernel.iommu_enabled:
        return (
            Reason.KERNEL_UNSUPPORTED,
            "vfio-pci needs the IOMMU, which is off: declare kernel_args that turn it on, then reboot",
        )
    return None
