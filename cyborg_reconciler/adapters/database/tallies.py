# SPDX-License-Identifier: Apache-2.0
"""How many are there of each kind? One grouped query for each metric; never a row for each host.

Opened by `bootstrap`, called when somebody asks for the metrics. Works in the journal's database.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Engine, Select, and_, bindparam, case, func, select

from cyborg_reconciler.adapters.database.engine import reading
from cyborg_reconciler.adapters.database.revision import check_revision
from cyborg_reconciler.adapters.database.schema import (
    MAY_SPEAK,
    accelerators,
    agents,
    histories,
    hosts,
    leases,
    passes,
    queue,
    runs,
)
from cyborg_reconciler.core.state import Sync
from cyborg_reconciler.meters import (
    ACCELERATORS,
    AGENTS_SILENT,
    HOSTS,
    LAST_PASS,
    LEASE_HELD,
    PASS_SECONDS,
    PASSES,
    QUEUE_AGE,
    QUEUE_LENGTH,
    RUNS,
    Metric,
    Tally,
)

_IS_PRESENT: Final = and_(histories.c.host == hosts.c.name, histories.c.digest == hosts.c.digest)
_DRIFTED: Final = case(
    (and_(hosts.c.sync == str(Sync.OUT_OF_SYNC), histories.c.was_synced), "true"), else_="false"
).label("drifted")

#: Each query yields the labels of its metric, in their order, and how many there are.
QUERIES: Final[Mapping[Metric, Select[Any]]] = {
    HOSTS: select(hosts.c.phase, hosts.c.sync, hosts.c.health, _DRIFTED, func.count())
    .join(histories, _IS_PRESENT, isouter=True)
    .group_by(hosts.c.phase, hosts.c.sync, hosts.c.health, _DRIFTED),
    ACCELERATORS: select(accelerators.c.state, accelerators.c.health, func.count())
    .where(accelerators.c.present)
    .group_by(accelerators.c.state, accelerators.c.health),
    AGENTS_SILENT: select(func.count()).select_from(agents).where(agents.c.silent, MAY_SPEAK),
    RUNS: select(runs.c.status, func.count()).group_by(runs.c.status),
    QUEUE_LENGTH: select(func.count()).select_from(queue),
    QUEUE_AGE: select(func.min(queue.c.enqueued_at)).where(queue.c.not_before <= bindparam("now")),
    PASSES: select(passes.c.kind, passes.c.result, passes.c["count"]),
    PASS_SECONDS: select(passes.c.kind, passes.c.result, passes.c.seconds),
    LAST_PASS: select(passes.c.kind, passes.c.result, passes.c.ended_at),
    LEASE_HELD: select(
        leases.c.name, case((and_(leases.c.holder != "", leases.c.expires_at > bindparam("now")), 1), else_=0)
    ),
}


class DatabaseTallies:
    """What there is, by the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def check(self) -> None:
        """Return when the database answers, and is of the present revision."""
        check_revision(self._engine)

    def tallies(self) -> Mapping[Metric, Tally]:
        """Return the numbers of what there is."""
        now = datetime.now(UTC)
        with reading(self._engine) as connection:
            return {
                metric: {
                    tuple(row[:-1]): _number(metric, row[-1], now) for row in connection.execute(query, {"now": now})
                }
                for metric, query in QUERIES.items()
            }


def _number(metric: Metric, value: Any, now: datetime) -> float:  # noqa: ANN401 - a column's value
    """Return a column's value as a number: a time in seconds since 1970, or as that long ago."""
    if metric is QUEUE_AGE:
        return max(0.0, (now - value).total_seconds()) if isinstance(value, datetime) else 0.0
    return value.timestamp() if isinstance(value, datetime) else float(value)
