# SPDX-License-Identifier: Apache-2.0
"""What differs between the desired and the observed state of one host.

Called by `plan`, before a change and again after it (verify is this same function). Pure: values in, values out.
"""

from collections.abc import Callable

from cyborg_reconciler.core.state import HOST, NO_LONGER_DECLARED, Change, FieldPath, HostState, Origin, Unknown


def nobody(_path: FieldPath) -> Origin:
    """Return the origin of a field that no policy declares."""
    return NO_LONGER_DECLARED


def diff(desired: HostState, observed: HostState, origin: Callable[[FieldPath], Origin] = nobody) -> tuple[Change, ...]:
    """Return what must change so that *observed* becomes *desired*; *origin* tells who declared a field.

    Shape: ordered by device address, the host last, then by field; empty when they agree. Fields that *desired* leaves
    open, and fields observed as Unknown, yield nothing: `blind_spots` lists the latter, and `make_plan` refuses to act
    on their devices.
    """
    changes = []
    for path, wanted in desired.items():
        found = observed.get(path)
        if found is wanted or found is None or (found == wanted and type(found) is type(wanted)):
            continue
        if isinstance(found, Unknown) or isinstance(wanted, Unknown):
            continue
        changes.append(Change(path, wanted, found, origin(path)))
    if len(changes) > 1:
        changes.sort(key=lambda change: (change.path[0] == HOST, change.path))
    return tuple(changes)


def blind_spots(desired: HostState, observed: HostState) -> tuple[tuple[FieldPath, Unknown], ...]:
    """Return the desired fields that could not be observed, and why."""
    if desired.keys() == observed.keys() and Unknown not in map(type, observed.values()):
        return ()
    missing = Unknown("it was not observed")
    found = ((path, observed.get(path, missing)) for path in desired)
    return tuple((path, value) for path, value in found if isinstance(value, Unknown))
