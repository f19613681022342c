# SPDX-License-Identifier: Apache-2.0
"""In which phase is each host that is being changed? Written to the journal while it goes on, in few transactions.

Called by `reconcile`. All I/O goes through the journal's port.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Final

from cyborg_reconciler.core.conditions import after_failure
from cyborg_reconciler.core.state import UNDER_WAY, Phase
from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.ports import Journal, OnProgress, Progress

#: Reboots of a wave are written in so many transactions at most; those of a small wave as they begin.
MOST_WRITES: Final = 100


class WavePhases:
    """The phases of the hosts that are changed together; they are recorded as ``Cordoning`` already."""

    def __init__(self, journal: Journal, names: Sequence[str]) -> None:
        self._journal = journal
        self._at: dict[str, Phase] = dict.fromkeys(names, Phase.CORDONING)
        self._unwritten: list[str] = []

    def enter(self, phase: Phase) -> None:
        """Note that the hosts are in *phase* now, but for those that failed."""
        names = [name for name, at in self._at.items() if at is not Phase.FAILED]
        self._at.update(dict.fromkeys(names, phase))
        self._journal.record_phases(names, phase)

    def following(self, on_progress: OnProgress) -> OnProgress:
        """Return *on_progress* as it is to be called: it notes which host begins to reboot, and then tells."""

        def note(progress: Progress) -> None:
            begins = progress.step == "reboot" and progress.status == "started"
            if begins and self._at.get(progress.host) is Phase.APPLYING:
                self._at[progress.host] = Phase.REBOOTING
                self._unwritten.append(progress.host)
                if len(self._unwritten) * MOST_WRITES >= len(self._at):
                    with suppress(JournalError):  # no reason to break a run off; the next write that fails says it
                        self._journal.record_phases(self._unwritten, Phase.REBOOTING)
                        self._unwritten = []
            on_progress(progress)

        return note

    def fail(self, names: Collection[str]) -> None:
        """Note that the change failed on *names*, on each in the phase that it is in."""
        for phase in dict.fromkeys(self._at[name] for name in names):
            theirs = [name for name in names if self._at[name] is phase]
            self._journal.record_phases(theirs, Phase.FAILED, phase)
        self._at.update(dict.fromkeys(names, Phase.FAILED))


def put_right(journal: Journal, now: datetime) -> None:
    """Note of all hosts that seem to be worked on that the change was broken off: nobody is at work any more."""
    left = [record for record in journal.hosts() if record.phase in UNDER_WAY]
    if left:
        journal.record_hosts(
            [
                replace(
                    record,
                    phase=Phase.FAILED,
                    failed_in=record.phase,
                    conditions=after_failure(record.conditions, record.phase, now),
                )
                for record in left
            ]
        )
