# SPDX-License-Identifier: Apache-2.0
"""How do the devices that facts tell of fare, as their host's agent says? The statements about that.

Called by the store of agents, inside its transactions. It is kept beside what was seen, which a pass writes: the worse
of both counts, and what does not fare well is not offered.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from cyborg_reconciler.adapters.database import accelerator_rows
from cyborg_reconciler.adapters.database.schema import accelerators
from cyborg_reconciler.core.state import Health
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.accelerators import Accelerator
from cyborg_reconciler.stores.agents import CheckIn

_columns: Final = accelerators.c
_is_of_facts: Final = (_columns.host == bindparam("wanted")) & (_columns.origin == "discovery") & _columns.present

#: Yields what was told last of the devices on the host *wanted* that facts tell of.
TOLD: Final = select(_columns.address, _columns.told_health).where(_is_of_facts)
_WHOLE: Final = select(accelerators).where(_is_of_facts).order_by(_columns.uuid)


def differs(kept: Iterable[Any], health: Mapping[str, str]) -> bool:
    """Return whether *health*, by address, says otherwise than *kept*; of what it leaves out it says nothing."""
    return any(health.get(row.address, row.told_health) != row.told_health for row in kept)


@dataclass(frozen=True, slots=True)
class Faring:
    """What is to be told of devices that fare otherwise, and the *hosts* that a pass is to look at for that."""

    hosts: Sequence[str]
    events: Sequence[Event]


def put_health(connection: Connection, check_ins: Sequence[CheckIn]) -> Faring:
    """Keep what agents say of the devices of their hosts, whose rows are ours."""
    events: list[Event] = []
    names: list[str] = []
    for check_in in sorted(check_ins, key=lambda one: one.host):
        host, health = check_in.host, check_in.health
        if not health or not differs(connection.execute(TOLD, {"wanted": host}), health):
            continue
        names.append(host)
        for one in map(accelerator_rows.parse_accelerator, connection.execute(_WHOLE, {"wanted": host}).all()):
            as_told = _as_told(one, Health(health.get(one.address or "", one.told_health)))
            as_now = replace(as_told, version=one.version + 1, updated_at=check_in.received_at)
            # What somebody changes just now is told again.
            if as_told != one and accelerator_rows.replace_if(connection, as_now, one.version):
                words = f"its agent says that {one.address} is {as_now.told_health}"
                events.append(_event(one, as_now, "AcceleratorHealthTold", words))
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
