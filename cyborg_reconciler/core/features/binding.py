# SPDX-License-Identifier: Apache-2.0
"""What a device without VFs is bound to, now and at the next boot. Pure.

Fields: ``driver``, ``boot.driver``. vfio-pci takes every function of the IOMMU group.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cyborg_reconciler.core.features.base import (
    Field,
    Leaf,
    LeafKey,
    LeafValue,
    Setting,
    is_boot,
    own,
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
from cyborg_reconciler.core.subject import Subject, as_observed, describe_holders
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.plan import Step
from cyborg_reconciler.documents.policy import PolicySpec

NAME: Final = "binding"
SCOPE: Final = "device"

#: The driver that stands for no driver.
UNBOUND: Final = "none"


def declare(spec: PolicySpec) -> Iterable[tuple[LeafKey, LeafValue]]:
    """Return the driver, where one is given."""
    if spec.binding is not None:
        yield (NAME, "driver"), spec.binding.driver


def desire(leaves: Mapping[LeafKey, Leaf]) -> Iterable[Field]:
    """Return the driver, for now and for the next boot."""
    leaf = leaves.get((NAME, "driver"))
    if leaf is not None:
        yield Field((NAME, "driver"), leaf.value, leaf.origin)
        yield Field((NAME, "boot", "driver"), leaf.value, leaf.origin)


def observe(path: FieldPath, desired: Value, subject: Subject) -> Observed:
    """Return what the function is bound to. Nothing of ours at boot, and nothing owned: another's means are trusted."""
    device = subject.devices.get(path[0])
    if device is None:
        return Unknown("the device is not there")
    if not is_boot(path):
        observed = as_observed(device.driver)
        return UNBOUND if observed is ABSENT and desired == UNBOUND else observed
    running = observe((path[0], NAME, "driver"), desired, subject)
    if path not in subject.owned and device.boot_driver is None and running == desired:
        return desired
    return as_observed(device.boot_driver)


def act(changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
    """Return the one call that binds the device, or gives it back to its native driver, or why it waits."""
    address = changes[0].target
    device = setting.subject.devices[address]
    undo = all(not change.declared_by.policy for change in changes)
    args: dict[str, object] = {"address": address, "state": "absent"}
    if not undo:
        args = {"address": address, "state": "present", "driver": setting.desired[address, NAME, "driver"]}
    step = Step(
        id=f"{NAME} {address}",
        module="device_binding",
        args=args,
        observed={"driver": device.driver if isinstance(device.driver, str) else None},
        own=own(changes),
        release=release(changes),
    )
    only_boot = all(is_boot(change.path) for change in changes)
    action = Action(
        target=address,
        feature=NAME,
        changes=tuple(changes),
        disruption=Disruption.NONE if only_boot else Disruption.DEVICE_RESET,
        reason="; ".join(f"{change.field} is {change.observed}" for change in changes),
        call=step,
        drift=setting.drift,
    )
    yield (None if only_boot else _obstacle(action, device, setting)) or action


def _obstacle(action: Action, device: reported.Device, setting: Setting) -> Wait | None:
    """Return why the action cannot be done now; None when it can."""
    vfio = any(change.desired == "vfio-pci" for change in action.changes)
    if vfio and device.iommu_group is None:
        message = "vfio-pci needs an IOMMU group, and the device has none: declare kernel_args that turn the IOMMU on, and reboot"
        return wait(Reason.KERNEL_UNSUPPORTED, message, action)
    group = device.iommu_members if vfio else [device.address]
    for address in group or [device.address]:
        member = setting.subject.devices.get(address)
        if member is None or member.class_id.startswith("0604"):  # a bridge stays with its own driver
            continue
        if isinstance(member.protected, reported.Unknown) or member.protected:
            return wait(Reason.PROTECTED_DEVICE, f"{address}, of the same IOMMU group, is protected", action)
        if isinstance(member.holders, reported.Unknown):
            return wait(
                Reason.DEVICE_IN_USE, f"it could not be read who holds {address}: {member.holders.unknown}", action
            )
        if member.holders:
            return wait(Reason.DEVICE_IN_USE, f"{address} is held by {describe_holders(member.holders)}", action)
    return None
