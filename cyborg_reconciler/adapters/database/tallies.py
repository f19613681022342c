# SPDX-License-Identifier: Apache-2.0
"""How many are there of each kind? One grouped query for each metric; never a row for each host.

Opened by `bootstrap`, called when somebody asks for the metrics. Works in the journal's database.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Engine, Select, and_, case, func, select

from cyborg_reconciler.adapters.database.engine import reading
from cyborg_reconciler.adapters.database.revision import check_revision
from cyborg_reconciler.adapters.database.schema import accelerators, agents, histories, hosts, runs
from cyborg_reconciler.core.state import Sync
from cyborg_reconciler.meters import ACCELERATORS, AGENTS_SILENT, HOSTS, RUNS, Metric, Tally

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
    AGENTS_SILENT: select(func.count()).select_from(agents).where(agents.c.silent, agents.c.approved),
    RUNS: select(runs.c.status, func.count()).group_by(runs.c.status),
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
        with reading(self._engine) as connection:
            return {
                metric: {tuple(row[:-1]): row[-1] for row in connection.execute(query)}
                for metric, query in QUERIES.items()
            }
