# SPDX-License-Identifier: Apache-2.0
"""What the conductor keeps of agents, as the store has it: each method is one transaction, on disk when it returns.

Opened by `bootstrap`, called by the conductor. Works in the journal's database.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, select

from cyborg_reconciler.adapters.database import agent_rows, driver_hardware_rows, health_rows, host_rows, schema
from cyborg_reconciler.adapters.database.asking import ask
from cyborg_reconciler.adapters.database.backend_store import forget_unused
from cyborg_reconciler.adapters.database.declaration_rows import catalogue_now, read_catalogue
from cyborg_reconciler.adapters.database.discovery_rows import Catalogue, Found, found_by, put_found, take_changed
from cyborg_reconciler.adapters.database.engine import begun_anew, lock_rows, reading, take_turns, writing
from cyborg_reconciler.adapters.database.event_rows import put_event, put_events
from cyborg_reconciler.adapters.database.queue_rows import enqueue
from cyborg_reconciler.adapters.database.schema import agents, hosts
from cyborg_reconciler.ports import Event, Observation
from cyborg_reconciler.stores.agents import (
    Agent,
    CheckIn,
    Command,
    CommandName,
    DesiredDevice,
    DriverHardware,
    Enrolment,
    Inventory,
)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What facts say is there by a *catalogue*; *found* by host and fingerprint, for one may tell another's."""

    catalogue: Catalogue
    found: Mapping[tuple[str, str], Found]

    def found_by(self, observed: Mapping[str, Observation], catalogue: Catalogue) -> dict[str, Found]:
        """Return what is there by *catalogue*, by host; it is looked for anew where that has changed meanwhile."""
        if catalogue is self.catalogue:
            return {host: self.found[host, one.facts.fingerprint] for host, one in observed.items()}
        return found_by({host: one.facts for host, one in observed.items()}, catalogue)


class DatabaseAgents:
    """The agents, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def known_as(self, inventory: Inventory) -> Sequence[str]:
        """Return the hosts that *inventory* is of."""
        with reading(self._engine) as connection:
            return agent_rows.read_known_as(connection, inventory)

    def claimants(self, inventory: Inventory) -> Sequence[str]:
        """Return the hosts that are known by anything of *inventory*."""
        with reading(self._engine) as connection:
            return agent_rows.read_claimants(connection, inventory)

    def mint(self, token_hash: str, enrolment: Enrolment, event: Event) -> None:
        """Keep the right to look up one host."""
        with writing(self._engine) as connection:
            agent_rows.add_enrolment(connection, token_hash, enrolment)
            put_event(connection, event)

    def enrolment(self, token_hash: str) -> Enrolment | None:
        """Return the enrolment whose token has this hash."""
        with reading(self._engine) as connection:
            return agent_rows.read_enrolment(connection, token_hash)

    def enrol(self, agent: Agent, enrolment_hash: str, inventory: Inventory, event: Event) -> bool:
        """Keep a new agent, and use its enrolment up."""
        with writing(self._engine) as connection:
            if enrolment_hash:
                is_first = agent_rows.use_enrolment(connection, enrolment_hash, event.at)
            else:
                take_turns(connection)  # of two that register one name at once the second finds it known
                is_first = not agent_rows.is_known(connection, agent.host)
            if is_first:
                agent_rows.put_agent(connection, agent)
                agent_rows.put_identities(connection, {agent.host: inventory}, all_of_it=False)
                put_event(connection, event)
        return is_first

    def agent(self, host: str) -> Agent | None:
        """Return the agent of *host*."""
        return self._one(ask(self._engine, agent_rows.AGENT, wanted=host))

    def agent_of(self, token_hash: str) -> Agent | None:
        """Return the agent whose token, or whose next one, has this hash."""
        return self._one(ask(self._engine, agent_rows.AGENT_OF, wanted=token_hash))

    def _one(self, rows: Sequence[Any]) -> Agent | None:
        return agent_rows.parse_agent(rows[0]) if rows else None

    def agents(self, after: str = "", limit: int = 100) -> Sequence[Agent]:
        """Return agents by the names of their hosts."""
        return [agent_rows.parse_agent(row) for row in ask(self._engine, agent_rows.LISTED, after=after, limit=limit)]

    def greet(self, host: str, endpoint: str) -> None:
        """Keep where the agent says that it can be reached."""
        with writing(self._engine) as connection:
            agent_rows.change(connection, host, endpoint=endpoint)

    @begun_anew
    def keep(self, check_ins: Sequence[CheckIn]) -> Sequence[bool]:
        """Keep what changed on many hosts."""
        names = {one.host for one in check_ins}
        ahead = self.look_ahead(check_ins)
        with writing(self._engine) as connection:
            lock_rows(connection, hosts.c.name, names)
            places = agent_rows.read_places(connection, names)
            newest = {host: (row.epoch, row.sequence) for host, row in places.items()}
            kept: dict[str, CheckIn] = {}
            is_newer = []
            for one in check_ins:
                place = one.epoch, one.sequence
                is_newer.append(place > newest.get(one.host, place))
                if is_newer[-1]:
                    newest[one.host] = place
                    kept[one.host] = _after(kept.get(one.host), one)
            if kept:
                told = list(kept.values())
                observed = _observed(told)
                host_rows.put_new_facts(connection, observed)
                found = ahead.found_by(observed, read_catalogue(connection)) if observed else {}
                written = {one.host for one in told if one.hardware is not None}
                written.update(health_rows.read_differing(connection, told))
                digests = {host: row.units or "" for host, row in places.items()}
                changed = take_changed(connection, found, digests, written)
                agent_rows.put_check_ins(connection, told)
                others = agent_rows.put_drivers(connection, told, places)
                events = _put(connection, told, changed)
                # Of one that was revoked meanwhile nothing would be taken back; else the accelerators must be ours.
                ours = written | changed.keys()
                with_health = [one for one in told if places[one.host].token_hash and one.host in ours]
                faring = health_rows.put_health(connection, with_health)
                events += faring.events
                forget_unused(connection, others)
                enqueue(connection, {*observed, *faring.hosts}, "CheckedIn", max(one.received_at for one in told))
                put_events(connection, [*events, *_heard(told, places)])
        return is_newer

    def look_ahead(self, check_ins: Sequence[CheckIn]) -> "Ahead":
        """Return what the facts say is there: it takes long, and whoever writes keeps all others waiting."""
        catalogue = catalogue_now(self._engine)
        facts = {(one.host, one.facts.fingerprint): one.facts for one in check_ins if one.facts}
        return Ahead(catalogue, found_by(facts, catalogue))

    def touch(self, check_ins: Sequence[CheckIn]) -> None:
        """Keep that agents were heard."""
        names = {one.host for one in check_ins}
        with writing(self._engine) as connection:
            lock_rows(connection, hosts.c.name, names)
            places = agent_rows.read_places(connection, names)
            # Nothing was new when they came. What is by now, somebody has told since; or the next check-in tells it.
            newer = [one for one in check_ins if _is_newer(one, places.get(one.host))]
            newer = [replace(one, drivers=()) if one.drivers else one for one in newer]
            if newer:
                agent_rows.put_check_ins(connection, newer)
                put_events(connection, _heard(newer, places))

    def set_token(self, seen: Agent, token_hash: str, next_token_hash: str, event: Event | None) -> bool:
        """Put other tokens in the place of those that an agent was *seen* to have."""
        is_as_seen = (agents.c.token_hash == seen.token_hash, agents.c.next_token_hash == seen.next_token_hash)
        tokens = {"token_hash": token_hash, "next_token_hash": next_token_hash}
        with writing(self._engine) as connection:
            is_set = agent_rows.change(connection, seen.host, *is_as_seen, **tokens)
            if is_set and not next_token_hash:  # it is in use
                agent_rows.forget_commands(connection, seen.host, schema.commands.c.command == "rotate_token")
            if is_set and event is not None:
                put_event(connection, event)
        return is_set

    def revoke(self, host: str, event: Event) -> bool:
        """Let no token speak for *host* any more, and none enrol it that was minted before."""
        with writing(self._engine) as connection:
            were_minted = agent_rows.forget_enrolments(connection, host)  # first, as who uses one up has its row first
            lock_rows(connection, hosts.c.name, [host])
            if not agent_rows.change(connection, host, token_hash="", next_token_hash="") and not were_minted:
                return False
            agent_rows.forget_commands(connection, host, schema.commands.c.command == "rotate_token")
            forgotten = health_rows.forget_health(connection, host, event.at)
            enqueue(connection, {host} if forgotten else (), "HealthForgotten", event.at)
            put_events(connection, [event, *forgotten])
        return True

    def approve(self, host: str, event: Event) -> bool:
        """Note that an operator agreed to the agent of *host*."""
        with writing(self._engine) as connection:
            is_there = agent_rows.change(connection, host, approved=True)
            if is_there:
                put_event(connection, event)
        return is_there

    def command(self, hosts: Sequence[str], command: CommandName, driver: str | None, event: Event) -> None:
        """Have the agents of *hosts* do something."""
        with writing(self._engine) as connection:
            agent_rows.add_commands(connection, hosts, command, driver, event.at)
            put_events(connection, [replace(event, host=host) for host in hosts])

    def ask_for_discovery(self, hosts: Sequence[str], driver: str | None, event: Event) -> Sequence[str]:
        """Have *hosts*, or all, looked at again."""
        with writing(self._engine) as connection:
            unknown = [host for host in hosts if not agent_rows.is_known(connection, host)]
            if not unknown:
                asked = hosts or agent_rows.read_known(connection)
                told = agent_rows.read_talking(connection, asked)
                agent_rows.add_commands(connection, told, "discover", driver, event.at)
                enqueue(connection, set(asked) - set(told), event.kind, event.at)  # for the worker to look at
                put_event(connection, event)
        return unknown

    def commands(self, host: str) -> Sequence[Command]:
        """Return what the agent of *host* is to do, oldest first."""
        with reading(self._engine) as connection:
            return agent_rows.read_commands(connection, host)

    def done(self, host: str, commands: Collection[int]) -> None:
        """Forget *commands* of *host*."""
        with writing(self._engine) as connection:
            agent_rows.forget_commands(connection, host, schema.commands.c.number.in_(commands))

    def is_news(self, host: str, told: DriverHardware, at: datetime) -> bool:
        """Return whether anything of what its drivers tell of *host* is to be kept."""
        with reading(self._engine) as connection:
            return bool(driver_hardware_rows.read_step(connection, host, told, at))

    def fares_otherwise(self, host: str, health: Mapping[str, str]) -> bool:
        """Return whether what its agent says of the *health* of devices is other than what is kept."""
        return bool(health) and any(
            health_rows.differs(row, health) for row in ask(self._engine, health_rows.TOLD_HEALTH, wanted=host)
        )

    def endpoint(self, host: str) -> str:
        """Return where the inventory has the agent of *host* called; empty where it does not say."""
        inventory = schema.inventory
        with reading(self._engine) as connection:
            row = connection.execute(select(inventory.c.agent_endpoint).where(inventory.c.host == host)).first()
        return "" if row is None else row.agent_endpoint or ""

    def is_known(self, host: str) -> bool:
        """Return whether there is a host of this name."""
        with reading(self._engine) as connection:
            return agent_rows.is_known(connection, host)

    def drivers(self, host: str) -> Collection[str]:
        """Return the names of the drivers that the agent of *host* told of last."""
        drivers = schema.agent_drivers
        with reading(self._engine) as connection:
            return connection.execute(select(drivers.c.name).where(drivers.c.host == host)).scalars().all()

    def ready(self, host: str) -> Sequence[DesiredDevice]:
        """Return which devices of the drivers on *host* are to be ready."""
        with reading(self._engine) as connection:
            return driver_hardware_rows.read_ready(connection, host)

    def fall_silent(self, before: datetime, at: datetime) -> Sequence[str]:
        """Mark the agents that were last heard before *before* as silent."""
        with writing(self._engine) as connection:
            was_not_heard = (agents.c.last_seen_at < before) & ~agents.c.silent
            lock_rows(connection, agents.c.host, late := agent_rows.read_silent(connection, was_not_heard))
            # Who was heard just now is not silent; who was not locked is marked the next time.
            fallen = sorted({*late} & {*agent_rows.read_silent(connection, was_not_heard)})
            agent_rows.set_silent(connection, fallen, at)
            words = "its agent has not checked in for too long"
            put_events(connection, [Event(at, "AgentSilent", host, words) for host in fallen])
        return fallen

    def tell(self, event: Event) -> None:
        """Append to the audit trail."""
        with writing(self._engine) as connection:
            put_event(connection, event)


def _is_newer(one: CheckIn, place: Row[Any] | None) -> bool:
    return place is not None and (one.epoch, one.sequence) > (place.epoch, place.sequence)


def _after(before: CheckIn | None, one: CheckIn) -> CheckIn:
    """Return *one*, with what it says nothing of as the check-in *before* it said: that was not written by itself."""
    if before is None:
        return one
    return replace(
        one,
        drivers=one.drivers or before.drivers,
        hardware=before.hardware if one.hardware is None else one.hardware,
        health={**before.health, **one.health},
    )


def _observed(kept: Sequence[CheckIn]) -> dict[str, Observation]:
    return {one.host: Observation(one.facts, one.document, one.received_at) for one in kept if one.facts}


def _put(connection: Connection, kept: Sequence[CheckIn], changed: Mapping[str, Found]) -> list[Event]:
    """Enter what facts and drivers tell of, and return what there is to tell of it."""
    newest = max(one.received_at for one in kept)
    told = {one.host: one.hardware for one in kept if one.hardware is not None}
    claimed = driver_hardware_rows.claim(connection, told, newest)
    events = put_found(connection, changed, newest)
    for one in sorted(kept, key=lambda one: one.host):
        if one.hardware is not None:
            events += driver_hardware_rows.put_driver_hardware(
                connection, one.host, one.hardware, one.received_at, claimed
            )
    return events


def _heard(check_ins: Sequence[CheckIn], places: Mapping[str, Row[Any]]) -> list[Event]:
    """Return what there is to tell of the agents that were heard after they had been silent."""
    back = [one for one in check_ins if one.host in places and places[one.host].silent]
    return [Event(one.received_at, "AgentHeard", one.host, "its agent checks in again") for one in back]
