# SPDX-License-Identifier: Apache-2.0
"""Hosts as the API shows them: read a page at a time, and rendered when they are read.

Opened by `bootstrap`, called by the API. A host's row is written at every look at the host, and read far less often.
"""

from typing import Any, Final
from urllib.parse import quote

import msgspec
from sqlalchemy import Engine, Row, bindparam, select

from cyborg_reconciler.adapters.database.asking import ask
from cyborg_reconciler.adapters.database.engine import reading
from cyborg_reconciler.adapters.database.pages import link, raw, read_page, render
from cyborg_reconciler.adapters.database.schema import MAY_SPEAK, agents, conditions, facts, hosts, inventory
from cyborg_reconciler.core.conditions import of_agent
from cyborg_reconciler.stores.pages import Page, PageQuery

HOSTS: Final = "/v1/hosts"


#: Yields hosts with what is known of them. Made once: making it takes longer than running it.
ALL: Final = (
    select(
        hosts,
        conditions.c.document,
        facts.c.received_at,
        facts.c.fingerprint.label("newest"),
        inventory.c.groups,
        inventory.c.labels,
        agents.c.last_seen_at,
        agents.c.silent,
        agents.c.silent_changed_at,
        MAY_SPEAK.label("may_speak"),
    )
    .outerjoin(conditions)
    .outerjoin(facts, facts.c.host == hosts.c.name)
    .outerjoin(inventory, inventory.c.host == hosts.c.name)
    .outerjoin(agents, agents.c.host == hosts.c.name)
)
HOST: Final = ALL.where(hosts.c.name == bindparam("wanted"))


class DatabaseHosts:
    """The hosts, in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, wanted: PageQuery) -> Page:
        """Return a page of hosts."""
        query = ALL
        for name, value in wanted.equal.items():
            query = query.where(hosts.c[name] == value)
        with reading(self._engine) as connection:
            rows, more = read_page(connection, query, hosts.c.name, wanted, wanted.marker or None)
        return Page([_host(row) for row in rows], rows[-1].name if rows else "", more)

    def document(self, name: str) -> str | None:
        """Return a host."""
        row = next(iter(ask(self._engine, HOST, wanted=name)), None)
        return None if row is None else _host(row)


def _host(row: Row[Any]) -> str:
    """Return a host as the API gives it."""
    return render(
        {
            "name": row.name,
            "uuid": row.uuid,
            "sync": row.sync,
            "health": row.health,
            "phase": row.phase,
            "failed_in": row.failed_in or None,
            "reason": row.reason,
            "message": row.message,
            "generation": row.generation,
            "conditions": _conditions(row),
            "fingerprint": row.newest or row.fingerprint,
            "facts_received_at": row.received_at,
            "observed_at": row.observed_at,
            "changed_at": row.changed_at,
            "agent_seen_at": row.last_seen_at,
            "groups": raw(row.groups or "[]"),
            "labels": raw(row.labels or "{}"),
            "links": [link(f"{HOSTS}/{quote(row.name, safe='')}")],
        }
    )


def _conditions(row: Row[Any]) -> Any:  # noqa: ANN401 - JSON, decoded or not
    """Return the conditions that were recorded, and whether the host's agent fell silent, if one speaks for it."""
    if row.silent_changed_at is None or not row.may_speak:
        return raw(row.document or "[]")
    silent = of_agent(row.silent_changed_at, row.generation, silent_after=row.last_seen_at if row.silent else None)
    return [*msgspec.json.decode(row.document or "[]"), silent]
