# SPDX-License-Identifier: Apache-2.0
"""Which driver of the catalogue is for a device? Called by `lifecycle` and `accelerators`. Pure."""

from collections.abc import Mapping
from typing import Final

from cyborg_reconciler.core.state import Unknown
from cyborg_reconciler.core.subject import lacks_ids, matches
from cyborg_reconciler.documents.driver import DriverDocSpec, Match
from cyborg_reconciler.documents.facts import Device

#: How closely a rule describes a device: by product, by vendor, by how many digits of its class.
Closeness = tuple[bool, bool, int]

#: That of a driver without rules, which is for every device.
EVERY: Final[Closeness] = (False, False, 0)


def fitting(device: Device, catalogue: Mapping[str, DriverDocSpec]) -> tuple[str, ...] | Unknown:
    """Return the drivers that describe *device* most closely, in the order of the catalogue.

    Shape: empty where none is for it; several where nothing tells which is meant; Unknown where an id could not be
    read that a driver asks for.
    """
    named = {name: spec.match for name, spec in catalogue.items() if matches(device, spec.match, perhaps=True)}
    doubt = lacks_ids(device)
    if doubt and not all(matches(device, rules) for rules in named.values()):
        return Unknown(doubt)
    found = {name: max(_closeness(rule) for rule in rules if matches(device, (rule,))) for name, rules in named.items()}
    found |= {name: EVERY for name, spec in catalogue.items() if not spec.match}
    closest = max(found.values(), default=EVERY)
    return tuple(name for name in catalogue if found.get(name) == closest)


def _closeness(rule: Match) -> Closeness:
    return bool(rule.product_id), rule.vendor_id is not None, len(rule.class_id or "")
