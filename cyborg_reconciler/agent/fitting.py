# SPDX-License-Identifier: Apache-2.0
"""What of the hardware is told, where it is more than the conductor takes? Pure.

Called by `reporter`. Whoever tells too much is refused, again and again: the rest is left out, and that is said.
"""

from collections.abc import Sequence
from typing import Any, Final

from cyborg_reconciler.agent.http import encode
from cyborg_reconciler.limits import DRIVER_DEVICES, HOST_DEVICES, MAX_BODY_BYTES

#: What is left free in a check-in for the reasons why hardware is not in it.
REASONS_BYTES: Final = 8 * 1024

#: As a check-in says it: one for each driver, with its name and its devices.
Hardware = list[dict[str, Any]]


def within_limits(hardware: Sequence[dict[str, Any]]) -> tuple[Hardware, list[str]]:
    """Return of *hardware* as much as a host may have, and why there is not more.

    Of a driver whose devices are not all told, it is the same ones each time, and what is told is marked as a part.
    """
    room, told, reasons = HOST_DEVICES, list[dict[str, Any]](), list[str]()
    for one in hardware:
        most, count = min(room, DRIVER_DEVICES), len(one["devices"])
        if count > most:
            first = sorted(one["devices"], key=lambda device: str(device["uuid"]))[:most]
            told.append({**one, "devices": first, "whole": False})
            reasons.append(
                f"driver {one['driver']}: {count - most} of its {count} devices are left out:"
                f" a driver may have {DRIVER_DEVICES}, and all of a host {HOST_DEVICES}"
            )
        else:
            told.append(one)
        room -= min(count, most)
    return told, reasons


def within_length(said: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the check-in *said* without what most-saying drivers found, where all is too much, and why.

    The facts come first: of a driver that is left out nothing is said, as of a silent one.
    """
    size, reasons = len(encode(said)), list[str]()
    hardware = list(said["hardware"])
    for one in sorted(hardware, key=lambda one: len(encode(one)), reverse=True):
        if size <= MAX_BODY_BYTES - REASONS_BYTES:
            break
        size -= len(encode(one))
        hardware.remove(one)
        reasons.append(f"driver {one['driver']}: its hardware is left out: the check-in would be too long")
    return said | {"hardware": hardware}, reasons
