# SPDX-License-Identifier: Apache-2.0
"""How many are there of each kind? One grouped query for each metric; never a row for each host.

Called by the store, inside its transaction.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, case, func, select

from cyborg_reconciler.adapters.database.schema import accelerators, histories, hosts, runs
from cyborg_reconciler.core.state import Sync
from cyborg_reconciler.meters import ACCELERATORS, HOSTS, RUNS, Metric, Tally

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
    RUNS: select(runs.c.status, func.count()).group_by(runs.c.status),
}


def read_tallies(connection: Connection) -> dict[Metric, Tally]:
    """Return the numbers of all metrics that are read from the database."""
    return {
        metric: {tuple(row[:-1]): row[-1] for row in connection.execute(query)} for metric, query in QUERIES.items()
    }
