# SPDX-License-Identifier: Apache-2.0
"""The stores of what the API shows and keeps besides accelerators and agents: all of them over one database.

Opened by `bootstrap`.
"""

from sqlalchemy import Engine

from cyborg_reconciler.adapters.database.allocation_store import DatabaseAllocations
from cyborg_reconciler.adapters.database.backend_store import DatabaseBackends
from cyborg_reconciler.adapters.database.event_store import DatabaseEvents
from cyborg_reconciler.adapters.database.host_store import DatabaseHosts
from cyborg_reconciler.adapters.database.policy_store import DatabaseDeclared, DatabasePolicies
from cyborg_reconciler.adapters.database.retention import DatabaseRetention
from cyborg_reconciler.adapters.database.run_store import DatabasePlans, DatabaseRuns
from cyborg_reconciler.adapters.database.service_store import DatabaseServices


class Fleet:
    """One store a noun."""

    def __init__(self, engine: Engine) -> None:
        self.hosts = DatabaseHosts(engine)
        self.backends = DatabaseBackends(engine)
        self.runs = DatabaseRuns(engine)
        self.plans = DatabasePlans(engine)
        self.events = DatabaseEvents(engine)
        self.policies = DatabasePolicies(engine)
        self.declared = DatabaseDeclared(engine)
        self.allocations = DatabaseAllocations(engine)
        self.retention = DatabaseRetention(engine)
        self.services = DatabaseServices(engine)
