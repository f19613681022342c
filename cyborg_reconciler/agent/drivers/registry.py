# SPDX-License-Identifier: Apache-2.0
"""Which drivers are there? Those in the agent's process, and those that said hello, who are remembered over a restart.

`observer`, `reporter` and `server` share one `Registry`, from threads of their own. Does I/O through the state folder.
"""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from cyborg_reconciler.agent.drivers.base import UNKNOWN, Device, Driver, Fleeting
from cyborg_reconciler.agent.drivers.remote import (
    NAME,
    READY,
    TYPE,
    Registration,
    RemoteDriver,
    parse_endpoint,
    told,
)
from cyborg_reconciler.agent.readers import Facts
from cyborg_reconciler.agent.state import StateFolder
from cyborg_reconciler.agent.wanted import Wanted
from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.secret_files import read_secret

LOG: Final = logging.getLogger(__name__)

FILE: Final = "drivers.json"
#: More are not let in: each is called in turn.
REMOTE_LIMIT: Final = 16


class TooManyDriversError(Exception):
    """No further driver is let in."""


class Registry:
    """The drivers by name.

    Attributes:
        wanted: what the conductor wants of their devices.
    """

    def __init__(self, own: Sequence[Driver], folder: StateFolder, credential_file: Path | None = None) -> None:
        self._own = {driver.name: driver for driver in own}
        self._folder, self._credential_file = folder, credential_file
        self._lock, self._keeping = threading.Lock(), threading.Lock()
        self._remote: dict[str, RemoteDriver] = {}
        self.wanted = Wanted(folder)
        self._failed: set[str] = set()  # those whose last discovery did not succeed
        known = (folder.read_json(FILE) or {}).get("drivers")
        for item in known if isinstance(known, list) else ():
            try:
                registration = Registration(str(item["name"]), str(item["type"]), parse_endpoint(item["endpoint"], 0))
                self._take_in(registration)
            except (KeyError, TypeError, ValueError, TooManyDriversError) as exc:
                LOG.warning("a driver that registered before is forgotten: %s", exc)

    def names(self) -> tuple[str, ...]:
        """Return the names of all drivers."""
        with self._lock:
            return (*self._own, *self._remote)

    def own(self) -> tuple[Driver, ...]:
        """Return the drivers in this process."""
        return tuple(self._own.values())

    def remote(self, name: str | None = None) -> tuple[RemoteDriver, ...]:
        """Return the registered drivers, or only the one called *name*."""
        with self._lock:
            return tuple(driver for key, driver in self._remote.items() if name in {None, key})

    def register(self, registration: Registration) -> None:
        """Take in a driver that said hello; the same name again is the same driver, moved.

        Raises: ValueError, TooManyDriversError.
        """
        self._take_in(registration)
        with self._keeping:  # whoever writes last has seen all that were taken in; who asks for them does not wait
            self._folder.write_json(FILE, {"drivers": [asdict(driver.registration) for driver in self.remote()]})
        LOG.info("driver %s is at %s", registration.name, registration.endpoint)

    def _take_in(self, registration: Registration) -> None:
        if not NAME.fullmatch(registration.name) or registration.name in self._own:
            message = f"{registration.name}: is no name for a driver, or that of one of the agent's own"
            raise ValueError(message)
        if not TYPE.fullmatch(registration.type):
            message = f"{registration.type}: is no type of devices"
            raise ValueError(message)
        driver = RemoteDriver(registration, self.credential())
        with self._lock:
            if registration.name not in self._remote and len(self._remote) >= REMOTE_LIMIT:
                raise TooManyDriversError(f"{REMOTE_LIMIT} drivers are registered already")
            self._remote[registration.name] = driver

    def credential(self) -> str | None:
        """Return what drivers and agent show to each other, None where nothing was agreed. Raises: ValueError."""
        if self._credential_file is None:
            return None
        try:
            return read_secret(self._credential_file, group=True)
        except SettingsInvalidError as exc:
            raise ValueError(str(exc)) from exc

    def documents(self, endpoint: str, busy: Iterable[str]) -> list[dict[str, Any]]:
        """Return the drivers as a check-in says them; those in this process are reached at the agent's *endpoint*."""
        at_work = frozenset(busy)
        own = [(driver.name, driver.type, READY, endpoint) for driver in self._own.values()]
        said = ((driver.registration, driver.status) for driver in self.remote())
        remote = [(who.name, who.type, status, who.endpoint) for who, status in said]
        return [
            {"name": name, "type": kind, "status": "IN-PROGRESS" if name in at_work else status, "endpoint": at}
            for name, kind, status, at in own + remote
        ]

    # --------------------------------------------------------------------------------------------- drivers in process
    def discover(self, facts: Facts) -> dict[str, tuple[Device, ...]]:
        """Return what each driver of this process finds, when what is wanted ready was set up.

        One that fails finds nothing, and says so in the log.
        """
        found: dict[str, tuple[Device, ...]] = {}
        for name, driver in self._own.items():
            try:
                driver.set_up(self.wanted.addresses(name))
                found[name] = tuple(driver.discover(facts))
            except Exception:  # one driver's mistake must not silence the host
                LOG.exception("driver %s: its discovery failed", name)
                found[name] = ()
                self._failed.add(name)
            else:
                self._failed.discard(name)
        return found

    def hardware(self, seen: Mapping[str, Sequence[Device]], host: UUID) -> list[dict[str, Any]]:
        """Return the devices of the drivers of this process that no facts tell of, as a check-in says them.

        Where one fails at its discovery, nothing is said of its devices.
        """
        found = []
        for name, driver in self._own.items():
            if driver.is_of_facts or name in self._failed:
                continue
            devices = []
            for one in seen.get(name, ()):
                document = one.document(host) | {"address": one.address}
                document["acc_status"]["health"] = self._health(driver, one)
                devices.append(told(document))
            found.append({"driver": name, "devices": devices})
        return found

    def _health(self, driver: Driver, device: Device) -> str:
        try:
            return driver.status(device)
        except Exception:  # one driver's mistake must not silence the host
            LOG.exception("driver %s: %s cannot be watched", driver.name, device.address)
            return UNKNOWN

    def watch(self, devices: dict[str, tuple[Device, ...]]) -> Fleeting:
        """Return how *devices*, by driver, fare and how they are used."""
        seen = Fleeting()
        for name, found in devices.items():
            driver = self._own[name]
            for device in found:
                try:
                    usage = dict(driver.usage(device))
                except Exception:  # the same: what is not known of one device is known of others
                    LOG.exception("driver %s: %s cannot be measured", name, device.address)
                    usage = {}
                health = self._health(driver, device)
                seen.status.append({"address": device.address, "health": health, "driver": name})
                if usage:
                    seen.usage.append({"address": device.address, "metrics": usage})
        return seen
