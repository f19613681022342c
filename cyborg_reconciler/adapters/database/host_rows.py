# SPDX-License-Identifier: Apache-2.0
"""What does the journal know of hosts? The statements about hosts, histories, facts, reboots and approvals.

Called by the journal, inside its transactions.
"""

import functools
import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, ScalarSelect, and_, bindparam, delete, select, update

from cyborg_reconciler.adapters.database.engine import NAMES_AT_ONCE, lock_rows, portions, upsert
from cyborg_reconciler.adapters.database.schema import approvals, conditions, facts, histories, hosts, reboots
from cyborg_reconciler.core.conditions import Condition
from cyborg_reconciler.core.state import Health, History, Phase, Sync
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.plan import PlanDocument
from cyborg_reconciler.ports import HostRecord, Observation

#: Before anything was received.
LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)

_conditions: Final = msgspec.json.Decoder(tuple[Condition, ...])


@functools.lru_cache(maxsize=NAMES_AT_ONCE)
def decode_conditions(document: str) -> tuple[Condition, ...]:
    """Return the conditions in *document*; those of most hosts of a fleet are the same, to the second."""
    return _conditions.decode(document)


def claim(connection: Connection, names: Collection[str]) -> None:
    """See that there is a row for each of *names*, and keep other writers from them until the transaction ends.

    All that is written of a host is written after this: who reads it in here may rely on it.
    """
    upsert(connection, hosts, [{"name": name, "uuid": str(uuid.uuid4())} for name in names], update=[])
    lock_rows(connection, hosts.c.name, names)


def find_changed(connection: Connection, digests: Mapping[str, str]) -> list[str]:
    """Return the hosts whose digest is another than the one that is kept."""
    kept: dict[str, str] = {}
    for names in portions(list(digests)):
        rows = connection.execute(select(hosts.c.name, hosts.c.digest).where(hosts.c.name.in_(names)))
        kept.update((row.name, row.digest) for row in rows)
    return [host for host, digest in digests.items() if kept.get(host) != digest]


def raise_generations(connection: Connection, digests: Mapping[str, str]) -> None:
    """Enter new digests: each raises its host's generation. One that was desired before finds its history again."""
    claim(connection, digests)
    upsert(connection, histories, [{"host": host, "digest": digest} for host, digest in digests.items()], update=[])
    statement = (
        update(hosts)
        .where(hosts.c.name == bindparam("raised"), hosts.c.digest != bindparam("new"))
        .values(digest=bindparam("new"), generation=hosts.c.generation + 1)
    )
    connection.execute(statement, [{"raised": host, "new": digest} for host, digest in digests.items()])


def read_histories(connection: Connection, names: Sequence[str]) -> dict[str, History]:
    """Return what is remembered of each host under the state that is desired of it now."""
    found: dict[str, History] = {}
    for portion in portions(names):
        asked: dict[str, list[str]] = {}
        boots = connection.execute(
            select(reboots.c.host, reboots.c.boot_id)
            .where(reboots.c.host.in_(portion), reboots.c.digest == present_digest(reboots.c.host))
            .order_by(reboots.c.number)
        )
        for boot in boots:
            asked.setdefault(boot.host, []).append(boot.boot_id)
        is_present = and_(histories.c.host == hosts.c.name, histories.c.digest == hosts.c.digest)
        columns = (hosts.c.name, hosts.c.generation, histories.c.was_synced, histories.c.failures)
        for row in connection.execute(select(*columns).join(histories, is_present).where(hosts.c.name.in_(portion))):
            found[row.name] = History(row.generation, tuple(asked.get(row.name, ())), row.was_synced, row.failures)
    return found


def foresee_histories(connection: Connection, digests: Mapping[str, str]) -> dict[str, History]:
    """Return what `read_histories` would once *digests* are those of what is desired; nothing is written."""
    found: dict[str, History] = {}
    for names in portions(list(digests)):
        asked: dict[tuple[str, str], list[str]] = defaultdict(list)
        for boot in connection.execute(select(reboots).where(reboots.c.host.in_(names)).order_by(reboots.c.number)):
            asked[boot.host, boot.digest].append(boot.boot_id)
        kept = {
            (row.host, row.digest): row
            for row in connection.execute(select(histories).where(histories.c.host.in_(names)))
        }
        columns = (hosts.c.name, hosts.c.generation, hosts.c.digest)
        now = {row.name: row for row in connection.execute(select(*columns).where(hosts.c.name.in_(names)))}
        for name in names:
            key = name, digests[name]
            row, known = now.get(name), kept.get(key)
            generation = (row.generation if row else 0) + (row is None or row.digest != digests[name])
            seen = (known.was_synced, known.failures) if known else ()
            found[name] = History(generation, tuple(asked.get(key, ())), *seen)
    return found


def present_digest(host: ColumnElement[Any]) -> ScalarSelect[Any]:
    """Return the digest of what is desired now of the *host* in another table's row."""
    return select(hosts.c.digest).where(hosts.c.name == host).scalar_subquery()


def forget(connection: Connection, host: str) -> None:
    """Forget the failures and the reboots of *host* under the state that is desired of it now."""
    lock_rows(connection, hosts.c.name, [host])
    is_present = histories.c.digest == present_digest(histories.c.host)
    connection.execute(update(histories).where(histories.c.host == host, is_present).values(failures=0))
    forget_reboots(connection, [host])


def forget_reboots(connection: Connection, names: Collection[str]) -> None:
    """Forget the reboots of *names* under the states that are desired of them now."""
    rebooted = {row.host for row in connection.execute(select(reboots.c.host).distinct())}  # few, whatever is asked
    is_present = reboots.c.digest == present_digest(reboots.c.host)
    for portion in portions([name for name in names if name in rebooted]):
        connection.execute(delete(reboots).where(reboots.c.host.in_(portion), is_present))


def add_reboot(connection: Connection, host: str, boot_id: str, at: datetime) -> None:
    """Enter a reboot of *host* under the state that is desired of it now."""
    claim(connection, [host])
    digest = select(hosts.c.digest).where(hosts.c.name == host).scalar_subquery()
    connection.execute(reboots.insert().values(host=host, digest=digest, boot_id=boot_id, asked_at=at))


def set_verdicts(connection: Connection, verified: Mapping[str, bool]) -> None:
    """Enter whether each host was as desired when it was looked at; reboots that led there were not in vain."""
    claim(connection, verified)
    is_present = histories.c.digest == present_digest(histories.c.host)
    for outcome, values in (
        (True, {"was_synced": True, "failures": 0}),
        (False, {"failures": histories.c.failures + 1}),
    ):
        judged = [{"judged": host} for host, is_verified in verified.items() if is_verified is outcome]
        if judged:
            statement = update(histories).where(histories.c.host == bindparam("judged"), is_present)
            connection.execute(statement.values(values), judged)
    forget_reboots(connection, [host for host, is_verified in verified.items() if is_verified])


def put_facts(connection: Connection, observed: Mapping[str, Observation]) -> Mapping[str, Facts]:
    """Enter the facts of hosts that were claimed; those with the fingerprint that is there only move its time.

    What was received before what is there changes nothing: it may have been read from there. Return what was not.
    """
    there: dict[str, str] = {}
    received: dict[str, datetime] = {}
    for names in portions(list(observed)):
        columns = (facts.c.host, facts.c.fingerprint, facts.c.received_at)
        for row in connection.execute(select(*columns).where(facts.c.host.in_(names))):
            there[row.host], received[row.host] = row.fingerprint, row.received_at
    observed = {host: seen for host, seen in observed.items() if seen.received_at >= received.get(host, LONG_AGO)}
    same = [host for host, seen in observed.items() if there.get(host) == seen.facts.fingerprint]
    if same:
        touch = update(facts).where(facts.c.host == bindparam("touched")).values(received_at=bindparam("at"))
        connection.execute(touch, [{"touched": host, "at": observed[host].received_at} for host in same])
    put_new_facts(connection, {h: seen for h, seen in observed.items() if there.get(h) != seen.facts.fingerprint})
    return {host: seen.facts for host, seen in observed.items()}


def put_new_facts(connection: Connection, observed: Mapping[str, Observation]) -> None:
    """Enter the facts of hosts that were claimed."""
    rows = [
        {
            "host": host,
            "fingerprint": seen.facts.fingerprint,
            "document": seen.document.decode(),
            "received_at": seen.received_at,
        }
        for host, seen in observed.items()
    ]
    upsert(connection, facts, rows, update=["fingerprint", "document", "received_at"])


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
    """Enter where hosts stand. Uuid and generation stay, and so do fingerprint, times and conditions left empty."""
    known = [{"name": r.name, "uuid": r.uuid or str(uuid.uuid4()), "generation": r.generation} for r in records]
    upsert(connection, hosts, known, update=[])
    lock_rows(connection, hosts.c.name, [record.name for record in records])
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        row = row_of(record)
        alike[tuple(row)].append({**row, "stands": record.name})
    for columns, rows in alike.items():
        values: dict[str, Any] = {column: bindparam(column) for column in columns}
        connection.execute(update(hosts).where(hosts.c.name == bindparam("stands")).values(values), rows)
    changed = [
        {"host": record.name, "document": msgspec.json.encode(record.conditions).decode()}
        for record in records
        if record.conditions
    ]
    upsert(connection, conditions, changed, update=["document"])


def row_of(record: HostRecord) -> dict[str, Any]:
    """Return what a record gives to its row: not what it leaves empty and the row may have."""
    values = {
        "sync": record.sync.value,
        "health": record.health.value,
        "phase": record.phase.value,
        "failed_in": record.failed_in.value if record.failed_in else "",
        "reason": record.reason,
        "message": record.message,
        "fingerprint": record.fingerprint,
        "observed_at": record.observed_at,
        "changed_at": record.changed_at,
        "drivers": "" if record.drivers is None else msgspec.json.encode(record.drivers).decode(),
    }
    return {key: value for key, value in values.items() if value or key in {"failed_in", "reason", "message"}}


def put_phases(connection: Connection, names: Sequence[str], phase: Phase, failed_in: Phase | None) -> None:
    """Enter in which phase hosts are."""
    lock_rows(connection, hosts.c.name, names)
    for portion in portions(names):
        values = {"phase": phase.value, "failed_in": failed_in.value if failed_in else ""}
        connection.execute(update(hosts).where(hosts.c.name.in_(portion)).values(values))


def read_records(connection: Connection, names: Sequence[str] | None) -> list[HostRecord]:
    """Return every host, by name; of those called *names*, where some are given."""
    query = select(hosts, conditions.c.document).outerjoin(conditions)
    queries = [query] if names is None else [query.where(hosts.c.name.in_(portion)) for portion in portions(names)]
    # Not by the database: how it orders depends on its locale.
    records = [parse_record(row) for one in queries for row in connection.execute(one)]
    return sorted(records, key=lambda record: (record.name.lower(), record.name))


def parse_record(row: Row[Any]) -> HostRecord:
    """Return a row of the table hosts, with its conditions, as what it says."""
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
        failed_in=Phase(row.failed_in) if row.failed_in else None,
        conditions=decode_conditions(row.document) if row.document else (),
        drivers=msgspec.json.decode(row.drivers, type=dict[str, str]) if row.drivers else None,
    )


def put_approvals(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Enter approvals; a second one of the same changes nothing."""
    upsert(connection, approvals, rows, update=[])


def is_approved(connection: Connection, host: str, generation: int, digest: str) -> bool:
    """Return whether these actions were approved."""
    where = (approvals.c.host == host, approvals.c.generation == generation, approvals.c.digest == digest)
    return connection.execute(select(approvals.c.host).where(*where)).first() is not None


def use_up_approvals(connection: Connection, plan: PlanDocument) -> None:
    """Forget the approvals of what *plan* does: each is to be done once."""
    used = [
        {"approved": host, "under": of_host.generation, "actions": of_host.digest}
        for host, of_host in sorted(plan.hosts.items())  # two who delete the same ones do so in the same order
    ]
    where = (
        approvals.c.host == bindparam("approved"),
        approvals.c.generation == bindparam("under"),
        approvals.c.digest == bindparam("actions"),
    )
    if used:
        connection.execute(delete(approvals).where(*where), used)
