# SPDX-License-Identifier: Apache-2.0
"""The driver without hardware: obedient, and there to try the whole way from the API to a driver. Pure.

Off unless the setting `dummy_devices` says how many virtual devices it offers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from cyborg_reconciler.agent.drivers.base import HEALTHY, Device
from cyborg_reconciler.agent.readers import Facts
from cyborg_reconciler.hardware import GENERIC


class DummyDriver:
    """Offers *count* virtual devices that are always there and always well, and set up when it is told to."""

    name: Final = "dummy"
    type: Final = GENERIC
    is_of_facts: Final = False

    def __init__(self, count: int) -> None:
        names = (f"dummy {index}" for index in range(count))
        self._devices = tuple(
            Device(address=name.replace(" ", ":"), identity=(name,), acc_type="VIRTUAL") for name in names
        )
        self._ready: frozenset[str] = frozenset()

    def discover(self, facts: Facts) -> Sequence[Device]:
        """Return the virtual devices, whatever the host is."""
        del facts
        return [replace(one, setup_required=one.address not in self._ready) for one in self._devices]

    def set_up(self, ready: Collection[str]) -> None:
        """Obey."""
        self._ready = frozenset(ready)

    def status(self, device: Device) -> str:
        """Return that *device* is well."""
        del device
        return HEALTHY

    def usage(self, device: Device) -> Mapping[str, float]:
        """Return that *device* idles."""
        del device
        return {"utilisation_ratio": 0.0}
