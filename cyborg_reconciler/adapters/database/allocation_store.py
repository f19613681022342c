# SPDX-License-Identifier: Apache-2.0
"""Who has which accelerators allocated. Opened by `bootstrap`, called by the conductor and the API."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, func, select, update

from cyborg_reconciler.adapters.database.engine import reading, writing
from cyborg_reconciler.adapters.database.event_rows import put_event
from cyborg_reconciler.adapters.database.schema import accelerators, allocations
from cyborg_reconciler.errors import ConflictError, OvertakenError
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.allocations import Allocations

_columns: Final = allocations.c


class DatabaseAllocations:
    """The allocations, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, consumer: str) -> Allocations | None:
        """Return what *consumer* has."""
        with reading(self._engine) as connection:
            return _read(connection, consumer)

    def known(self, accelerators_: Sequence[str]) -> Sequence[str]:
        """Return those of the accelerators that there are."""
        with reading(self._engine) as connection:
            query = select(accelerators.c.uuid).where(accelerators.c.uuid.in_(accelerators_))
            return list(connection.execute(query).scalars())

    def put(self, consumer: str, amounts: Mapping[str, int], seen: Allocations | None, event: Event) -> Allocations:
        """Put *amounts* in the place of what *consumer* was seen to have."""
        with writing(self._engine) as connection:
            # First of all: who reads an accelerator and writes it later has to see that something came between.
            gone = _touch(connection, sorted({*amounts, *(seen.amounts if seen else ())}))
            if gone & amounts.keys():  # a driver's device, which went with its driver
                raise OvertakenError(
                    wanted=f"accelerator {min(gone & amounts.keys())}", found="it is not there any more"
                )
            if _version(_read(connection, consumer)) != _version(seen):
                raise _overtaken(consumer)
            _check_room(connection, consumer, amounts)
            if seen is not None:  # what was seen and nothing else: another may have come, of other accelerators
                is_seen = (_columns.consumer == consumer) & (func.coalesce(_columns.version, 0) == seen.version)
                connection.execute(delete(allocations).where(is_seen))
            rows = [_row(consumer, accelerator, amount, event) for accelerator, amount in amounts.items()]
            if rows:
                connection.execute(allocations.insert(), rows)
            version = put_event(connection, event)
            # Its own rows alone: another may wait, with those that came meanwhile, for what this one has by now.
            is_ours = (_columns.consumer == consumer) & _columns.accelerator.in_(list(amounts))
            connection.execute(update(allocations).where(is_ours).values(version=version))
            query = select(func.count()).select_from(allocations).where(_columns.consumer == consumer)
            if connection.execute(query).scalar_one() != len(rows):  # such a one did
                raise _overtaken(consumer)
        return Allocations(consumer, amounts, version, event.at)


def _row(consumer: str, accelerator: str, amount: int, event: Event) -> dict[str, Any]:
    return {
        "consumer": consumer,
        "accelerator": accelerator,
        "amount": amount,
        "created_at": event.at,
    }


def _version(found: Allocations | None) -> int | None:
    return found.version if found else None


def _overtaken(consumer: str) -> OvertakenError:
    return OvertakenError(wanted=f"the allocations of {consumer} as they were read", found="they are others by now")


def _read(connection: Connection, consumer: str) -> Allocations | None:
    query = select(allocations).where(_columns.consumer == consumer).order_by(_columns.accelerator)
    rows = connection.execute(query).all()
    if not rows:
        return None
    amounts = {row.accelerator: row.amount for row in rows}
    return Allocations(consumer, amounts, max(row.version or 0 for row in rows), min(row.created_at for row in rows))


def _touch(connection: Connection, uuids: Sequence[str]) -> set[str]:
    """Give the accelerators another version, one after the other in the order of *uuids*; return those not there."""
    newer = update(accelerators).values(version=accelerators.c.version + 1)
    return {uuid for uuid in uuids if not connection.execute(newer.where(accelerators.c.uuid == uuid)).rowcount}


def _check_room(connection: Connection, consumer: str, amounts: Mapping[str, int]) -> None:
    """Raise ConflictError where others have so much of an accelerator that there is not enough left."""
    used = func.coalesce(func.sum(_columns.amount), 0).label("used")
    is_others = (_columns.accelerator == accelerators.c.uuid) & (_columns.consumer != consumer)
    columns = (accelerators.c.uuid, accelerators.c.name, accelerators.c.num)
    query = select(*columns, used).outerjoin(allocations, is_others).where(accelerators.c.uuid.in_(list(amounts)))
    for row in connection.execute(query.group_by(*columns)):
        if row.used + amounts[row.uuid] > row.num:
            raise ConflictError(
                wanted=f"{amounts[row.uuid]} of {row.name}",
                found=f"it has {row.num}, of which others have {row.used}",
                remedy="ask for less, or let others give theirs back first",
            )
