# SPDX-License-Identifier: Apache-2.0
"""What the API and the conductor keep, as the stores have it: each method is one transaction, on disk when it returns.

Opened by `bootstrap`, called by the conductor and the API. Works in the journal's database.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from cyborg_reconciler.adapters.database import accelerator_rows, discovery_rows
from cyborg_reconciler.adapters.database.agent_rows import is_known
from cyborg_reconciler.adapters.database.asking import ask
from cyborg_reconciler.adapters.database.engine import reading, writing
from cyborg_reconciler.adapters.database.event_rows import put_event, put_events
from cyborg_reconciler.adapters.database.queue_rows import enqueue
from cyborg_reconciler.adapters.database.schema import accelerators, hardware
from cyborg_reconciler.errors import ConflictError, NotFoundError, OvertakenError
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.accelerators import Accelerator, AcceleratorFilter, Device
from cyborg_reconciler.stores.pages import Page, PageQuery


class DatabaseAccelerators:
    """The accelerators, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, wanted: AcceleratorFilter) -> Page:
        """Return a page of accelerators."""
        return accelerator_rows.read_page(self._engine, wanted)

    def document(self, uuid: str) -> tuple[str, int] | None:
        """Return an accelerator's JSON document and its version."""
        row = next(iter(ask(self._engine, accelerator_rows.DOCUMENT, wanted=uuid)), None)
        return None if row is None else (row.document, row.version)

    def accelerator(self, uuid: str) -> Accelerator | None:
        """Return the accelerator."""
        with reading(self._engine) as connection:
            return accelerator_rows.read(connection, accelerators.c.uuid == uuid)

    def at(self, host: str, address: str) -> Accelerator | None:
        """Return the accelerator that stands at *address* on *host*."""
        is_there = (accelerators.c.host == host, accelerators.c.address == address, accelerators.c.present)
        with reading(self._engine) as connection:
            return accelerator_rows.read(connection, *is_there)

    def add(self, one: Accelerator, event: Event) -> None:
        """Keep a new accelerator."""
        try:
            with writing(self._engine) as connection:
                accelerator_rows.insert(connection, [one])
                enqueue(connection, _hosts_of(one), event.kind, event.at)
                put_event(connection, event)
        except IntegrityError as exc:
            raise _taken(one) from exc

    def update(self, one: Accelerator, seen: int, event: Event) -> Accelerator:
        """Keep what has become of an accelerator, and have its hosts looked at."""
        one = replace(one, version=seen + 1)
        try:
            with writing(self._engine) as connection:
                if not accelerator_rows.replace_if(connection, one, seen):
                    raise OvertakenError(
                        wanted=f"accelerator {one.uuid} as it was read", found="another process updated it first"
                    )
                enqueue(connection, _hosts_of(one), event.kind, event.at)
                put_event(connection, event)
        except IntegrityError as exc:
            raise _taken(one) from exc
        return one

    def found_on(self, hosts: Collection[str]) -> Sequence[Accelerator]:
        """Return the accelerators that are there on *hosts*, at an address."""
        with reading(self._engine) as connection:
            return accelerator_rows.read_found(connection, list(hosts))

    def record(self, seen: Sequence[tuple[Accelerator, Sequence[Event]]]) -> None:
        """Keep what was observed of accelerators that nobody has changed meanwhile."""
        with writing(self._engine) as connection:
            told: list[Event] = []
            for one, events in sorted(seen, key=lambda pair: pair[0].uuid):  # as everybody: no two wait for each other
                kept = accelerator_rows.replace_if(connection, replace(one, version=one.version + 1), one.version)
                told += events if kept else []
            if told:
                put_events(connection, told)

    def unsettled(self, hosts: Collection[str]) -> Sequence[Accelerator]:
        """Return the accelerators that are attached to one of *hosts*, which is not done."""
        with reading(self._engine) as connection:
            return accelerator_rows.read_unsettled(connection, list(hosts))

    def implying(self) -> Sequence[Accelerator]:
        """Return the accelerators at an address of a host that are attached to it, or wanted in some state."""
        with reading(self._engine) as connection:
            return accelerator_rows.read_implying(connection)

    def allocated(self, uuid: str) -> Sequence[str]:
        """Return the consumers that have an allocation of the accelerator."""
        with reading(self._engine) as connection:
            return accelerator_rows.read_consumers(connection, uuid)


class DatabaseHardware:
    """The hardware, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def device(self, uuid: str) -> Device | None:
        """Return the device, there or not."""
        with reading(self._engine) as connection:
            return discovery_rows.read_device(connection, hardware.c.uuid == uuid)

    def device_at(self, host: str, address: str) -> Device | None:
        """Return the device that is at *address* on *host*."""
        is_there = (hardware.c.host == host, hardware.c.address == address, hardware.c.present)
        with reading(self._engine) as connection:
            return discovery_rows.read_device(connection, *is_there)

    def has_host(self, name: str) -> bool:
        """Return whether there is a host of this name."""
        with reading(self._engine) as connection:
            return is_known(connection, name)

    def page(self, host: str, limit: int, marker: str, *, descending: bool = False) -> Page:
        """Return a page of the hardware that is there."""
        with reading(self._engine) as connection:
            if host and not is_known(connection, host):
                raise NotFoundError(wanted=f"host {host}", found="there is none")
            wanted = PageQuery(descending=descending, limit=limit, marker=marker)
            return discovery_rows.read_page(connection, host, wanted)


def _hosts_of(one: Accelerator) -> set[str]:
    """Return the hosts on which something may have to be done for *one*."""
    return {host for host in (one.host, one.attachment.host if one.attachment else None) if host is not None}


def _taken(one: Accelerator) -> ConflictError:
    return ConflictError(
        wanted=f"an accelerator called {one.name}",
        found="another accelerator has that name or uuid",
        remedy="choose another name",
    )
