# SPDX-License-Identifier: Apache-2.0
"""What the API is given to work with: who decides, what is kept, who may call. Put together by `wsgi`, and by tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cyborg_reconciler.conductor.accelerators import Accelerators
from cyborg_reconciler.conductor.agents import Agents
from cyborg_reconciler.conductor.allocations import Allocations
from cyborg_reconciler.conductor.discovery import Discovery
from cyborg_reconciler.conductor.drivers import Drivers
from cyborg_reconciler.conductor.plans import Plans
from cyborg_reconciler.conductor.policies import Policies
from cyborg_reconciler.conductor.presence import Presence
from cyborg_reconciler.conductor.refusals import Refusals
from cyborg_reconciler.conductor.runs import Runs
from cyborg_reconciler.documents.declared import Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.meters import Meter
from cyborg_reconciler.stores.accelerators import AcceleratorStore, HardwareStore
from cyborg_reconciler.stores.allocations import AllocationStore
from cyborg_reconciler.stores.fleet import BackendStore, EventStore, HostStore, PlanStore, RunStore
from cyborg_reconciler.stores.policies import DeclaredStore, PolicyStore
from cyborg_reconciler_api.access import Scheme
from cyborg_reconciler_api.rates import Limits
from cyborg_reconciler_api.streams import Streams


@dataclass(frozen=True, slots=True)
class Services:
    """What the operations work with: the conductor's services for what changes, the stores for what is read.

    Attributes:
        check_database: returns when it answers, and raises JournalError otherwise.
        meter: counts requests. exposition: gives what was counted, in Prometheus's format.
        open_paths: those that anybody may call, whatever their operations say.
        agents_are: where agents are served, see the setting `agents`.
    """

    authenticate: Scheme
    limits: Limits
    refusals: Refusals
    accelerators: Accelerators
    accelerator_store: AcceleratorStore
    hardware: HardwareStore
    agents: Agents
    discovery: Discovery
    hosts: HostStore
    backends: BackendStore
    policies: Policies
    policy_store: PolicyStore
    declared: DeclaredStore
    shipped_drivers: Sequence[Located[Driver]]
    plans: Plans
    plan_store: PlanStore
    runs: Runs
    run_store: RunStore
    events: EventStore
    streams: Streams
    allocations: Allocations
    allocation_store: AllocationStore
    presence: Presence
    drivers: Drivers
    check_database: Callable[[], None]
    meter: Meter
    exposition: Callable[[], bytes]
    open_paths: frozenset[str] = frozenset()
    agents_are: str = "here"
