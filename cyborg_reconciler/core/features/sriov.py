# SPDX-License-Identifier: Apache-2.0
"""Virtual functions of a PF: how many, and what each is bound to; now and at the next boot. Pure.

Fields: ``num_vfs``, ``vf_driver.<range>``, and the same below ``boot``. A VF whose driver nobody chose has the value
ABSENT: it is with the kernel's own choice, or not there.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cyborg_reconciler.core import ranges, vfs
from cyborg_reconciler.core.features.base import (
    DesireError,
    Field,
    Leaf,
    LeafKey,
    RecordError,
    Said,
    Setting,
    Trouble,
    iommu_trouble,
    is_boot,
    kept_back_by,
    module_conflict,
    own,
    reason_of,
    release,
    use_of,
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
    words_of,
)
from cyborg_reconciler.core.subject import (
    BOUND_ON_PURPOSE,
    VFIO,
    Subject,
    as_observed,
    driver_name,
    module_name,
    to_json,
)
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.plan import Own, Step
from cyborg_reconciler.documents.policy import PolicySpec

NAME: Final = "sriov"
SCOPE: Final = "pf"


def declare(spec: PolicySpec) -> Iterable[Said]:
    """Return ``num_vfs``, ``vf_driver`` and ``groups``, those that are given."""
    if spec.sriov is None:
        return
    if spec.sriov.num_vfs is not None:
        yield Said((NAME, "num_vfs"), spec.sriov.num_vfs, "sriov.num_vfs")
    if spec.sriov.vf_driver is not None:
        yield Said((NAME, "vf_driver"), driver_name(spec.sriov.vf_driver), "sriov.vf_driver")
    if spec.sriov.groups:
        groups = tuple(f"{group.vfs}={driver_name(group.driver)}" for group in spec.sriov.groups)
        yield Said((NAME, "groups"), groups, "sriov.groups")


def desire(leaves: Mapping[LeafKey, Leaf]) -> Iterable[Field]:
    """Return the count and, for each range of VFs, its driver."""
    count, rest, groups = (leaves.get((NAME, key)) for key in ("num_vfs", "vf_driver", "groups"))
    if count is not None:
        other = leaves.get(("binding", "driver"))
        if count.value and other is not None:
            message = f"sriov.num_vfs in {count.origin.place} and binding in {other.origin.place} exclude each other"
            raise DesireError(f"{message}; keep one of them")
        yield Field((NAME, "num_vfs"), count.value, count.origin)
        yield Field((NAME, "boot", "num_vfs"), count.value, count.origin)
    for text, (driver, origin) in _ranges(count, rest, groups):
        yield Field((NAME, "vf_driver", text), driver, origin)
        yield Field((NAME, "boot", "vf_driver", text), driver, origin)


def _ranges(count: Leaf | None, rest: Leaf | None, groups: Leaf | None) -> Iterable[tuple[str, Leaf]]:
    """Return ranges that do not overlap, each with its driver: those of *groups*, then *rest* for all others.

    Raises:
        DesireError: a VF with two drivers, or outside of the count.
    """
    drivers = _grouped(groups, count) if groups is not None else {}
    if rest is not None:
        end = max(drivers, default=-1) + 1 if count is None else int(count.value)  # type: ignore[arg-type]  # a number
        for index in range(end):
            drivers.setdefault(index, rest)
    yield from ranges.compress(drivers)
    if rest is not None and count is None:
        yield ranges.open_from(end), rest


def _grouped(groups: Leaf, count: Leaf | None) -> dict[int, Leaf]:
    drivers: dict[int, Leaf] = {}
    for group in groups.value if isinstance(groups.value, tuple) else ():
        text, _, driver = group.partition("=")
        stop = ranges.parse_range(text)[1] or 0
        if count is not None and stop > int(count.value):  # type: ignore[arg-type]  # a number
            where = (
                f"group {text} in {groups.origin.place} reaches beyond num_vfs {count.value} in {count.origin.place}"
            )
            raise DesireError(f"{where}; shorten it")
        for index in ranges.expand(text, stop):
            known = drivers.setdefault(index, Leaf(driver, groups.origin))
            if known.value != driver:
                message = f"VF {index} is in two groups of {groups.origin.place}, with {known.value} and {driver}"
                raise DesireError(f"{message}; keep it in one")
    return drivers


def restore(
    path: FieldPath, declared: Mapping[FieldPath, Value], subject: Subject
) -> Iterable[tuple[FieldPath, Value]]:
    """Return an owned field, or what no declared range covers of an owned range of VFs.

    A VF that there is not going to be has nothing to go back to.

    Raises:
        RecordError: there was no number of VFs before.
    """
    before = subject.before(path)
    match path[2:]:
        case ("num_vfs",) | ("boot", "num_vfs"):
            if before is not ABSENT and (isinstance(before, bool) or not isinstance(before, int)):
                raise RecordError(f"there were {words_of(before)} VFs before, which is no number")
            yield path, before
        case ("vf_driver", text) | ("boot", "vf_driver", text) if ranges.is_range(text):
            stem = path[:-1]
            covered = [other[-1] for other in declared if other[:-1] == stem]
            by_index: dict[int, Value] = dict.fromkeys(ranges.expand(text, 0), before)
            count = _most((*stem[:-1], "num_vfs"), declared, subject)
            if count is not None:
                by_index |= dict.fromkeys((index for index in by_index if index >= count), ABSENT)
            for rest, value in ranges.compress(vfs.apart(by_index, covered)):
                yield (*stem, rest), value


def _most(path: FieldPath, declared: Mapping[FieldPath, Value], subject: Subject) -> int | None:
    """Return how many VFs there are now, or are to be if that is more; None where it could not be read."""
    device = subject.devices[path[0]]
    there = device.boot_num_vfs if is_boot(path) and device.boot_num_vfs is not None else device.num_vfs
    if isinstance(there, reported.Unknown):
        return None
    wanted = declared.get(path, subject.before(path) if path in subject.owned else ABSENT)
    return max(there or 0, wanted if isinstance(wanted, int) else 0)


def observe(path: FieldPath, desired: Value, subject: Subject) -> Observed:
    """Return the count, or what the VFs of a range are bound to."""
    device = subject.devices.get(path[0])
    if device is None:
        return Unknown("the device is not there")
    if path[2] == "boot":
        return _observe_boot(path, desired, subject, device)
    if path[2] == "num_vfs":
        return 0 if device.num_vfs is None else as_observed(device.num_vfs)
    found = vfs.drivers(path[3], subject, device, chosen=desired is ABSENT, desired=desired)
    return vfs.as_one(found, desired)


def _observe_boot(path: FieldPath, desired: Value, subject: Subject, device: reported.Device) -> Observed:
    """Return what the next boot makes. Nothing of ours persists, and nothing is owned: another's means are trusted."""
    theirs = device.boot_num_vfs is None and not device.boot_vf_drivers and not subject.owns(path[0], NAME)
    if theirs and observe((path[0], NAME, *path[3:]), desired, subject) == desired:
        return desired
    if path[3] == "num_vfs":
        return 0 if device.boot_num_vfs is None and desired == 0 else as_observed(device.boot_num_vfs)
    return vfs.as_one(vfs.drivers_at_boot(path[4], device), desired)


def act(changes: Sequence[Change], setting: Setting) -> Iterable[Action | Wait]:
    """Return the call that sets count and drivers, and one for each VF that goes back to the kernel's choice."""
    recounted = any(change.path[2] == "num_vfs" for change in changes)
    given_back = [c for c in changes if c.path[2] == "vf_driver" and c.desired is ABSENT and not recounted]
    for change in given_back:
        yield from _give_back(change, setting)
    rest = [change for change in changes if change not in given_back]
    if rest:
        call = _call(rest, setting)
        yield _unless(rest, call, setting)


def _unless(changes: Sequence[Change], call: Step, setting: Setting) -> Action | Wait:
    """Return the action that *call* is, or why it waits."""
    only_boot = all(is_boot(change.path) for change in changes)
    disruption = Disruption.NONE if only_boot else Disruption.DEVICE_RESET
    action = Action(changes[0].target, NAME, tuple(changes), disruption, reason_of(changes), call, setting.drift)
    if only_boot:
        return action
    for trouble_of in (_kept_back, _count_trouble, _driver_trouble, _use_trouble, _vfio_trouble):
        trouble = trouble_of(changes, setting)
        if trouble is not None:
            return wait(trouble, action)
    return action


def _give_back(change: Change, setting: Setting) -> Iterable[Action | Wait]:
    """Return a call for each VF of a range whose driver somebody chose."""
    found = vfs.drivers(change.path[3], setting.subject, setting.subject.devices[change.target], chosen=True)
    chosen = {} if isinstance(found, Unknown) else {index: one for index, one in found.items() if one is not ABSENT}
    for index, driver in chosen.items():
        address = setting.subject.devices[change.target].vfs[index]
        of_vf = Change((*change.path[:3], str(index)), ABSENT, driver, change.declared_by)
        step = Step(
            id=f"{NAME} {address}",
            module="device_binding",
            args={"address": address, "state": "absent"},
            release=release([change], setting.subject) if index == max(chosen) else [],
        )
        yield _unless([of_vf], step, setting)


def _call(changes: Sequence[Change], setting: Setting) -> Step:
    address = changes[0].target
    device, mine = setting.subject.devices[address], (address, NAME)
    desired = {path[2:]: value for path, value in setting.desired.items() if path[:2] == mine}
    count = desired.get(("num_vfs",), ABSENT)
    there = count if isinstance(count, int) else len(device.vfs)
    groups = vfs.as_groups({tail[1]: one for tail, one in desired.items() if tail[0] == "vf_driver"}, there)
    args: dict[str, object] = {"address": address, "state": "present"}
    if count is not ABSENT:
        args |= {"num_vfs": count, "replace": True}
    if len(groups) == 1 and len(ranges.expand(groups[0]["vfs"], there)) == there:
        args["vf_driver"] = groups[0]["driver"]
    elif groups:
        args["groups"] = groups
    # Nothing of ours is to persist when the whole feature goes back to what it was.
    if not any(tail[0] == "boot" and value is not ABSENT for tail, value in desired.items()):
        args = {"address": address, "state": "absent"} if count == 0 else args | {"persist": False}
    return Step(
        id=f"{NAME} {address}",
        module="sriov_vfs",
        args=args,
        observed={"num_vfs": device.num_vfs if isinstance(device.num_vfs, int) else 0},
        own=_own(changes, setting.subject, device),
        release=release(changes, setting.subject),
    )


def _own(changes: Sequence[Change], subject: Subject, device: reported.Device) -> list[Own]:
    """Return what to enter in the host's record: of ranges, the parts that are not in it, by what was chosen before."""
    entries = own(change for change in changes if change.path[-1] == "num_vfs")
    for change in changes:
        if change.path[-1] == "num_vfs" or not change.declared_by.policy:
            continue
        stem = change.path[:-1]
        known = [path[-1] for path in subject.owned if path[:-1] == stem]
        text = change.path[-1]
        before = (
            vfs.drivers_at_boot(text, device)
            if is_boot(change.path)
            else vfs.drivers(text, subject, device, chosen=True)
        )
        new = {} if isinstance(before, Unknown) else vfs.apart(before, known)
        entries += [
            Own(path=[*stem, part], before=to_json(value), set=to_json(change.desired))
            for part, value in ranges.compress(new)
        ]
    return entries


def _kept_back(changes: Sequence[Change], setting: Setting) -> Trouble | None:
    """Return who keeps back the drivers of VFs that would be made: they are made with them, or not at all."""
    if not any(change.path[2] == "num_vfs" and change.desired for change in changes):
        return None
    for path, origin in setting.kept_back.items():
        if path[:3] == (changes[0].target, NAME, "vf_driver"):
            reason, text = kept_back_by(origin)
            return reason, f"{text}, and says what the VFs are bound to"
    return None


def _count_trouble(changes: Sequence[Change], setting: Setting) -> Trouble | None:
    """Return why the VFs that are asked for cannot be made."""
    device = setting.subject.devices[changes[0].target]
    wanted = next((change.desired for change in changes if change.path[2] == "num_vfs"), None)
    if wanted is None:
        return _missing_trouble(changes, setting, device)
    for name, fact in (("sriov_totalvfs", device.total_vfs), ("the device's driver", device.driver)):
        if isinstance(fact, reported.Unknown):
            return Reason.UNKNOWN, f"{name} could not be read: {fact.unknown}"
    if isinstance(device.num_vfs, int) and device.num_vfs != len(device.vfs):
        return Reason.UNKNOWN, f"{device.num_vfs} VFs are said to be there, and {len(device.vfs)} were reported"
    if wanted == 0:
        return None
    words = _lack(wanted, device)
    if words:
        return Reason.UNSUPPORTED, words
    conflicts = (
        module_conflict(name, setting, f"sriov.num_vfs of {device.address}")
        for name in setting.subject.modules_of(device)
    )
    return next((conflict for conflict in conflicts if conflict is not None), None)


def _lack(wanted: Value, device: reported.Device) -> str:
    """Return what the device lacks for as many VFs as are *wanted*; empty when it lacks nothing."""
    if not isinstance(device.total_vfs, int):
        return "the device offers no SR-IOV"
    if isinstance(wanted, int) and wanted > device.total_vfs:
        return f"num_vfs {wanted} exceeds the {device.total_vfs} that the device supports"
    if device.driver is None:
        return "no driver is bound to the device, and only its driver can make VFs"
    if device.driver in BOUND_ON_PURPOSE:
        return f"the device is bound to {device.driver}, and only its own driver can make VFs"
    return ""


def _missing_trouble(changes: Sequence[Change], setting: Setting, device: reported.Device) -> Trouble | None:
    """Return which VFs are to get a driver and are not there, where nobody says how many there are to be."""
    for change in changes:
        if "vf_driver" not in change.path:
            continue
        stop = ranges.parse_range(change.path[-1])[1]
        count = (change.target, NAME, "num_vfs")
        missing = change.desired is not ABSENT and stop is not None and stop > len(device.vfs)
        if missing and count in setting.kept_back:
            reason, text = kept_back_by(setting.kept_back[count])
            return (
                reason,
                f"of VFs {change.path[-1]} only {len(device.vfs)} are there, and {text}, which declares num_vfs",
            )
        if missing and count not in setting.desired:
            return Reason.UNSUPPORTED, f"of VFs {change.path[-1]} only {len(device.vfs)} are there: declare num_vfs"
    return None


def _use_trouble(changes: Sequence[Change], setting: Setting) -> Trouble | None:
    """Return which VF is in use that would go, or change its driver."""
    subject = setting.subject
    device = subject.devices[changes[0].target]
    touched: set[int] = set()
    for change in changes:
        if change.path[2] == "num_vfs":
            touched.update(range(len(device.vfs)))
        elif change.path[2] == "vf_driver":
            found = vfs.drivers(
                change.path[3], subject, device, chosen=change.desired is ABSENT, desired=change.desired
            )
            if not isinstance(found, Unknown):
                touched.update(index for index, driver in found.items() if driver != change.desired)
    for index in sorted(touched):
        if index >= len(device.vfs):
            break
        vf = subject.devices.get(device.vfs[index])
        trouble = (
            (Reason.UNKNOWN, f"VF {index} ({device.vfs[index]}) is not among the devices that were reported")
            if vf is None
            else use_of(f"VF {index}", vf)
        )
        if trouble is not None:
            return trouble
    return None


def _driver_trouble(changes: Sequence[Change], setting: Setting) -> Trouble | None:
    """Return which driver of VFs is to go."""
    for change in changes:
        if change.path[2] == "vf_driver" and change.declared_by.policy and isinstance(change.desired, str):
            need = f"sriov.vf_driver of {change.target}"
            conflict = module_conflict(module_name(change.desired), setting, need)
            if conflict is not None:
                return conflict
    return None


def _vfio_trouble(changes: Sequence[Change], setting: Setting) -> Trouble | None:
    """Return why VFs cannot be bound to vfio-pci."""
    if any(change.desired == VFIO and not is_boot(change.path) for change in changes):
        return iommu_trouble(setting.subject.facts.kernel)
    return None
