# SPDX-License-Identifier: Apache-2.0
"""What a device without VFs is bound to, now and at the next boot. Pure.

Fields: ``driver``, ``boot.driver``. vfio-pci takes every function of the IOMMU group, but for bridges.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cyborg_reconciler.core.features.base import (
    Field,
    Leaf,
    LeafKey,
    Said,
    Setting,
    Trouble,
    driver_use,
    iommu_trouble,
    is_boot,
    leaving_module,
    module_conflict,
    own,
    reason_of,
    release,
    wait,
)
from cyborg_reconciler.core.state import (
    ABSENT,
    Action,
    Change,
    Disruption,
    FieldPath,
    Observed,
    Reason,
    Unknown,
    Value,
    Wait,
)
from cyborg_reconciler.core.subject import (
    BOUND_ON_PURPOSE,
    UNBOUND,
    VFIO,
    VIRTIO_PCI,
    Subject,
    as_observed,
    driver_name,
    driver_proper,
    module_name,
)
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.plan import Step
from cyborg_reconciler.documents.policy import PolicySpec

NAME: Final = "binding"
SCOPE: Final = "device"

#: Bridges stay with their own drivers when vfio-pci takes a group.
#: Source: Linux, drivers/vfio/group.c; PCI Code and ID Assignment Specification, section 1.
BRIDGES: Final = ("0600", "0604", "0609")


def declare(spec: PolicySpec) -> Iterable[Said]:
    """Return the driver, where one is given."""
    if spec.binding is not None:
        yield Said((NAME, "driver"), driver_name(spec.binding.driver), "binding.driver")


def desire(leaves: Mapping[LeafKey, Leaf]) -> Iterable[Field]:
    """Return the driver, for now and for the next boot."""
    leaf = leaves.get((NAME, "driver"))
    if leaf is not None:
        yield Field((NAME, "driver"), leaf.value, leaf.origin)
        yield Field((NAME, "boot", "driver"), leaf.value, leaf.origin)


def restore(
    path: FieldPath, declared: Mapping[FieldPath, Value], subject: Subject
) -> Iterable[tuple[FieldPath, Value]]:
    """Return the owned field."""
    del declared  # a binding is said in one way only
    if path[2:] in {("driver",), ("boot", "driver")}:
        yield path, subject.before(path)


def observe(path: FieldPath, desired: Value, subject: Subject) -> Observed:
    """Return what the function is bound to. Nothing of ours at boot, and nothing owned: another's means are trusted."""
    device = subject.devices.get(path[0])
    if device is None:
        return Unknown("the device is not there")
    if not is_boot(path):
        return _observe_running(desired, subject, device)
    theirs = device.boot_driver is None and not subject.owns(path[0], NAME)
    if theirs and _observe_running(desired, subject, device) == desired:
        return desired
    return as_observed(device.boot_driver)


def _observe_running(desired: Value, subject: Subject, device: reported.Device) -> Observed:
    proper = None if desired == VIRTIO_PCI else driver_proper(device)
    observed = as_observed(device.driver if proper is None else proper)
    if observed is ABSENT and desired == UNBOUND:
        return UNBOUND
    if isinstance(observed, str):
        observed = subject.named_as(desired, observed, device)
    if observed == desired == VFIO:
        return _strays(subject, device) or observed
    return observed


def _strays(subject: Subject, device: reported.Device) -> Observed | None:
    """Return what keeps the IOMMU group of *device* from being usable: members that are with drivers of their own."""
    missing = _missing(subject, device)
    if missing:
        return Unknown(missing)
    found = [VFIO]
    for member in _group(subject, device):
        if isinstance(member.driver, reported.Unknown):
            return Unknown(f"{member.address}, of the same IOMMU group: {member.driver.unknown}")
        if member.driver is not None and member.driver not in BOUND_ON_PURPOSE:
            found.append(f"{member.driver} ({member.address}, of the same IOMMU group)")
    return tuple(found) if len(found) > 1 else None


def _group(subject: Subject, device: reported.Device) -> list[reported.Device]:
    """Return the functions that vfio-pci takes together with *device*."""
    members = [subject.devices[address] for address in device.iommu_members if address in subject.devices]
    return [m for m in members if m.address != device.address and not str(m.class_id).startswith(BRIDGES)]


def _missing(subject: Subject, device: reported.Device) -> str:
    """Return which members of the IOMMU group of *device* the facts do not list, in words; empty when they list all."""
    missing = [address for address in device.iommu_members if address not in subject.devices]
    return f"{', '.join(missing)}, of the same IOMMU group: not among the devices that were reported" if missing else ""


def act(changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
    """Return the one call that binds the device, or gives it back to its native driver, or why it waits."""
    address = changes[0].target
    device = setting.subject.devices[address]
    step = Step(
        id=f"{NAME} {address}",
        module="device_binding",
        args=_arguments(address, changes, setting),
        # Where the same plan unloads the device's module first, another driver is there than was observed.
        observed={} if leaving_module(device, setting) else {"driver": device.driver},
        own=own(changes),
        release=release(changes, setting.subject),
    )
    only_boot = all(is_boot(change.path) for change in changes)
    disruption = Disruption.NONE if only_boot else Disruption.DEVICE_RESET
    action = Action(address, NAME, tuple(changes), disruption, reason_of(changes), step, setting.drift)
    trouble = None if only_boot else _trouble(changes, device, setting)
    yield action if trouble is None else wait(trouble, action)


def _arguments(address: str, changes: Sequence[Change], setting: Setting) -> dict[str, object]:
    wanted = setting.desired.get((address, NAME, "driver"), ABSENT)
    if any(change.declared_by.policy for change in changes):
        return {"address": address, "state": "present", "driver": wanted}
    if wanted in BOUND_ON_PURPOSE:  # as somebody else had bound it before
        return {"address": address, "state": "present", "driver": wanted, "persist": False, "alone": True}
    return {"address": address, "state": "absent"}


def _trouble(changes: Sequence[Change], device: reported.Device, setting: Setting) -> Trouble | None:
    """Return why the device cannot be bound anew now; None when it can."""
    vfio = any(change.desired == VFIO for change in changes)
    trouble = _leaving_trouble(changes, setting) or (_vfio_trouble(device, setting) if vfio else None)
    if trouble is not None:
        return trouble
    for member in (device, *(_group(setting.subject, device) if vfio else ())):
        name = member.address if member is device else f"{member.address}, of the same IOMMU group,"
        trouble = driver_use(name, member)
        if trouble is not None:
            return trouble
    return None


def _leaving_trouble(changes: Sequence[Change], setting: Setting) -> Trouble | None:
    """Return who takes away the driver that is declared."""
    declared = next((c for c in changes if c.path[2:] == ("driver",) and c.declared_by.policy), None)
    if declared is None or not isinstance(declared.desired, str):
        return None
    return module_conflict(module_name(declared.desired), setting, f"binding.driver of {declared.target}")


def _vfio_trouble(device: reported.Device, setting: Setting) -> Trouble | None:
    """Return why vfio-pci cannot have the device's IOMMU group."""
    trouble = iommu_trouble(setting.subject.facts.kernel)
    if trouble is not None:
        return trouble
    if isinstance(device.iommu_group, reported.Unknown):
        return Reason.UNKNOWN, f"it could not be read which IOMMU group it is in: {device.iommu_group.unknown}"
    if device.iommu_group is None:
        return Reason.KERNEL_UNSUPPORTED, "vfio-pci needs an IOMMU group, and the device is in none"
    return _group_trouble(device, setting)


def _group_trouble(device: reported.Device, setting: Setting) -> Trouble | None:
    """Return which member of the device's IOMMU group is not to go to vfio-pci, or is not known."""
    missing = _missing(setting.subject, device)
    if missing:
        return Reason.UNKNOWN, missing
    for member in _group(setting.subject, device):
        other = setting.desired.get((member.address, NAME, "driver"), VFIO)
        if other != VFIO:
            text = f"{member.address}, of the same IOMMU group, is to be bound to {other}: vfio-pci takes them all"
            return Reason.CONFLICTED, text
        if setting.desired.get((member.address, "sriov", "num_vfs"), 0):
            text = f"{member.address}, of the same IOMMU group, is to have VFs: vfio-pci takes them all"
            return Reason.CONFLICTED, text
    return None
