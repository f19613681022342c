# SPDX-License-Identifier: Apache-2.0
"""Which policies that somebody wrote declare a device's state, what it is bound to, and a host's drivers? Pure.

Asked by the conductor, before a wish of the API is taken and after each pass, and by `survey`.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from cyborg_reconciler.core import ranges
from cyborg_reconciler.core.features import binding, driver
from cyborg_reconciler.core.lifecycle import INACTIVE
from cyborg_reconciler.core.resolve import Desired
from cyborg_reconciler.core.state import HOST, FieldPath, Origin, Value
from cyborg_reconciler.core.subject import Subject
from cyborg_reconciler.documents.declared import IMPLIED_PLACE


class Said(NamedTuple):
    """What a policy declares, and which."""

    value: Value
    policy: str


#: No policy says what a device is to be: then it is to be nothing in particular.
UNSAID: Final = Said(INACTIVE, "")


@dataclass(frozen=True, slots=True)
class HostRules:
    """What is declared of one host."""

    desired: Desired
    subject: Subject

    def state(self, address: str) -> Said | None:
        """Return the state that a policy declares of a device, `UNSAID` where none does; None: it cannot be told."""
        if self._is_held(address):
            return None
        leaf = self.desired.lifecycle.states.get(address)
        return Said(leaf.value, leaf.origin.place) if leaf is not None and is_written(leaf.origin) else UNSAID

    def binding(self, address: str) -> Said | None:
        """Return what a policy binds a device to; None where none does, or it cannot be told.

        That of a VF may be said of its PF, as ``sriov.vf_driver``; a PF that is to have VFs is with what makes them.
        """
        if self._is_held(address):
            return None
        path = (address, binding.NAME, "driver")
        if path in self.desired.fields and is_written(origin := self.desired.origin(path)):
            return Said(self.desired.fields[path], origin.place)
        vfs = (address, "sriov", "num_vfs")
        if self.desired.fields.get(vfs, 0) and is_written(origin := self.desired.origin(vfs)):
            return Said("the driver that makes its VFs", origin.place)
        device = self.subject.devices.get(address)
        if device is None or not isinstance(device.physfn, str) or device.vf_index is None:
            return None
        pf = self.desired.templates.get(device.physfn)
        for tail, value, origin in pf.fields if pf is not None else ():
            if tail[:2] == ("sriov", "vf_driver") and ranges.within(tail[2], device.vf_index):
                return Said(value, origin.place)
        return None

    def of_device(self, address: str) -> tuple[object, ...]:
        """Return what policies say of a device's state and binding: equal where they say the same."""
        leaf = self.desired.lifecycle.states.get(address)
        return self.state(address), leaf.value if leaf is not None else None, self.binding(address)

    def of_driver(self, name: str) -> dict[FieldPath, tuple[Value, Origin]]:
        """Return what policies say of a driver: equal where they say the same."""
        path = (HOST, driver.NAME, name)
        fields = self.desired.fields.items()
        return {found: (value, self.desired.origin(found)) for found, value in fields if found[: len(path)] == path}

    def drivers(self) -> dict[str, str]:
        """Return which policies declare drivers on the host, by the driver's name."""
        template = self.desired.templates.get(HOST)
        return {
            tail[1]: origin.place
            for tail, origin in (template.origins.items() if template else ())
            if tail[0] == driver.NAME and tail[2] == "state" and is_written(origin)
        }

    def _is_held(self, address: str) -> bool:
        """Return whether a policy may select the device or not: nobody knows."""
        device = self.subject.devices.get(address)
        pf = device.physfn if device is not None and isinstance(device.physfn, str) else address
        return address in self.desired.held or pf in self.desired.held


def is_written(origin: Origin) -> bool:
    """Return whether somebody wrote the policy that *origin* is of."""
    return bool(origin.policy) and origin.file != IMPLIED_PLACE
