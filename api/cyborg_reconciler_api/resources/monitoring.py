# SPDX-License-Identifier: Apache-2.0
"""Whether the server works: for those who watch over it."""

from cyborg_reconciler.documents.rest.root import Probe
from cyborg_reconciler_api.operation import Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services


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
