# SPDX-License-Identifier: Apache-2.0
"""Whether the server works, and how much it has to do: for those who watch over it."""

from typing import Final

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.rest.root import Probe
from cyborg_reconciler_api.operation import TEXT, Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

#: Source: Prometheus, "Exposition formats".
EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"

NUMBERS: Final = """\
# HELP cyborg_reconciler_hosts Hosts by where they stand.
# TYPE cyborg_reconciler_hosts gauge
cyborg_reconciler_hosts{drifted="false",health="Healthy",phase="Idle",sync="Synced"} 3.0
"""


@operation("Tell whether the server lives", access="anybody", answer=Probe, sample=Sample(answer={"status": "alive"}))
def health(services: Services, call: Call) -> Reply:
    """Tell that this process answers requests. Nothing else is looked at: restart it when this fails."""
    del services, call
    return Reply('{"status":"alive"}')


@operation(
    "Tell whether the server can work",
    access="anybody",
    answer=Probe,
    errors={503: "the database does not answer, is full, or is of another release; `detail` says which"},
    sample=Sample(answer={"status": "ready"}),
)
def readiness(services: Services, call: Call) -> Reply:
    """Tell that the database answers, so that requests can be met: send none while this fails."""
    del call
    services.check_database()
    return Reply('{"status":"ready"}')


@operation("Read the metrics", access=Role.READER, produces=TEXT, sample=Sample(answer=NUMBERS))
def metrics(services: Services, call: Call) -> Reply:
    """Read the numbers of this server and of the fleet, for Prometheus.

    It takes the role reader, unless the setting `metrics_access` lets anybody read them. What is read from the database
    is some seconds old at most; where it does not answer, `cyborg_reconciler_database_up` is 0.
    """
    del call
    return Reply(services.exposition(), content_type=EXPOSITION)
