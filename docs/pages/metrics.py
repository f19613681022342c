# SPDX-License-Identifier: Apache-2.0
"""What is counted? The page of the metrics, from their table. Called by `generate`. Pure."""

from collections.abc import Iterable

from cyborg_reconciler.meters import COUNTED, HEARD, TALLIED, Metric
from docs.pages.markdown import code, page, table

INTRODUCTION = """
What a server gives at `/metrics`, in Prometheus's text format. It takes a user who is reader, unless the setting
`metrics_access` says `anybody`. How to watch over an installation with it is told in
[monitor](../how-to/monitor.md).
"""

BY_SERVER = """
What this server has done since it started. Of several servers, add them up.
"""

BY_DATABASE = """
What there is, read from the database when somebody asks, and told again for five seconds: the same whichever server
answers, so take the greatest of several servers, and not their sum. Where the database does not answer,
`cyborg_reconciler_database_up` is 0 and the others are missing. A combination of labels that no host has is missing
too. What the worker has done is among them: it has no server of its own, and counts in the database, over restarts.
"""

BY_AGENTS = """
What agents told with their last check-ins, kept in memory and nowhere else. Each process of a server has all that any
of them was told since it began: it hears of a host with that host's next check-in. A server knows of the hosts that
check in with it: of several behind one address, a host may be told by each, as old as three check-ins at most, so
take the average (`avg without (instance)`) or follow `/v1/events?usage=true`. Where conductors serve agents, they
alone have it, and there is no such stream. A host that was not heard for three intervals is missing, and so is what
its drivers measure no more. `metric` is one of the names that our drivers have, with its unit; there are
`usage_devices` devices at most, shared out among the hosts, and 256 of each.
"""


def render() -> str:
    """Return the page."""
    return page(
        "Metrics",
        INTRODUCTION,
        "## Of a server",
        BY_SERVER,
        rows(COUNTED),
        "## Of the fleet",
        BY_DATABASE,
        rows(TALLIED),
        "## Of devices",
        BY_AGENTS,
        rows(HEARD),
    )


def rows(metrics: Iterable[Metric]) -> str:
    """Return the table of *metrics*."""
    cells = [(code(one.name), one.kind, ", ".join(map(code, one.labels)), one.help) for one in metrics]
    return table(["metric", "kind", "labels", "what it says"], cells)
