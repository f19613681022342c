# SPDX-License-Identifier: Apache-2.0
"""Virtual functions of a PF: how many, and what each is bound to; now and at the next boot. Pure.

Fields: ``num_vfs``, ``vf_driver.<range>``, and the same below ``boot``.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cyborg_reconciler.core.features.base import (
    DesireError,
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

NAME: Final = "sriov"
SCOPE: Final = "pf"

#: The range that stands for whatever VFs there are.
ALL_VFS: Final = "*"

#: What a VF without a driver is bound to.
UNBOUND: Final = "none"


def declare(spec: PolicySpec) -> Iterable[tuple[LeafKey, LeafValue]]:
    """Return ``num_vfs``, ``vf_driver`` and ``groups``, those that are given."""
    if spec.sriov is None:
        return
    if spec.sriov.num_vfs is not None:
        yield (NAME, "num_vfs"), spec.sriov.num_vfs
    if spec.sriov.vf_driver is not None:
        yield (NAME, "vf_driver"), spec.sriov.vf_driver
    if spec.sriov.groups:
        yield (NAME, "groups"), tuple(f"{group.vfs}={group.driver}" for group in spec.sriov.groups)


def desire(leaves: Mapping[LeafKey, Leaf]) -> Iterable[Field]:
    """Return the count and, for each range of VFs, its driver."""
    count, rest, groups = (leaves.get((NAME, key)) for key in ("num_vfs", "vf_driver", "groups"))
    if count is not None:
        if count.value and ("binding", "driver") in leaves:
            other = leaves["binding", "driver"].origin
            msg = f"sriov.num_vfs in {count.origin.policy} and binding in {other.policy} exclude each other; keep one of them"
            raise DesireError(msg)
        yield Field((NAME, "num_vfs"), count.value, count.origin)
        yield Field((NAME, "boot", "num_vfs"), count.value, count.origin)
    total = count.value if count is not None and isinstance(count.value, int) else None
    for vfs, driver in _ranges(total, rest, groups):
        winner = groups if rest is None or driver != rest.value else rest
        if winner is not None:
            yield Field((NAME, "vf_driver", vfs), driver, winner.origin)
            yield Field((NAME, "boot", "vf_driver", vfs), driver, winner.origin)


def _ranges(total: int | None, rest: Leaf | None, groups: Leaf | None) -> Iterable[tuple[str, str]]:
    """Return ``(range, driver)`` pairs that do not overlap.

    Raises:
        DesireError: a VF with two drivers, or outside of the count.
    """
    drivers: dict[int, str] = {}
    for group in groups.value if groups and isinstance(groups.value, tuple) else ():
        vfs, _, driver = group.partition("=")
        for index in expand(vfs):
            if drivers.setdefault(index, driver) != driver:
                msg = f"VF {index} is in two groups, with drivers {drivers[index]} and {driver}; keep it in one"
                raise DesireError(msg)
            if total is not None and index >= total:
                msg = f"group {vfs} reaches beyond the {total} VFs of num_vfs; shorten it"
                raise DesireError(msg)
    if rest is not None and total is None and not drivers:
        yield ALL_VFS, str(rest.value)
        return
    if rest is not None:
        for index in range(total or 0):
            drivers.setdefault(index, str(rest.value))
    yield from compress(drivers)


def expand(vfs: str) -> range:
    """Return the indexes of a range such as ``0-3`` or ``5``."""
    first, _, last = vfs.partition("-")
    return range(int(first), int(last or first) + 1)


def compress(drivers: Mapping[int, str]) -> Iterable[tuple[str, str]]:
    """Return drivers by index as ranges of neighbours with the same driver."""
    first: int | None = None
    for index in sorted(drivers):
        if first is None:
            first = index
        if drivers.get(index + 1) != drivers[index]:
            yield (f"{first}-{index}" if index > first else str(index)), drivers[index]
            first = None


def observe(path: FieldPath, desired: Value, subject: Subject) -> Observed:
    """Return the count, or what the VFs of a range are bound to."""
    device = subject.devices.get(path[0])
    if device is None:
        return Unknown("the device is not there")
    if is_boot(path):
        return _observe_boot(path, desired, subject, device)
    if path[2] == "num_vfs":
        return 0 if device.num_vfs is None else as_observed(device.num_vfs)
    drivers = set()
    for vf in _vfs_of(path[3], subject, device):
        if isinstance(vf.driver, reported.Unknown):
            return Unknown(vf.driver.unknown)
        drivers.add(vf.driver or UNBOUND)
    if not drivers:
        return ABSENT
    return drivers.pop() if len(drivers) == 1 else tuple(sorted(drivers))


def _observe_boot(path: FieldPath, desired: Value, subject: Subject, device: reported.Device) -> Observed:
    """Return what the next boot makes. Where nothing of ours persists, and nothing is owned, another's means are trusted."""
    theirs = path not in subject.owned and device.boot_num_vfs is None
    running = (path[0], NAME, *path[3:])
    if theirs and observe(running, desired, subject) == desired:
        return desired
    if path[3] == "num_vfs":
        return 0 if device.boot_num_vfs is None and desired == 0 else as_observed(device.boot_num_vfs)
    if isinstance(device.boot_vf_drivers, reported.Unknown):
        return Unknown(device.boot_vf_drivers.unknown)
    at_boot = {index: group.driver for group in device.boot_vf_drivers for index in expand_any(group.vfs, device)}
    wanted = expand_any(path[4], device)
    drivers = {at_boot.get(index, UNBOUND) for index in wanted} if at_boot else set()
    if not drivers:
        return ABSENT
    return drivers.pop() if len(drivers) == 1 else tuple(sorted(drivers))


def expand_any(vfs: str, device: reported.Device) -> range:
    """Return the indexes of a range, or of all VFs of *device*."""
    return range(len(device.vfs)) if vfs == ALL_VFS else expand(vfs)


def _vfs_of(vfs: str, subject: Subject, device: reported.Device) -> list[reported.Device]:
    """Return the VFs of a range that are there."""
    addresses = [device.vfs[index] for index in expand_any(vfs, device) if index < len(device.vfs)]
    return [subject.devices[address] for address in addresses if address in subject.devices]


def act(changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
    """Return the one call that sets the count and the drivers, or why it waits."""
    address = changes[0].target
    device = setting.subject.devices[address]
    action = Action(
        target=address,
        feature=NAME,
        changes=tuple(changes),
        disruption=Disruption.NONE if all(is_boot(change.path) for change in changes) else Disruption.DEVICE_RESET,
        reason="; ".join(f"{change.field} is {change.observed}" for change in changes),
        call=_call(address, changes, setting),
        drift=setting.drift,
    )
    yield _obstacle(action, device, setting) or action


def _call(address: str, changes: Sequence[Change], setting: Setting) -> Step:
    desired = setting.desired
    observed = setting.subject.devices[address].num_vfs
    count = desired.get((address, NAME, "num_vfs"), observed if isinstance(observed, int) else 0)
    groups = [
        {"vfs": path[3], "driver": driver}
        for path, driver in desired.items()
        if path[:3] == (address, NAME, "vf_driver") and isinstance(driver, str)
    ]
    args: dict[str, object] = {"address": address, "state": "present", "num_vfs": count, "replace": True}
    if len(groups) == 1 and groups[0]["vfs"] in {ALL_VFS, f"0-{int(str(count)) - 1}"}:
        args["vf_driver"] = groups[0]["driver"]
    elif groups:
        args["groups"] = groups
    # Nothing of ours is to persist when the whole feature goes back to what it was.
    if not any(path[:2] == (address, NAME) and value != ABSENT for path, value in desired.items() if is_boot(path)):
        args["persist"] = False
        if count == 0:
            args = {"address": address, "state": "absent"}
    return Step(
        id=f"{NAME} {address}",
        module="sriov_vfs",
        args=args,
        observed={"num_vfs": 0 if observed is None else observed},
        own=own(changes),
        release=release(changes),
    )


def _obstacle(action: Action, device: reported.Device, setting: Setting) -> Wait | None:
    """Return why the action cannot be done now; None when it can."""
    subject = setting.subject
    counts = [change for change in action.changes if change.path[2] == "num_vfs"]
    drivers = [change for change in action.changes if change.path[2] == "vf_driver"]
    for change in counts:
        wanted = change.desired
        if not isinstance(device.total_vfs, int):
            return wait(Reason.UNSUPPORTED, "the device offers no SR-IOV", action)
        if isinstance(wanted, int) and wanted > device.total_vfs:
            return wait(
                Reason.UNSUPPORTED, f"num_vfs {wanted} exceeds the {device.total_vfs} that the device supports", action
            )
        if wanted and not device.driver:
            return wait(
                Reason.UNSUPPORTED, "no driver is bound to the device, and only its driver can make VFs", action
            )
    affected = (
        range(len(device.vfs)) if counts else {i for change in drivers for i in expand_any(change.path[3], device)}
    )
    if held := _holders(affected, subject, device):
        return wait(Reason.DEVICE_IN_USE, held, action)
    if subject.facts.kernel.iommu_enabled is False and any(change.desired == "vfio-pci" for change in drivers):
        return wait(
            Reason.KERNEL_UNSUPPORTED, "vfio-pci needs the IOMMU, which is off: declare kernel_args, and reboot", action
        )
    return None


def _holders(indexes: Iterable[int], subject: Subject, device: reported.Device) -> str:
    """Return who holds the VFs at *indexes*, in words; empty when nobody does."""
    for index in sorted(indexes):
        vf = subject.devices.get(device.vfs[index]) if index < len(device.vfs) else None
        if vf is None:
            continue
        if isinstance(vf.holders, reported.Unknown):
            return f"it could not be read who holds VF {index}: {vf.holders.unknown}"
        if vf.holders:
            return f"VF {index} is held by {describe_holders(vf.holders)}"
    return ""
