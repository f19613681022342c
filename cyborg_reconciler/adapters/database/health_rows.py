# SPDX-License-Identifier: Apache-2.0
"""How do the devices that facts tell of fare, as their host's agent says? The statements about that.

Called by the store of agents, inside its transactions. It is kept beside what was seen, which a pass writes: the worse
of both counts, and what does not fare well is not offered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from cyborg_reconciler.adapters.database import accelerator_rows
from cyborg_reconciler.adapters.database.engine import portions
from cyborg_reconciler.adapters.database.schema import accelerators
from cyborg_reconciler.core.state import Health
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.accelerators import Accelerator
from cyborg_reconciler.stores.agents import CheckIn

_columns: Final = accelerators.c
_are_of_facts: Final = (_columns.origin == "discovery") & _columns.present
_on_names: Final = _columns.host.in_(bindparam("names", expanding=True)) & _are_of_facts
_told: Final = select(_columns.host, _columns.address, _columns.told_health)

#: Yields what was told last of the devices on the host *wanted* that facts tell of.
TOLD_HEALTH: Final = _told.where(_columns.host == bindparam("wanted"), _are_of_facts)
#: The same of the hosts *names*, and all that is known of these devices.
_TOLD_ON: Final = _told.where(_on_names)
_WHOLE: Final = select(accelerators).where(_on_names).order_by(_columns.host, _columns.uuid)


def differs(row: Any, health: Mapping[str, str]) -> bool:  # noqa: ANN401 - a row as `ask` makes it
    """Return whether *health*, by address, says otherwise than *row*; of what it leaves out it says nothing."""
    kept: str = row.told_health
    return health.get(row.address, kept) != kept


def read_differing(connection: Connection, check_ins: Sequence[CheckIn]) -> list[str]:
    """Return the hosts whose agents say of a device that it fares otherwise than is kept."""
    said = {one.host: one.health for one in check_ins if one.health}
    found: set[str] = set()
    for names in portions(sorted(said)):
        rows = connection.execute(_TOLD_ON, {"names": names})
        found.update(row.host for row in rows if differs(row, said[row.host]))
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Faring:
    """What is to be told of devices that fare otherwise, and the *hosts* that a pass is to look at for that."""

    hosts: Sequence[str]
    events: Sequence[Event]


def put_health(connection: Connection, check_ins: Sequence[CheckIn]) -> Faring:
    """Keep what agents say of the devices of their hosts, whose rows are ours, and those of their accelerators."""
    names = read_differing(connection, check_ins)
    told = {one.host: one for one in check_ins}
    changed: list[Accelerator] = []
    events: list[Event] = []
    for portion in portions(names):
        for one in map(accelerator_rows.parse_accelerator, connection.execute(_WHOLE, {"names": portion})):
            check_in = told[one.host or ""]
            as_told = _as_told(one, Health(check_in.health.get(one.address or "", one.told_health)))
            if as_told != one:
                changed.append(replace(as_told, version=one.version + 1, updated_at=check_in.received_at))
                words = f"its agent says that {one.address} is {as_told.told_health}"
                events.append(_event(one, changed[-1], "AcceleratorHealthTold", words))
    accelerator_rows.write(connection, changed)
    return Faring(names, events)


def forget_health(connection: Connection, host: str, at: datetime) -> list[Event]:
    """Forget what the agent of *host*, whose row is ours, said of its devices: nobody would take it back any more."""
    accelerator_rows.lock_on(connection, [host])
    found = accelerator_rows.read_of(connection, [host], [])
    told = [one for one in found if one.origin == "discovery" and one.told_health is not Health.HEALTHY]
    now = [replace(one, told_health=Health.HEALTHY, version=one.version + 1, updated_at=at) for one in told]
    accelerator_rows.write(connection, now)
    words = "its agent, which said that {} is {}, speaks for it no more"
    kind = "AcceleratorHealthForgotten"
    pairs = zip(told, now, strict=True)
    return [_event(one, as_now, kind, words.format(one.address, one.told_health)) for one, as_now in pairs]


def _as_told(one: Accelerator, health: Health) -> Accelerator:
    is_withdrawn = one.state == "ready" and health is not Health.HEALTHY
    return replace(one, told_health=health, state="inactive" if is_withdrawn else one.state)


def _event(one: Accelerator, as_told: Accelerator, kind: str, words: str) -> Event:
    def shown(which: Accelerator) -> dict[str, str]:
        return {"health": which.told_health, "state": which.state}

    data = {"accelerator": one.uuid, "before": shown(one), "after": shown(as_told)}
    return Event(as_told.updated_at, kind, one.host or "", words, data)
