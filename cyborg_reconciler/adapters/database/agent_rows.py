# SPDX-License-Identifier: Apache-2.0
"""What does the database know of agents? The statements about agents, enrolments, commands and identities.

Called by the store, inside its transactions.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    and_,
    any_,
    bindparam,
    case,
    delete,
    or_,
    select,
    tuple_,
    update,
)

from cyborg_reconciler.adapters.database import service_store
from cyborg_reconciler.adapters.database.backend_store import register
from cyborg_reconciler.adapters.database.engine import POSTGRESQL, as_list, listed, portions, upsert
from cyborg_reconciler.adapters.database.host_rows import claim
from cyborg_reconciler.adapters.database.schema import (
    MAY_SPEAK,
    agent_drivers,
    agents,
    commands,
    enrolments,
    facts,
    hosts,
    identities,
)
from cyborg_reconciler.adapters.database.statements import find, put
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.stores.agents import Agent, CheckIn, Command, CommandName, Enrolment, Inventory, digest_of

_columns: Final = agents.c
#: The columns that hold what an `Agent` has under the same name, as it is.
PLAIN: Final = (
    *("host", "token_hash", "next_token_hash", "approved", "epoch", "sequence", "fingerprint", "boot_id", "endpoint"),
    *("agent_version", "last_seen_at", "silent", "silent_changed_at", "drivers"),
)
SYSTEM_UUID: Final = "system_uuid"
MAC: Final = "mac"


# ---------------------------------------------------------------------------------------------- by what hosts are known
def read_known_as(connection: Connection, inventory: Inventory) -> list[str]:
    """Return the hosts that *inventory* is of."""
    for known in (_by_uuid(inventory), _by_macs(inventory)):
        if found := list(connection.execute(_knowing(known)).scalars()):
            return found
    return list(connection.execute(select(hosts.c.name).where(hosts.c.name == inventory.hostname)).scalars())


def read_claimants(connection: Connection, inventory: Inventory) -> list[str]:
    """Return the hosts that are known by anything of *inventory* but its name; none that only says so itself so far."""
    waits = select(_columns.host).where(_columns.host == identities.c.host, ~_columns.approved).exists()
    query = _knowing([*_by_uuid(inventory), *_by_macs(inventory)]).where(~waits)
    return list(connection.execute(query).scalars())


def _by_uuid(inventory: Inventory) -> list[tuple[str, str]]:
    return [(SYSTEM_UUID, inventory.system_uuid)] if inventory.system_uuid else []


def _by_macs(inventory: Inventory) -> list[tuple[str, str]]:
    return [(MAC, mac) for mac in inventory.macs]


def _knowing(known: Sequence[tuple[str, str]]) -> Select[Any]:
    """Return what yields the hosts that are known by any of *known*."""
    is_known = tuple_(identities.c.kind, identities.c.value).in_(known)
    return select(identities.c.host).where(is_known).distinct().order_by(identities.c.host)


def put_identities(connection: Connection, found: Mapping[str, Inventory], *, all_of_it: bool = True) -> None:
    """Enter by what hosts are known now; what they were known by before stays where this is not *all_of_it*."""
    rows = [
        {"host": host, "kind": kind, "value": value}
        for host, inventory in found.items()
        for kind, values in ((SYSTEM_UUID, [inventory.system_uuid]), (MAC, set(inventory.macs)))
        for value in values
        if value
    ]
    for names in portions(list(found)) if all_of_it else ():
        connection.execute(delete(identities).where(identities.c.host.in_(names)))
    upsert(connection, identities, rows, update=[])


def inventory_of(facts: Facts) -> Inventory:
    """Return by what a host is known, as its facts tell. VFs come and go, so their addresses tell nothing."""
    uuid = facts.system_uuid if isinstance(facts.system_uuid, str) else None
    macs = [mac for d in facts.devices if d.physfn is None and isinstance(d.macs, list) for mac in d.macs]
    return Inventory(system_uuid=uuid.lower() if uuid else None, macs=tuple(macs))


# ----------------------------------------------------------------------------------------------------------- enrolments
def add_enrolment(connection: Connection, token_hash: str, enrolment: Enrolment) -> None:
    """Enter the right to look up a host."""
    claim(connection, [enrolment.host])
    row = {"host": enrolment.host, "expires_at": enrolment.expires_at, "used_at": None}
    connection.execute(enrolments.insert().values(token_hash=token_hash, **row))


def read_enrolment(connection: Connection, token_hash: str) -> Enrolment | None:
    """Return the enrolment whose token has this hash."""
    row = connection.execute(select(enrolments).where(enrolments.c.token_hash == token_hash)).first()
    return None if row is None else Enrolment(row.host, row.expires_at, row.used_at)


def use_enrolment(connection: Connection, token_hash: str, at: datetime) -> bool:
    """Use an enrolment up; return whether it was there and unused."""
    where = (enrolments.c.token_hash == token_hash, enrolments.c.used_at.is_(None))
    return connection.execute(update(enrolments).where(*where).values(used_at=at)).rowcount == 1


def forget_enrolments(connection: Connection, host: str) -> bool:
    """Forget the rights to look up *host* that were not used; return whether there were any."""
    where = (enrolments.c.host == host, enrolments.c.used_at.is_(None))
    return connection.execute(delete(enrolments).where(*where)).rowcount > 0


# --------------------------------------------------------------------------------------------------------------- agents
_awaited: Final = select(commands.c.number).where(commands.c.host == _columns.host).exists().label("awaited")

#: Yields agents, with the uuid and the generation of their hosts, and whether they are to do something.
AGENTS: Final = select(*(_columns[name] for name in PLAIN), hosts.c.uuid, hosts.c.generation, _awaited).join(
    hosts, hosts.c.name == _columns.host
)

#: Yields the agent of the host *wanted*. Made once: making it takes longer than running it.
AGENT: Final = AGENTS.where(_columns.host == bindparam("wanted"))

#: Yields the agent whose token, or whose next one, has the hash *wanted*.
AGENT_OF: Final = AGENTS.where(
    or_(_columns.token_hash == bindparam("wanted"), _columns.next_token_hash == bindparam("wanted"))
)

#: Yields *limit* agents by the names of their hosts, of those after *after*.
LISTED: Final = AGENTS.where(_columns.host > bindparam("after")).order_by(_columns.host).limit(bindparam("limit"))


def parse_agent(row: Any) -> Agent:  # noqa: ANN401 - a row as `ask` makes it
    """Return what `AGENTS` yields as what it says."""
    return Agent(**row._asdict())


def put_agent(connection: Connection, agent: Agent) -> None:
    """Enter an agent, or the new token of one; what it told before stays, but for how far it had told.

    Who comes with the new token counts anew: its clock may be right now, or its disk another.
    """
    claim(connection, [agent.host])
    row = {name: getattr(agent, name) for name in PLAIN}
    anew = ["token_hash", "next_token_hash", "approved", "agent_version", "epoch", "sequence"]
    upsert(connection, agents, [row], update=anew)
    service_store.put_agent(connection, agent.host)


def is_known(connection: Connection, host: str) -> bool:
    """Return whether there is a host of this name."""
    return connection.execute(select(hosts.c.name).where(hosts.c.name == host)).first() is not None


def read_known(connection: Connection) -> list[str]:
    """Return the names of all hosts."""
    return list(connection.execute(select(hosts.c.name).order_by(hosts.c.name)).scalars())


def read_talking(connection: Connection, names: Sequence[str]) -> list[str]:
    """Return those of *names* that have an agent which may speak for them, and is not silent."""
    are_heard = MAY_SPEAK & ~_columns.silent
    found: set[str] = set()
    for portion in portions(names):
        found.update(connection.execute(select(_columns.host).where(_columns.host.in_(portion), are_heard)).scalars())
    return [name for name in names if name in found]


def change(connection: Connection, host: str, *where: ColumnElement[bool], **values: object) -> bool:
    """Set columns of an agent for which *where* holds; return whether there is such a one."""
    return connection.execute(update(agents).where(_columns.host == host, *where).values(**values)).rowcount == 1


@functools.cache
def _places(dialect: str) -> Select[Any]:
    """Return what yields how far the agents of the hosts *names* have told, and what was known then.

    That is the facts and drivers that they told last, whether they are silent, their tokens' hashes, and the digest of
    what was found on their hosts. The names are one parameter, so that the statement is one.
    """
    if dialect == POSTGRESQL:
        is_wanted = _columns.host == any_(bindparam("names", type_=ARRAY(String)))
    else:
        is_wanted = _columns.host.in_(select(listed(dialect, "names").c.value))
    told = ("host", "epoch", "sequence", "fingerprint", "drivers", "silent", "token_hash")
    found = agents.outerjoin(facts, facts.c.host == _columns.host)
    return select(*(_columns[name] for name in told), facts.c.units).select_from(found).where(is_wanted)


_heard: Final = bindparam("heard", type_=_columns.last_seen_at.type)

#: Enters how far an agent has told, and when it was heard; what is older changes nothing.
CHECKED_IN: Final = (
    update(agents)
    .where(
        _columns.host == bindparam("told"),
        or_(
            _columns.epoch < bindparam("new_epoch"),
            and_(_columns.epoch == bindparam("new_epoch"), _columns.sequence < bindparam("new_sequence")),
        ),
    )
    .values(
        epoch=bindparam("new_epoch"),
        sequence=bindparam("new_sequence"),
        boot_id=bindparam("new_boot"),
        agent_version=bindparam("new_version"),
        last_seen_at=_heard,
        fingerprint=case(
            (bindparam("new_fingerprint") == "", _columns.fingerprint), else_=bindparam("new_fingerprint")
        ),
        drivers=case((bindparam("new_drivers") == "", _columns.drivers), else_=bindparam("new_drivers")),
        silent=False,
        silent_changed_at=case(
            (or_(_columns.silent, _columns.silent_changed_at.is_(None)), _heard), else_=_columns.silent_changed_at
        ),
    )
)


def read_places(connection: Connection, names: Collection[str]) -> dict[str, Any]:
    """Return what `_places` yields, by host."""
    dialect = connection.dialect.name
    found = find(connection, _places(dialect), names=as_list(dialect, sorted(names)))
    return {row.host: row for row in found}


def put_check_ins(connection: Connection, check_ins: Sequence[CheckIn]) -> None:
    """Enter how far agents have told, and when they were heard; what is older changes nothing.

    A fingerprint comes with its facts, or is none of those that are kept: then the next check-in is asked for them.
    """
    rows = [
        {
            "told": one.host,
            "new_epoch": one.epoch,
            "new_sequence": one.sequence,
            "new_boot": one.boot_id,
            "new_version": one.agent_version,
            "new_fingerprint": one.fingerprint if one.facts is not None else "",
            "new_drivers": digest_of(one.drivers),
            "heard": one.received_at,
        }
        for one in sorted(check_ins, key=lambda one: one.host)
    ]
    put(connection, CHECKED_IN, rows)


def put_drivers(connection: Connection, check_ins: Sequence[CheckIn], places: Mapping[str, Row[Any]]) -> list[str]:
    """Enter the drivers of agents that told others than last; their backends. Return these hosts."""
    changed = [
        one
        for one in check_ins
        if one.drivers and one.host in places and places[one.host].drivers != digest_of(one.drivers)
    ]
    if not changed:
        return []
    for names in portions([one.host for one in changed]):
        connection.execute(delete(agent_drivers).where(agent_drivers.c.host.in_(names)))
    # Two that PostgreSQL cannot tell apart must not spoil a transaction in which others have told something.
    told = {(one.host, driver.name.replace("\x00", r"\x00")): driver for one in changed for driver in one.drivers}
    rows = [{**asdict(driver), "host": host, "name": name} for (host, name), driver in told.items()]
    upsert(connection, agent_drivers, rows, update=["type", "status", "endpoint"])
    register(connection, told)
    return [one.host for one in changed]


def read_reported(connection: Connection, since: datetime, names: Sequence[str] | None = None) -> dict[str, datetime]:
    """Return the hosts whose agents stand by the facts that are kept, and when they were heard, *since* then at least.

    Facts that somebody else has gathered since, and that are others, are not the agent's.
    """
    is_the_agents = and_(facts.c.host == _columns.host, facts.c.fingerprint == _columns.fingerprint)
    query = select(_columns.host, _columns.last_seen_at).join(facts, is_the_agents)
    query = query.where(MAY_SPEAK, _columns.last_seen_at >= since)
    queries = [query] if names is None else [query.where(_columns.host.in_(portion)) for portion in portions(names)]
    return {row.host: row.last_seen_at for one in queries for row in connection.execute(one)}


def read_silent(connection: Connection, where: ColumnElement[bool]) -> list[str]:
    """Return the hosts of the agents for which *where* holds."""
    return list(connection.execute(select(_columns.host).where(where).order_by(_columns.host)).scalars())


def set_silent(connection: Connection, names: Sequence[str], at: datetime) -> None:
    """Enter that agents are silent, since then."""
    for portion in portions(names):
        values = {"silent": True, "silent_changed_at": at}
        connection.execute(update(agents).where(_columns.host.in_(portion)).values(values))


# ------------------------------------------------------------------------------------------------------------- commands
def add_commands(
    connection: Connection, names: Sequence[str], command: CommandName, driver: str | None, at: datetime
) -> None:
    """Enter what agents are to do, but for those that are to do it already."""
    same_driver = commands.c.driver.is_(None) if driver is None else commands.c.driver == driver
    waiting: set[str] = set()
    for portion in portions(names):
        where = (commands.c.host.in_(portion), commands.c.command == command, same_driver)
        waiting.update(connection.execute(select(commands.c.host).where(*where)).scalars())
    rows = [
        {"host": host, "command": command, "driver": driver, "asked_at": at} for host in names if host not in waiting
    ]
    if rows:
        connection.execute(commands.insert(), rows)


def read_commands(connection: Connection, host: str) -> list[Command]:
    """Return what an agent is to do, oldest first."""
    rows = connection.execute(select(commands).where(commands.c.host == host).order_by(commands.c.number))
    return [Command(row.number, row.command, row.driver) for row in rows]


def forget_commands(connection: Connection, host: str, *where: ColumnElement[bool]) -> None:
    """Forget what the agent of *host* was to do, for which *where* holds."""
    connection.execute(delete(commands).where(commands.c.host == host, *where))
