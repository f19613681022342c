# SPDX-License-Identifier: Apache-2.0
"""What the API is given to work with: who decides, what is kept, who may call. Put together by `wsgi`, and by tests."""

from collections.abc import Callable
from dataclasses import dataclass

from cyborg_reconciler.conductor.accelerators import Accelerators
from cyborg_reconciler.meters import Meter
from cyborg_reconciler.stores import AcceleratorStore
from cyborg_reconciler_api.access import Scheme


@dataclass(frozen=True, slots=True)
class Services:
    """What the operations work with: the conductor's services for what changes, the stores for what is read.

    Attributes:
        check_database: returns when it answers, and raises JournalError otherwise.
        meter: counts requests. exposition: gives what was counted, in Prometheus's format.
        open_paths: those that anybody may call, whatever their operations say.
    """

    authenticate: Scheme
    accelerators: Accelerators
    accelerator_store: AcceleratorStore
    check_database: Callable[[], None]
    meter: Meter
    exposition: Callable[[], bytes]
    open_paths: frozenset[str] = frozenset()
