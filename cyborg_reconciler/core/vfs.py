# SPDX-License-Identifier: Apache-2.0
"""What the VFs of a PF are bound to, and what the next boot binds them to. Called by the feature `sriov`. Pure.

A VF whose driver nobody chose has the value ABSENT: it is with the kernel's own choice, or not there.
"""

from collections.abc import Iterable, Mapping, Sequence

from cyborg_reconciler.core import ranges
from cyborg_reconciler.core.state import ABSENT, Observed, Unknown, Value
from cyborg_reconciler.core.subject import UNBOUND, Subject
from cyborg_reconciler.documents import facts as reported


def drivers(
    text: str, subject: Subject, device: reported.Device, *, chosen: bool = False, desired: Value = ABSENT
) -> Mapping[int, Value] | Unknown:
    """Return what each VF of a range is bound to; ABSENT where there is none.

    With *chosen*, only what was chosen (by ``driver_override``) counts, not what the kernel found by itself. A driver
    has the name of its module where that is *desired*.
    """
    if isinstance(device.num_vfs, reported.Unknown):
        return Unknown(device.num_vfs.unknown)
    found: dict[int, Value] = {}
    there = len(device.vfs)
    for index in ranges.expand(text, there):
        if index >= there:
            found[index] = ABSENT
            continue
        vf = subject.devices.get(device.vfs[index])
        if vf is None:
            return Unknown(f"VF {index} ({device.vfs[index]}) is not among the devices that were reported")
        if isinstance(vf.driver, reported.Unknown):
            return Unknown(vf.driver.unknown)
        if chosen and isinstance(vf.driver_override, reported.Unknown):
            return Unknown(vf.driver_override.unknown)
        bound_to = subject.named_as(desired, vf.driver, vf) if vf.driver else UNBOUND
        found[index] = ABSENT if chosen and vf.driver_override is None else bound_to
    return found


def drivers_at_boot(text: str, device: reported.Device) -> Mapping[int, Value] | Unknown:
    """Return what the next boot binds each VF of a range to, by what persists on the host."""
    if isinstance(device.boot_vf_drivers, reported.Unknown):
        return Unknown(device.boot_vf_drivers.unknown)
    if isinstance(device.boot_num_vfs, reported.Unknown):
        return Unknown(device.boot_num_vfs.unknown)
    count = len(device.vfs) if device.boot_num_vfs is None else device.boot_num_vfs
    persisted = {i: group.driver for group in device.boot_vf_drivers for i in ranges.expand(group.vfs, count)}
    return {index: persisted.get(index, ABSENT) for index in ranges.expand(text, count)}


def as_one(found: Mapping[int, Value] | Unknown, nothing: Value) -> Observed:
    """Return the value that all VFs share, else all their values in order; *nothing* where there is no VF."""
    if isinstance(found, Unknown):
        return found
    values = set(found.values())
    if len(values) > 1:
        return tuple(sorted(map(str, values)))
    return values.pop() if values else nothing


def as_groups(chosen: Mapping[str, Value], count: int) -> Sequence[Mapping[str, str]]:
    """Return drivers by range as the groups of the module `sriov_vfs`, cut to *count* VFs."""
    by_index = {
        index: driver
        for text, driver in chosen.items()
        if isinstance(driver, str)
        for index in ranges.expand(text, count)
        if index < count
    }
    return [{"vfs": vfs, "driver": driver} for vfs, driver in ranges.compress(by_index)]


def apart(found: Mapping[int, Value], texts: Iterable[str]) -> Mapping[int, Value]:
    """Return those of *found* that are in none of the ranges *texts*."""
    known = tuple(texts)
    return {index: value for index, value in found.items() if not any(ranges.within(text, index) for text in known)}
