# SPDX-License-Identifier: Apache-2.0
"""What does the conductor want of this host? Which devices are to be ready, and of which modules facts are to speak.

It says so in its answers and in its requests; what it said last counts, and is kept on disk. Does I/O through the state
folder.
"""

import logging
import re
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from cyborg_reconciler.agent.state import StateFolder, is_uuid
from cyborg_reconciler.limits import HOST_DEVICES, MODULES

LOG: Final = logging.getLogger(__name__)

FILE: Final = "wanted.json"
#: One word that a driver has for a device; of characters that UTF-8 has.
ADDRESS: Final = re.compile(r"[^\s\x00-\x1f\x7f\ud800-\udfff]{1,64}")
#: As the controller has it (a test compares them).
MODULE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, order=True)
class DesiredDevice:
    """A device that is to be ready, as its driver calls it: by its address, and by its uuid."""

    driver: str
    address: str
    uuid: str


class Wanted:
    """What is wanted, as it was said last; None: nothing was said of it yet. Safe to use from many threads."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder, self._lock = folder, threading.Lock()
        kept = folder.read_json(FILE) or {}
        self.ready, self.modules = parse_ready(kept.get("ready")), parse_modules(kept.get("modules"))

    def take(self, ready: tuple[DesiredDevice, ...] | None = None, modules: tuple[str, ...] | None = None) -> bool:
        """Take in what is wanted, where anything is said of it; return whether that is something new."""
        with self._lock:
            before = self.ready, self.modules
            self.ready = self.ready if ready is None else ready
            self.modules = self.modules if modules is None else modules
            if before == (self.ready, self.modules):
                return False
            devices = None if self.ready is None else [asdict(one) for one in self.ready]
            self._folder.write_json(FILE, {"ready": devices, "modules": self.modules})
        return True

    def addresses(self, driver: str) -> frozenset[str]:
        """Return the addresses of the devices of *driver* that are to be ready."""
        return frozenset(one.address for one in self.ready or () if one.driver == driver)

    def uuids(self, driver: str) -> list[str] | None:
        """Return the uuids of the devices of *driver* that are to be ready; None where nothing was said of any."""
        return None if self.ready is None else [one.uuid for one in self.ready if one.driver == driver]


def parse_ready(said: object) -> tuple[DesiredDevice, ...] | None:
    """Return which devices are to be ready; None where that is not said, or not so that it could be understood."""
    if not isinstance(said, list | tuple):
        return None
    if len(said) > HOST_DEVICES:
        words = "%d devices are to be ready, and a host has %d at most: what was wanted before counts"
        LOG.warning(words, len(said), HOST_DEVICES)
        return None
    devices = [_device(item) for item in said]
    return None if None in devices else tuple(sorted(filter(None, devices)))


def _device(item: object) -> DesiredDevice | None:
    if not isinstance(item, dict):
        return None
    driver, address, uuid = (item.get(key) for key in ("driver", "address", "uuid"))
    is_one = all(isinstance(word, str) and ADDRESS.fullmatch(word) for word in (driver, address))
    return DesiredDevice(str(driver), str(address), str(uuid)) if is_one and is_uuid(uuid) else None


def parse_modules(said: object) -> tuple[str, ...] | None:
    """Return of which modules facts are to speak; None where that is not said, or cannot be understood."""
    if not isinstance(said, list | tuple) or len(said) > MODULES:
        return None
    return tuple(sorted(set(said))) if all(map(_is_module, said)) else None


def _is_module(item: Any) -> bool:  # noqa: ANN401 - whatever somebody sent
    return isinstance(item, str) and bool(MODULE.fullmatch(item))


def described(devices: Iterable[DesiredDevice]) -> str:
    """Return *devices* in words, for the log."""
    return ", ".join(f"{one.driver} {one.address}" for one in devices) or "nothing"
