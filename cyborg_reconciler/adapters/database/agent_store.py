# SPDX-License-Identifier: Apache-2.0
"""What the conductor keeps of agents, as the store has it: each method is one transaction, on disk when it returns.

Opened by `bootstrap`, called by the conductor. Works in the journal's database.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Engine, true

from cyborg_reconciler.adapters.database import agent_rows, host_rows
from cyborg_reconciler.adapters.database.declaration_rows import read_catalogue
from cyborg_reconciler.adapters.database.discovery_rows import put_found
from cyborg_reconciler.adapters.database.engine import lock_rows, reading, writing
from cyborg_reconciler.adapters.database.event_rows import put_event
from cyborg_reconciler.adapters.database.schema import agents, hosts
from cyborg_reconciler.agent_stores import Agent, CheckIn, Command, CommandName, Enrolment, Inventory
from cyborg_reconciler.ports import Event, Observation


class DatabaseAgentStore:
    """The agents, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def known_as(self, inventory: Inventory) -> Sequence[str]:
        """Return the hosts that *inventory* is of."""
        with reading(self._engine) as connection:
            return agent_rows.read_known_as(connection, inventory)

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
                is_first = not agent_rows.is_known(connection, agent.host)
            if is_first:
                agent_rows.put_agent(connection, agent)
                agent_rows.put_identities(connection, {agent.host: inventory}, all_of_it=False)
                put_event(connection, event)
        return is_first

    def agent(self, host: str) -> Agent | None:
        """Return the agent of *host*."""
        with reading(self._engine) as connection:
            return next(iter(agent_rows.read_agents(connection, agents.c.host == host)), None)

    def agent_of(self, token_hash: str) -> Agent | None:
        """Return the agent whose token, or whose next one, has this hash."""
        with reading(self._engine) as connection:
            return next(iter(agent_rows.read_agents(connection, agent_rows.has_token(token_hash))), None)

    def agents(self, after: str = "", limit: int = 100) -> Sequence[Agent]:
        """Return agents by the names of their hosts."""
        with reading(self._engine) as connection:
            return agent_rows.read_agents(connection, agents.c.host > after if after else true(), limit=limit)

    def greet(self, host: str, endpoint: str, at: datetime) -> None:
        """Keep where the agent says that it can be reached."""
        with writing(self._engine) as connection:
            agent_rows.change(connection, host, endpoint=endpoint, last_seen_at=at)

    def keep(self, check_ins: Sequence[CheckIn]) -> Sequence[bool]:
        """Keep what changed on many hosts."""
        names = {one.host for one in check_ins}
        with writing(self._engine) as connection:
            lock_rows(connection, hosts.c.name, names)
            places = agent_rows.read_places(connection, names)
            kept: dict[str, CheckIn] = {}
            is_newer = []
            for one in check_ins:
                is_newer.append((one.epoch, one.sequence) > places.get(one.host, (one.epoch, one.sequence)))
                if is_newer[-1]:
                    places[one.host] = one.epoch, one.sequence
                    kept[one.host] = one
            self._put(connection, list(kept.values()))
        return is_newer

    def _put(self, connection: Connection, kept: Sequence[CheckIn]) -> None:
        told = [one for one in kept if one.facts is not None]
        if told:
            observed = {one.host: Observation(one.facts, one.document, one.received_at) for one in told if one.facts}
            host_rows.put_facts(connection, observed)
            found = {host: one.facts for host, one in observed.items()}
            put_found(connection, found, read_catalogue(connection), max(one.received_at for one in told))
            agent_rows.put_identities(
                connection, {host: agent_rows.inventory_of(one.facts) for host, one in observed.items()}
            )
            agent_rows.put_fingerprints(connection, told)
        if kept:
            self._hear(connection, kept)

    def touch(self, check_ins: Sequence[CheckIn]) -> None:
        """Keep that agents were heard."""
        with writing(self._engine) as connection:
            self._hear(connection, check_ins)

    def _hear(self, connection: Connection, check_ins: Sequence[CheckIn]) -> None:
        """Enter that agents were heard; those that had been silent are so no more, and that is told."""
        agent_rows.put_check_ins(connection, check_ins)
        heard = {one.host: one.received_at for one in check_ins}
        back = [host for host in agent_rows.read_silent(connection, agents.c.silent) if host in heard]
        agent_rows.set_silent(connection, back, silent=False)
        for host in back:
            put_event(connection, Event(heard[host], "AgentHeard", host, "its agent checks in again"))

    def set_token(self, host: str, token_hash: str, next_token_hash: str, event: Event) -> None:
        """Put other tokens in the place of those of *host*."""
        with writing(self._engine) as connection:
            agent_rows.change(connection, host, token_hash=token_hash, next_token_hash=next_token_hash)
            put_event(connection, event)

    def approve(self, host: str, event: Event) -> bool:
        """Note that an operator agreed to the agent of *host*."""
        with writing(self._engine) as connection:
            is_there = agent_rows.change(connection, host, approved=True)
            if is_there:
                put_event(connection, event)
        return is_there

    def command(self, hosts: Sequence[str], command: CommandName, driver: str | None, at: datetime) -> None:
        """Have the agents of *hosts* do something."""
        with writing(self._engine) as connection:
            agent_rows.add_commands(connection, hosts, command, driver, at)

    def ask_for_discovery(self, hosts: Sequence[str], driver: str | None, at: datetime) -> Sequence[str]:
        """Have *hosts*, or all, looked at again."""
        with writing(self._engine) as connection:
            unknown = [host for host in hosts if not agent_rows.is_known(connection, host)]
            if not unknown:
                asked = hosts or agent_rows.read_known(connection)
                told = agent_rows.read_talking(connection, asked)
                agent_rows.add_commands(connection, told, "discover", driver, at)
        return unknown

    def commands(self, host: str) -> Sequence[Command]:
        """Return what the agent of *host* is to do, and take it for told."""
        with reading(self._engine) as connection:
            waiting = agent_rows.read_commands(connection, host)
        if waiting:
            with writing(self._engine) as connection:
                agent_rows.forget_commands(connection, waiting)
        return waiting

    def fall_silent(self, before: datetime, at: datetime) -> Sequence[str]:
        """Mark the agents that were last heard before *before* as silent."""
        with writing(self._engine) as connection:
            fallen = agent_rows.read_silent(connection, (agents.c.last_seen_at < before) & ~agents.c.silent)
            agent_rows.set_silent(connection, fallen, silent=True)
            for host in fallen:
                put_event(connection, Event(at, "AgentSilent", host, "its agent has not checked in for too long"))
        return fallen

    def tell(self, event: Event) -> None:
        """Append to the audit trail."""
        with writing(self._engine) as connection:
            put_event(connection, event)
