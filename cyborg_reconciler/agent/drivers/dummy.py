# SPDX-License-Identifier: Apache-2.0
"""The driver without hardware: obedient, and there to try the whole way from the API to a driver. Pure.

Off unless the setting `dummy_devices` says how many virtual devices it offers.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from cyborg_reconciler.agent.drivers.base import HEALTHY, Device
from cyborg_reconciler.agent.readers import Facts
from cyborg_reconciler.hardware import GENERIC


class DummyDriver:
    """Offers *count* virtual devices that are always there and always well."""

    name: Final = "dummy"
    type: Final = GENERIC

    def __init__(self, count: int) -> None:
        names = (f"dummy {index}" for index in range(count))
        self._devices = tuple(
            Device(address=name.replace(" ", ":"), identity=(name,), acc_type="VIRTUAL") for name in names
        )

    def discover(self, facts: Facts) -> Sequence[Device]:
        """Return the virtual devices, whatever the host is."""
        del facts
        return self._devices

    def status(self, device: Device) -> str:
        """Return that *device* is well."""
        del device
        return HEALTHY

    def usage(self, device: Device) -> Mapping[str, float]:
        """Return that *device* idles."""
        del device
        return {"utilisation_ratio": 0.0}
