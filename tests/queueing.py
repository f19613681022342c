# SPDX-License-Identifier: Apache-2.0
"""Has hosts looked at for the tests, as whoever changes something about them does in his transaction."""

from collections.abc import Collection
from datetime import datetime

from cyborg_reconciler.adapters.database import queue_rows
from cyborg_reconciler.adapters.database.engine import writing
from cyborg_reconciler.adapters.database.work import DatabaseWork
from cyborg_reconciler.stores.work import Queue
from cyborg_reconciler.testing import FakeWork


def enqueue(queue: Queue, hosts: Collection[str], reason: str, at: datetime) -> None:
    """Have *hosts* looked at, and at once."""
    match queue:
        case FakeWork():
            queue.enqueue(hosts, reason, at)
        case DatabaseWork():
            with writing(queue._engine) as connection:
                queue_rows.enqueue(connection, hosts, reason, at)
        case _:
            raise AssertionError(type(queue))
