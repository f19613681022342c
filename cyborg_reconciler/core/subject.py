# SPDX-License-Identifier: Apache-2.0
"""One host's facts, laid out for look-up: devices by address, modules by name, what is owned by path.

Built once a host by `resolve` and `plan`; read by the features. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cyborg_reconciler.core.state import ABSENT, FieldPath, Observed, Unknown, Value
from cyborg_reconciler.documents import facts as reported
from cyborg_reconciler.documents.driver import DriverDocSpec, Match


@dataclass(frozen=True, slots=True)
class Subject:
    """The facts of one host, with the drivers that there are for its devices.

    Attributes:
        owned: the value before, of each field that this or another controller set on the host.
    """

    facts: reported.Facts
    devices: Mapping[str, reported.Device]
    modules: Mapping[str, reported.Module]
    owned: Mapping[FieldPath, Value]
    catalogue: Mapping[str, DriverDocSpec]

    def module(self, name: str) -> reported.Module | None:
        """Return the module called *name*, with - or _; None when the facts do not list it."""
        return self.modules.get(module_name(name))


def lay_out(facts: reported.Facts, catalogue: Mapping[str, DriverDocSpec]) -> Subject:
    """Return *facts* laid out for look-up."""
    fields = facts.ownership.fields if facts.ownership else ()
    return Subject(
        facts=facts,
        devices={device.address: device for device in facts.devices},
        modules={module_name(module.name): module for module in facts.drivers.modules},
        owned={tuple(field.path): from_json(field.before) for field in fields},
        catalogue=catalogue,
    )


def module_name(name: str) -> str:
    """Return *name* as the kernel spells it: with underscores."""
    return name.replace("-", "_")


def matches(device: reported.Device, rules: Iterable[Match]) -> bool:
    """Return whether one of a driver's match *rules* is for *device*."""
    return any(
        (rule.vendor_id is None or rule.vendor_id == device.vendor_id)
        and (not rule.product_id or device.product_id in rule.product_id)
        and (rule.class_id is None or device.class_id.startswith(rule.class_id))
        for rule in rules
    )


def as_observed(fact: str | int | bool | reported.Unknown | None) -> Observed:  # noqa: FBT001 - a fact may be a boolean
    """Return a *fact* as a field's observed value."""
    if fact is None:
        return ABSENT
    if isinstance(fact, reported.Unknown):
        return Unknown(fact.unknown)
    return fact


def from_json(value: reported.Scalar | list[reported.Scalar]) -> Value:
    """Return a value of the host's record as a field's value."""
    if isinstance(value, list):
        return tuple(map(str, value))
    return ABSENT if value is None else value


def to_json(value: Value) -> reported.Scalar | list[str]:
    """Return a field's value as it travels."""
    if isinstance(value, tuple):
        return list(value)
    return None if value is ABSENT else value


def describe_holders(holders: Iterable[reported.Holder]) -> str:
    """Return who holds something, in words: ``qemu-system-x86 (pid 4711), /dev/vfio/12``."""
    words = []
    for holder in holders:
        who = f"{holder.name} (pid {holder.pid})" if holder.pid is not None else f"{holder.kind} {holder.name}"
        words.append(f"{who} on {holder.detail}" if holder.detail else who)
    return ", ".join(words)
