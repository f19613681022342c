# SPDX-License-Identifier: Apache-2.0
"""The world of the sentence, made of fakes: for stories, laws and the bench alike."""

from collections.abc import Sequence

from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.ports import Executor
from cyborg_reconciler.survey import Ports
from cyborg_reconciler.testing import (
    FakeExecutor,
    FakeJournal,
    FixedDeclarations,
    FixedInventory,
    RecordedObserver,
    RecordingCordon,
)


def fake_ports(
    declared: Declared, hosts: Sequence[Host], observer: RecordedObserver, executor: Executor | None = None
) -> Ports:
    """Return ports over *hosts* that report what *observer* has; time is the observer's."""
    journal = FakeJournal()
    return Ports(
        declarations=FixedDeclarations(declared),
        inventory=FixedInventory(hosts),
        observer=observer,
        executor=executor or FakeExecutor(observer),
        journal=journal,
        cordon=RecordingCordon(),
        clock=observer.clock,
        controller=journal.controller(),
    )
