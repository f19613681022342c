# SPDX-License-Identifier: Apache-2.0
"""How do the devices that facts tell of fare, as their host's agent says? The statements about that.

Called by the store of agents, inside its transactions. It is kept beside what was seen, which a pass writes: the worse
of both counts, and what does not fare well is not offered.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from cyborg_reconciler.adapters.database import accelerator_rows
from cyborg_reconciler.adapters.database.event_rows import put_events
from cyborg_reconciler.adapters.database.queue_rows import enqueue
from cyborg_reconciler.adapters.database.schema import accelerators
from cyborg_reconciler.core.state import Health
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores import Accelerator

_columns: Final = accelerators.c
_is_of_facts: Final = (_columns.host == bindparam("wanted")) & (_columns.origin == "discovery") & _columns.present

#: Yields what was told last of the devices on the host *wanted* that facts tell of.
TOLD: Final = select(_columns.address, _columns.told_health).where(_is_of_facts)
_WHOLE: Final = select(accelerators).where(_is_of_facts).order_by(_columns.uuid)


def differs(kept: Iterable[Any], health: Mapping[str, str]) -> bool:
    """Return whether *health*, by address, says otherwise than *kept*; of what it leaves out it says nothing."""
    return any(health.get(row.address, row.told_health) != row.told_health for row in kept)


def put_health(connection: Connection, host: str, health: Mapping[str, str], at: datetime) -> None:
    """Keep what the agent of *host*, whose row is ours, says of devices; the host is looked at where that is news."""
    if not differs(connection.execute(TOLD, {"wanted": host}), health):
        return
    told: list[Event] = []
    for one in map(accelerator_rows.parse_accelerator, connection.execute(_WHOLE, {"wanted": host}).all()):
        as_told = _as_told(one, Health(health.get(one.address or "", one.told_health)))
        if as_told != one:  # what somebody changes just now is told again
            as_now = replace(as_told, version=one.version + 1, updated_at=at)
            told += [_event(one, as_told, at)] if accelerator_rows.replace_if(connection, as_now, one.version) else []
    put_events(connection, told)
    enqueue(connection, {host}, "HealthTold", at)  # a pass offers what is well again


def _as_told(one: Accelerator, health: Health) -> Accelerator:
    is_withdrawn = one.state == "ready" and health is not Health.HEALTHY
    return replace(one, told_health=health, state="inactive" if is_withdrawn else one.state)


def _event(one: Accelerator, as_told: Accelerator, at: datetime) -> Event:
    def shown(which: Accelerator) -> dict[str, str]:
        return {"health": which.told_health, "state": which.state}

    words = f"its agent says that {one.address} is {as_told.told_health}"
    data = {"accelerator": one.uuid, "before": shown(one), "after": shown(as_told)}
    return Event(at, "AcceleratorHealthTold", one.host or "", words, data)
