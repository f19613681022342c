# SPDX-License-Identifier: Apache-2.0
"""A driver outside the agent's process, which registered from the same host and is asked over HTTP. Does I/O.

It is called at the loopback endpoint that it registered and nowhere else, with the credential that drivers and agent
share. What it says is bounded, and checked like everything that comes from outside.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cyborg_reconciler.agent.drivers.base import HEALTHS, HEALTHY
from cyborg_reconciler.agent.http import Answer, Caller, NoAnswerError
from cyborg_reconciler.agent.settings import is_loopback, parse_address
from cyborg_reconciler.agent.state import is_uuid
from cyborg_reconciler.agent.wanted import ADDRESS
from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.limits import DRIVER_DEVICES, MAX_DEPTH, is_deep

#: A driver answers from the same host; one that needs longer has hung.
CONNECT_S: Final = 2.0
ANSWER_S: Final = 10.0
#: What the devices of a driver can do, all together, takes no more.
CAPABILITY_BYTES: Final = 32 * 1024
CONFLICT: Final = 409
#: How drivers may be called, and what their devices may be of: one word.
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
PCI_ID: Final = re.compile(r"[0-9a-f]{4}")
TYPE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,31}")

READY: Final = "READY"
IN_PROGRESS: Final = "IN-PROGRESS"
UNREACHABLE: Final = "UNREACHABLE"


class DriverSilentError(Exception):
    """A driver does not answer as it should."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What a driver said in its hello; *endpoint* is loopback and a port."""

    name: str
    type: str
    endpoint: str


def parse_endpoint(text: str, own_port: int) -> str:
    """Return *text* as an endpoint of this host: loopback, and not the agent's own port. Raises: ValueError."""
    try:
        host, port = parse_address(text)
    except SettingsInvalidError as exc:
        raise ValueError(str(exc)) from exc
    if not is_loopback(host):
        message = f"{text}: a driver is called on loopback alone: localhost:PORT"
        raise ValueError(message)
    if port in {0, own_port}:
        message = f"{text}: is no port of a driver"
        raise ValueError(message)
    # Not by a resolver: what `localhost` means is not for a file to say.
    return f"[{host}]:{port}" if ":" in host else f"{'127.0.0.1' if host == 'localhost' else host}:{port}"


class RemoteDriver:
    """One registered driver.

    Attributes:
        status: ``READY``, or ``UNREACHABLE`` since the last call.
        rests_until: when the observer asks it again, since it was silent.
    """

    def __init__(self, registration: Registration, credential: str | None) -> None:
        self.registration, self._credential = registration, credential
        self.status, self.rests_until = READY, 0.0
        self._taken: dict[str, list[str]] | None = None  # what the last request to discover said, where it took that
        self._caller = Caller(f"http://{registration.endpoint}", connect_s=CONNECT_S, answer_s=ANSWER_S)

    def discover(self, ready: Sequence[str] | None = None) -> None:
        """Have it discover, and set up the devices with the uuids *ready*. Raises: DriverSilentError.

        Where nothing is said of what is to be ready, nothing is said to the driver either.
        """
        self._taken, said = None, _said(ready)
        status = self._ask("POST", "/discovery", {202, 409}, said or None).status
        if status != CONFLICT or not said:  # what is at it already has not heard of this
            self._taken = said

    def has_taken(self, ready: Sequence[str] | None) -> bool:
        """Return whether it took the last request to discover, and that said *ready*."""
        return self._taken == _said(ready)

    def hardware(self) -> list[dict[str, Any]]:
        """Return its devices, as ``GET /hardware`` says them. Raises: DriverSilentError."""
        found = self._ask("GET", "/hardware", {200}).body.get("hardware")
        if not isinstance(found, list) or len(found) > DRIVER_DEVICES or not all(map(is_hardware, found)):
            raise self._silent("its hardware is not as the internal API says it")
        if why := _untold([item["acc_specs"].get("acc_capability", {}) for item in found]):
            raise self._silent(f"what its devices can do {why}")
        return found

    def _ask(self, method: str, path: str, fine: set[int], body: object = None) -> Answer:
        try:
            answer = self._caller.ask(method, path, token=self._credential, body=body)
        except NoAnswerError as exc:
            raise self._silent(str(exc)) from exc
        if answer.status not in fine:
            raise self._silent(f"{method} {path} was answered with {answer.status}")
        self.status = READY
        return answer

    def _silent(self, why: str) -> DriverSilentError:
        self.status = UNREACHABLE
        return DriverSilentError(f"driver {self.registration.name}: {why}")


def _said(ready: Sequence[str] | None) -> dict[str, list[str]]:
    return {} if ready is None else {"ready": list(ready)}


def is_hardware(item: object) -> bool:
    """Say whether *item* is one device as the internal API has it; more keys than it knows are let pass."""
    if not isinstance(item, dict):
        return False
    specs, status = item.get("acc_specs"), item.get("acc_status")
    return (
        is_uuid(item.get("uuid"))
        and isinstance(specs, dict)
        and isinstance(specs.get("device_type"), str)
        and TYPE.fullmatch(specs["device_type"]) is not None
        and isinstance(specs.get("acc_capability", {}), dict)
        and isinstance(status, dict)
        and all(isinstance(status.get(key, False), bool) for key in ("setup_required", "reboot_required"))
    )


def _untold(capabilities: Sequence[dict[str, Any]]) -> str:
    """Return why no conductor would take *capabilities*, and with them the whole check-in; empty where it would."""
    if any(map(is_deep, capabilities)):
        return f"is nested deeper than {MAX_DEPTH} levels"
    try:
        size = len(json.dumps(capabilities, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:  # a lone surrogate, or a number that JSON has not
        return "is no JSON in UTF-8"
    return f"is longer than {CAPABILITY_BYTES} bytes" if size > CAPABILITY_BYTES else ""


def told(item: dict[str, Any]) -> dict[str, Any]:
    """Return *item*, which `is_hardware`, as a check-in tells of it: what it knows, and no more."""
    specs, status = item["acc_specs"], item["acc_status"]
    address = item.get("address")
    health = status.get("health")
    return {
        "uuid": item["uuid"],
        "address": address if isinstance(address, str) and ADDRESS.fullmatch(address) else item["uuid"],
        "acc_specs": {
            "remote": int(specs.get("remote") == 1),
            "num": _count(specs.get("num")),
            "device_type": specs["device_type"],
            "acc_type": _word(specs.get("acc_type")) or "",
            "vendor_id": _pci_id(specs.get("vendor_id")),
            "product_id": _pci_id(specs.get("product_id")),
            "acc_capability": specs.get("acc_capability", {}),
        },
        "acc_status": {
            "setup_required": status.get("setup_required", False),
            "reboot_required": status.get("reboot_required", False),
            # Who speaks of a device and not of how it fares has nothing to say against it.
            "health": health if health in HEALTHS else HEALTHY,
        },
    }


def _word(said: object) -> str | None:
    return said if isinstance(said, str) and ADDRESS.fullmatch(said) else None


def _pci_id(said: object) -> str | None:
    return said if isinstance(said, str) and PCI_ID.fullmatch(said) else None


def _count(said: object) -> int:
    return said if isinstance(said, int) and not isinstance(said, bool) and 0 < said <= DRIVER_DEVICES else 1
