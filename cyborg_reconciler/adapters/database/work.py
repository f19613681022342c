# SPDX-License-Identifier: Apache-2.0
"""What is to be done next, and by whom, as the stores have it: queue, leases, and drivers declared over the API.

Opened by `bootstrap`, called by the worker and the conductor. Works in the journal's database; each method is one
transaction, on disk when it returns.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Engine

from cyborg_reconciler.adapters.database import host_driver_rows, lease_rows, queue_rows
from cyborg_reconciler.adapters.database.declaration_rows import read_catalogue
from cyborg_reconciler.adapters.database.engine import reading, writing
from cyborg_reconciler.adapters.database.event_rows import put_event
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.work import HostDriver, Lease, Pass, QueueItem, RunNews, with_before


class DatabaseWork:
    """Queue, leases and drivers on hosts, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # ------------------------------------------------------------------------------------------------------------ queue
    def take(self, limit: int, at: datetime) -> Sequence[QueueItem]:
        """Return up to *limit* hosts that are due."""
        with reading(self._engine) as connection:
            return queue_rows.take(connection, limit, at)

    def done(self, items: Sequence[QueueItem]) -> None:
        """Remove *items*, but for hosts that were enqueued again."""
        with writing(self._engine) as connection:
            queue_rows.remove(connection, items)

    def later(self, item: QueueItem, not_before: datetime, why: str) -> None:
        """Put *item* off, unless it was enqueued again."""
        with writing(self._engine) as connection:
            queue_rows.put_off(connection, item, not_before, why)

    # ----------------------------------------------------------------------------------------------------------- leases
    def lease(self, name: str) -> Lease | None:
        """Return the lease as it is."""
        with reading(self._engine) as connection:
            return lease_rows.read(connection, name)

    def take_lease(self, wanted: Lease, seen: Lease | None) -> Lease | None:
        """Take a lease that still is as it was *seen*."""
        with writing(self._engine) as connection:
            return lease_rows.take(connection, wanted, seen)

    def renew(self, lease: Lease) -> bool:
        """Keep that *lease* ends later."""
        with writing(self._engine) as connection:
            return lease_rows.extend(connection, lease)

    def give_back(self, lease: Lease) -> None:
        """Let others have *lease*."""
        with writing(self._engine) as connection:
            lease_rows.release(connection, lease)

    # ----------------------------------------------------------------------------------------------------------- passes
    def passed(self, one: Pass) -> None:
        """Count a pass."""
        with writing(self._engine) as connection:
            queue_rows.count_pass(connection, one)

    # ------------------------------------------------------------------------------------------------- drivers on hosts
    def declare(self, one: HostDriver, event: Event) -> HostDriver:
        """Keep *one*, with a pending run, and have its host looked at."""
        with writing(self._engine) as connection:
            queue_rows.enqueue(connection, [one.host], event.kind, event.at)  # first: others wait for its row
            kept, before = host_driver_rows.put(connection, one)
            put_event(connection, with_before(event, before))
        return kept

    def declared(self) -> Sequence[HostDriver]:
        """Return all that is declared."""
        with reading(self._engine) as connection:
            return host_driver_rows.read(connection)

    def awaited(self, hosts: Collection[str]) -> Sequence[HostDriver]:
        """Return what is declared for *hosts* and has a run that did not come out yet."""
        with reading(self._engine) as connection:
            return host_driver_rows.read_open(connection, hosts)

    def tell(self, one: HostDriver, news: RunNews, at: datetime) -> None:
        """Keep what has become of the run of *one*."""
        with writing(self._engine) as connection:
            host_driver_rows.tell(connection, one, news, at)

    def catalogue(self) -> Mapping[str, DriverDocSpec]:
        """Return the drivers that there are, by name."""
        with reading(self._engine) as connection:
            return read_catalogue(connection)
