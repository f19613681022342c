# SPDX-License-Identifier: Apache-2.0
"""Which hosts need not be asked, since their agents have told what there is to know? Reads the journal."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from cyborg_reconciler.core.modules_wanted import ModulesWanted, speak_of
from cyborg_reconciler.core.state import UNDER_WAY, Host
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.errors import FactsUnreadableError
from cyborg_reconciler.ports import (
    Clock,
    HostRecord,
    Journal,
    Observation,
    Observer,
    OnProgress,
    Progress,
    Unobserved,
)

#: The clocks of several servers differ by less. What is dated later was told before a clock was set back: nobody knows
#: when, and whether before a change.
CLOCKS_DIFFER: Final = timedelta(minutes=1)


class StoredObserver:
    """The facts that agents stand by, and did no longer ago than *max_age*."""

    def __init__(self, journal: Journal, clock: Clock, max_age: timedelta) -> None:
        self._journal, self._clock, self._max_age = journal, clock, max_age

    def observe(
        self,
        hosts: Sequence[Host],
        modules: ModulesWanted,  # noqa: ARG002 - the port has it; what was told speaks of what it speaks of
        on_progress: OnProgress,
    ) -> Mapping[str, Observation | Unobserved]:
        """Return an entry for every one of *hosts*: its facts as of when its agent was heard, or why there are none."""
        names, now = [host.name for host in hosts], self._clock.now()
        heard = self._journal.reported(now - self._max_age, names)
        facts = self._journal.facts(list(heard))
        found: dict[str, Observation | Unobserved] = {}
        for name in names:
            if name not in facts:
                text = f"its agent has told nothing for {self._max_age.total_seconds():g} s"
                found[name] = Unobserved("Unreachable", text)
                continue
            document, received_at = facts[name]
            known = [at for at in (received_at, heard[name]) if at <= now + CLOCKS_DIFFER]
            if not known:
                found[name] = Unobserved("Unreachable", "its agent told nothing since the clock was set back")
                continue
            try:
                found[name] = Observation(decode_facts(document), document, max(known))
            except FactsUnreadableError as exc:
                found[name] = Unobserved("Unreadable", exc.line())
            else:
                on_progress(Progress(name, "observe", "ok"))
        return found


class FreshestObserver:
    """What agents have told, where that will do; otherwise the hosts are asked, those that can be.

    It does where the agent was heard after the last change of the host, and its facts speak of all modules that they
    are to speak of. A host that is being changed, or whose last change did not end well, is asked: nobody knows whether
    its agent looked before or after.
    """

    def __init__(self, stored: Observer, asked: Observer, journal: Journal) -> None:
        self._stored, self._asked, self._journal = stored, asked, journal

    def observe(
        self, hosts: Sequence[Host], modules: ModulesWanted, on_progress: OnProgress
    ) -> Mapping[str, Observation | Unobserved]:
        """Return an entry for every one of *hosts*.

        Raises:
            ExecutionError: no host could be asked at all.
        """
        records = {record.name: record for record in self._journal.hosts([host.name for host in hosts])}
        found: dict[str, Observation | Unobserved] = {}
        asked: list[Host] = []
        told = self._stored.observe(hosts, modules, on_progress)
        for host in hosts:
            said = told[host.name]
            if host.connection and not _will_do(said, records.get(host.name), modules):
                asked.append(host)
            else:
                found[host.name] = said
        return found | dict(self._asked.observe(asked, modules, on_progress) if asked else {})


def _will_do(said: Observation | Unobserved, record: HostRecord | None, modules: ModulesWanted) -> bool:
    """Return whether the host need not be asked after what its agent *said*."""
    if isinstance(said, Unobserved) or record is None or record.phase in UNDER_WAY or record.failed_in:
        return False
    is_after = record.changed_at is None or said.received_at > record.changed_at
    return is_after and speak_of(said.facts, modules)
