# SPDX-License-Identifier: Apache-2.0
"""What is a driver to the agent, and what is a device that it finds? Pure.

A driver here detects, watches, and sets up what it alone knows; what installs kernel drivers on hosts are the roles of
the collection.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

from cyborg_reconciler.agent.readers import Facts
from cyborg_reconciler.hardware import GENERIC, uuid_in

#: How a device fares, in the words of the health of hosts.
HEALTHY: Final = "Healthy"
DEGRADED: Final = "Degraded"
MISSING: Final = "Missing"
UNKNOWN: Final = "Unknown"
HEALTHS: Final = (HEALTHY, DEGRADED, MISSING, UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device that a driver found.

    Attributes:
        address: of a PCI function; a device of another kind has a name of its driver's choice.
        identity: what its uuid is made of, see `hardware`; empty where that could not be read.
        acc_type: ``PF``, ``VF``, ``PCI`` or ``VIRTUAL``.
        num: how many accelerators it can be at once; for a PF its VFs.
    """

    address: str
    identity: tuple[str, ...]
    device_type: str = GENERIC
    acc_type: str = "PCI"
    vendor_id: str | None = None
    product_id: str | None = None
    num: int = 1
    setup_required: bool = False
    reboot_required: bool = False
    net_names: tuple[str, ...] = ()
    nvme_names: tuple[str, ...] = ()

    def document(self, host: UUID) -> dict[str, Any]:
        """Return the device as ``GET /hardware`` says it; its uuid lies in the namespace of the *host*'s."""
        return {
            "uuid": str(uuid_in(host, self.identity)),
            "acc_specs": {
                "remote": 0,
                "num": 1,
                "device_type": self.device_type,
                "acc_type": self.acc_type,
                "vendor_id": self.vendor_id,
                "product_id": self.product_id,
                "acc_capability": {"num": self.num},
            },
            "acc_status": {"setup_required": self.setup_required, "reboot_required": self.reboot_required},
        }


class Driver(Protocol):
    """What the agent asks of a driver in its own process."""

    @property
    def name(self) -> str:
        """Return what it is called in ``/drivers/{name}``."""

    @property
    def type(self) -> str:
        """Return the type of its devices, ``GENERIC`` for several."""

    @property
    def is_of_facts(self) -> bool:
        """Return whether the facts tell of its devices, so that the conductor knows them by those."""

    def discover(self, facts: Facts) -> Sequence[Device]:
        """Return the devices that it is for."""

    def set_up(self, ready: Collection[str]) -> None:
        """Make the devices at the addresses *ready* be so, and let go of those that it had set up and are not there."""

    def status(self, device: Device) -> str:
        """Return how *device* fares: ``Healthy``, ``Degraded``, ``Missing`` or ``Unknown``."""

    def usage(self, device: Device) -> Mapping[str, float]:
        """Return what can be measured of *device*, by name with its unit; nothing where nothing can."""


@dataclass(frozen=True, slots=True)
class Fleeting:
    """How the devices fare and how they are used, as a check-in says it: known for a moment, and never stored here."""

    status: list[dict[str, Any]] = field(default_factory=list)
    usage: list[dict[str, Any]] = field(default_factory=list)
