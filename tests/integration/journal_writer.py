# SPDX-License-Identifier: Apache-2.0
"""A process that fills a journal as fast as it can and says on stdout what has been acknowledged; to be killed.

Run as `python journal_writer.py STATE_FOLDER ROUND [DATABASE]`; one line for each acknowledgement, written at once.
"""

import os
import sys
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.facts import Drivers, Facts, KernelFacts
from cyborg_reconciler.documents.plan import HostPlan, Outcome, PlanDocument, StepOutcome
from cyborg_reconciler.ports import Event
from cyborg_reconciler.testing import RecordedObserver, ignore_progress


def acknowledge(*words: str) -> None:
    """Say what is on disk, in one write."""
    os.write(1, (" ".join(words) + "\n").encode())


def main(folder: Path, name: str, database: str = "") -> None:
    """Write until killed."""
    now = datetime.now(UTC)
    with open_journal(folder, database=database) as journal:
        for number in count():
            host, mark = f"compute-{number % 7}", f"{name}-{number}"
            kernel = KernelFacts(release="6.1", architecture="x86_64", boot_id=mark)
            facts = Facts(
                facts_version=1,
                hostname=host,
                devices=[],
                drivers=Drivers(modules=[]),
                kernel=kernel,
                fingerprint=mark,
            )
            observed = RecordedObserver({host: facts}).observe([Host(host)], (), ignore_progress)
            journal.record_observations(observed)
            acknowledge("facts", host, mark)
            plan = PlanDocument(
                plan_version=1,
                uuid=mark,
                created_at="",
                controller_id="c",
                fencing_token=1,
                hosts={host: HostPlan(generation=1, digest="d", fingerprint=mark, segments=[])},
            )
            run = journal.open_run(plan, now)[host].uuid
            acknowledge("run", run, mark)
            outcome = Outcome(status="applied", steps=[StepOutcome(id=mark, status="changed")])
            journal.record_outcome(run, host, outcome, now)
            acknowledge("outcome", run, host)
            journal.record_event(Event(now, "applied", host, mark))
            acknowledge("event", mark)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
