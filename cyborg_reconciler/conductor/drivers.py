# SPDX-License-Identifier: Apache-2.0
"""What becomes of a driver on a host that somebody wants there, or away? It is declared, and the loop carries it out.

Called by the API. All I/O goes through the stores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cyborg_reconciler.conductor.callers import Caller
from cyborg_reconciler.conductor.rules import Rules
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.errors import ConflictError, NotFoundError
from cyborg_reconciler.ports import Clock, Event, Journal
from cyborg_reconciler.stores.work import HostDriver, HostDriverStore

#: What can be asked for, and what is told of it.
DriverCommand = Literal["install", "update", "uninstall"]
EVENT_KINDS: Mapping[DriverCommand, str] = {
    "install": "DriverInstallAsked",
    "update": "DriverUpdateAsked",
    "uninstall": "DriverUninstallAsked",
}


@dataclass(frozen=True, slots=True)
class Drivers:
    """What callers ask to become of drivers on hosts.

    Attributes:
        shipped: the drivers that there are before any host was looked at.
    """

    store: HostDriverStore
    journal: Journal
    rules: Rules
    shipped: Mapping[str, DriverDocSpec]
    clock: Clock

    def ask(
        self, caller: Caller, command: DriverCommand, host: str, driver: str, version: str | None = None
    ) -> HostDriver:
        """Declare that *driver* is to be on *host*, or not; return that with the run which is to carry it out.

        An update is to the version that the catalogue has; without any, and without *version*, it is an installation.

        Raises:
            NotFoundError: there is no such host or driver.
            ConflictError: a policy declares the driver there, or it has no such version.
        """
        record = next(iter(self.journal.hosts([host])), None)
        if record is None:
            raise NotFoundError(wanted=f"host {host}", found="there is none")
        spec = (self.store.catalogue() or self.shipped).get(driver)
        if spec is None:
            raise NotFoundError(wanted=f"driver {driver}", found="there is none")
        rules = self.rules.of(host)
        declared = (record.drivers or {}) if rules is None else rules.drivers()
        if driver in declared:
            policy = declared[driver]
            raise ConflictError(
                wanted=f"to {command} {driver} on {host}",
                found=f"policy {policy} declares it there",
                remedy="change the policy",
            )
        if version is not None and spec.kernel_module is None:
            raise ConflictError(
                wanted=f"{driver} {version}",
                found="it has no module that could be of a version",
                remedy="leave the version out",
            )
        if version is not None and spec.dkms is not None and version != spec.version:
            raise ConflictError(
                wanted=f"{driver} {version}", found=f"its source has {spec.version}", remedy="leave the version out"
            )
        now = self.clock.now()
        wanted = HostDriver(
            host=host,
            driver=driver,
            state="absent" if command == "uninstall" else "present",
            version=spec.version if command == "update" and version is None else version,
            declared_by=caller.name,
            declared_at=now,
        )
        data = {**caller.trace(), "driver": driver, "after": wanted.told()}
        return self.store.declare(wanted, Event(now, EVENT_KINDS[command], host, f"{caller.name}: {driver}", data))
