# SPDX-License-Identifier: Apache-2.0
"""What does the journal know of hosts? The statements about the tables hosts, facts, reboots and approvals.

Called by the journal, inside its transactions.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, func, select, update

from cyborg_reconciler.adapters.database.engine import upsert
from cyborg_reconciler.adapters.database.schema import approvals, facts, hosts, reboots
from cyborg_reconciler.core.state import Health, History, Phase, Sync
from cyborg_reconciler.ports import HostRecord, Observation

#: Names in one query. SQLite takes 32766 parameters, PostgreSQL 65535.
NAMES_AT_ONCE: Final = 5000


def portions(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield *names* in portions that fit a query."""
    for start in range(0, len(names), NAMES_AT_ONCE):
        yield names[start : start + NAMES_AT_ONCE]


def ensure(connection: Connection, names: Sequence[str]) -> None:
    """See that there is a row for each of *names*."""
    upsert(connection, hosts, [{"name": name, "uuid": str(uuid.uuid4())} for name in names], update=[])


def find_changed(connection: Connection, digests: Mapping[str, str]) -> list[str]:
    """Return the hosts whose digest is another than the one that is kept."""
    kept: dict[str, str] = {}
    for names in portions(list(digests)):
        rows = connection.execute(select(hosts.c.name, hosts.c.digest).where(hosts.c.name.in_(names)))
        kept.update((row.name, row.digest) for row in rows)
    return [host for host, digest in digests.items() if kept.get(host) != digest]


def raise_generations(connection: Connection, digests: Mapping[str, str]) -> None:
    """Enter new digests: each raises its host's generation and forgets what was remembered under the old one."""
    ensure(connection, list(digests))
    statement = (
        update(hosts)
        .where(hosts.c.name == bindparam("raised"), hosts.c.digest != bindparam("new"))
        .values(digest=bindparam("new"), generation=hosts.c.generation + 1, was_synced=False, failures=0)
    )
    connection.execute(statement, [{"raised": host, "new": digest} for host, digest in digests.items()])


def read_histories(connection: Connection, names: Sequence[str]) -> dict[str, History]:
    """Return what is remembered of each host under its present generation."""
    found: dict[str, History] = {}
    for portion in portions(names):
        asked: dict[str, list[str]] = {}
        present = reboots.c.generation == hosts.c.generation
        boots = connection.execute(
            select(reboots.c.host, reboots.c.boot_id)
            .join(hosts, hosts.c.name == reboots.c.host)
            .where(reboots.c.host.in_(portion), present)
            .order_by(reboots.c.number)
        )
        for boot in boots:
            asked.setdefault(boot.host, []).append(boot.boot_id)
        columns = (hosts.c.name, hosts.c.generation, hosts.c.was_synced, hosts.c.failures)
        for row in connection.execute(select(*columns).where(hosts.c.name.in_(portion))):
            found[row.name] = History(row.generation, tuple(asked.get(row.name, ())), row.was_synced, row.failures)
    return found


def forget(connection: Connection, host: str) -> None:
    """Forget the failures and the reboots of *host* under its present generation."""
    connection.execute(update(hosts).where(hosts.c.name == host).values(failures=0))
    generation = select(hosts.c.generation).where(hosts.c.name == host).scalar_subquery()
    connection.execute(delete(reboots).where(reboots.c.host == host, reboots.c.generation == generation))


def add_reboot(connection: Connection, host: str, boot_id: str, at: datetime) -> None:
    """Enter a reboot of *host* under its present generation."""
    ensure(connection, [host])
    generation = select(hosts.c.generation).where(hosts.c.name == host).scalar_subquery()
    connection.execute(reboots.insert().values(host=host, generation=generation, boot_id=boot_id, asked_at=at))


def set_verdicts(connection: Connection, verified: Mapping[str, bool]) -> None:
    """Enter whether each host was as desired when it was looked at."""
    ensure(connection, list(verified))
    for outcome, values in ((True, {"was_synced": True, "failures": 0}), (False, {"failures": hosts.c.failures + 1})):
        judged = [{"judged": host} for host, is_verified in verified.items() if is_verified is outcome]
        if judged:
            connection.execute(update(hosts).where(hosts.c.name == bindparam("judged")).values(values), judged)


def put_facts(connection: Connection, observed: Mapping[str, Observation], at: datetime) -> None:
    """Enter the facts of many hosts; those with the fingerprint that is there only move its time."""
    ensure(connection, list(observed))
    there: dict[str, str] = {}
    for names in portions(list(observed)):
        rows = connection.execute(select(facts.c.host, facts.c.fingerprint).where(facts.c.host.in_(names)))
        there.update((row.host, row.fingerprint) for row in rows)
    same = [host for host, seen in observed.items() if there.get(host) == seen.facts.fingerprint]
    if same:
        touch = update(facts).where(facts.c.host == bindparam("touched")).values(received_at=bindparam("at"))
        connection.execute(touch, [{"touched": host, "at": at} for host in same])
    rows_new = [
        {"host": host, "fingerprint": seen.facts.fingerprint, "document": seen.document.decode(), "received_at": at}
        for host, seen in observed.items()
        if there.get(host) != seen.facts.fingerprint
    ]
    upsert(connection, facts, rows_new, update=["fingerprint", "document", "received_at"])


def read_facts(connection: Connection, names: Sequence[str]) -> dict[str, tuple[bytes, datetime]]:
    """Return the newest facts of *names*, and when they were received."""
    found: dict[str, tuple[bytes, datetime]] = {}
    for portion in portions(names):
        rows = connection.execute(
            select(facts.c.host, facts.c.document, facts.c.received_at).where(facts.c.host.in_(portion))
        )
        found.update((row.host, (row.document.encode(), row.received_at)) for row in rows)
    return found


def put_records(connection: Connection, records: Sequence[HostRecord]) -> None:
    """Enter where hosts stand."""
    known = [{"name": r.name, "uuid": r.uuid or str(uuid.uuid4()), "generation": r.generation} for r in records]
    upsert(connection, hosts, known, update=[])
    for record in records:
        _put_record(connection, record)


def _put_record(connection: Connection, record: HostRecord) -> None:
    """Enter where a host stands. Its uuid and generation stay; so do a fingerprint and times that *record* lacks."""
    values = {
        "sync": record.sync.value,
        "health": record.health.value,
        "phase": record.phase.value,
        "reason": record.reason,
        "message": record.message,
        "fingerprint": record.fingerprint,
        "observed_at": record.observed_at,
        "changed_at": record.changed_at,
    }
    given = {key: value for key, value in values.items() if value or key in {"reason", "message"}}
    connection.execute(update(hosts).where(hosts.c.name == record.name).values(given))


def read_records(connection: Connection) -> list[HostRecord]:
    """Return every host, by name."""
    return [
        parse_record(row) for row in connection.execute(select(hosts).order_by(func.lower(hosts.c.name), hosts.c.name))
    ]


def parse_record(row: Row[Any]) -> HostRecord:
    """Return a row of the table hosts as what it says."""
    return HostRecord(
        name=row.name,
        uuid=row.uuid,
        generation=row.generation,
        sync=Sync(row.sync),
        health=Health(row.health),
        phase=Phase(row.phase),
        reason=row.reason,
        message=row.message,
        fingerprint=row.fingerprint,
        observed_at=row.observed_at,
        changed_at=row.changed_at,
    )


def put_approval(connection: Connection, row: Mapping[str, Any]) -> None:
    """Enter an approval; a second one of the same changes nothing."""
    upsert(connection, approvals, [row], update=[])


def is_approved(connection: Connection, host: str, generation: int, digest: str) -> bool:
    """Return whether these actions were approved."""
    where = (approvals.c.host == host, approvals.c.generation == generation, approvals.c.digest == digest)
    return connection.execute(select(approvals.c.host).where(*where)).first() is not None
