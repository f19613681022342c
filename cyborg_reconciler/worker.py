# SPDX-License-Identifier: Apache-2.0
"""When is which host looked at? The loop: all of them every interval and when policies change, one when it is enqueued.

Called by the commands `run` and `worker`. It remembers nothing that matters: wherever it is killed, the next one goes
on from what is declared, observed and enqueued then. All I/O goes through ports and stores.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Literal, Protocol

from cyborg_reconciler.bootstrap import Site
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.errors import AlreadyRunningError, JournalError, NextStep, ReconcilerError
from cyborg_reconciler.phases import put_right
from cyborg_reconciler.ports import OnProgress
from cyborg_reconciler.reconcile import converge
from cyborg_reconciler.stores.work import Pass, QueueItem
from cyborg_reconciler.survey import HostView, Options, Survey, pool_sizes, survey

#: How often the queue and the policies are looked at.
POLL_S: Final = 0.5
#: How often it is asked which agents have fallen silent.
MARK_SILENT_S: Final = 10.0
#: Hosts that are looked at together: between two such portions of a pass over all hosts the queue is served.
MOST_AT_ONCE: Final = 200
#: After a first failure; twice that after each further one, up to the interval.
FIRST_DELAY_S: Final = 10.0


class Audience(Protocol):
    """Who is told what the loop does."""

    def watching(self, *, quiet: bool) -> AbstractContextManager[OnProgress]:
        """Give what is to be told of a run's progress while the block runs."""

    def tell(self, seen: Survey) -> None:
        """Take where hosts stand."""

    def say(self, line: str) -> None:
        """Take what went wrong, in one line."""


@dataclass
class Loop:
    """The loop, and when what is due.

    Attributes:
        interval_s: between two looks at all hosts.
        now_s: returns the seconds on a clock that never goes back.
    """

    site: Site
    options: Options
    interval_s: float
    audience: Audience
    now_s: Callable[[], float] = time.monotonic
    _stamp: str = ""
    _pass_at_s: float = float("-inf")
    _serve_at_s: float = float("-inf")
    _mark_silent_at_s: float = float("-inf")
    _failed_passes: int = 0
    _failed_serves: int = 0
    _is_broken: bool = False
    _hosts: Mapping[str, Host] = field(default_factory=dict)
    _served: Mapping[str, HostView] = field(default_factory=dict)

    def run(self, wait: Callable[[float], object]) -> None:
        """Go on until `Options.stop` says so; *wait* is called with seconds when nothing is due, and may return early.

        Trouble that a next look may not have is said and survived.

        Raises:
            AlreadyRunningError: another process has begun to change the hosts, while the journal's server was away.
        """
        while not self.options.stop():
            self._mark_silent()
            if self.now_s() >= self._pass_at_s or self._read_stamp() != self._stamp:
                self.look_at_all()
            elif not self.serve():
                wait(POLL_S)

    def _mark_silent(self) -> None:
        """Have agents that were not heard for too long marked as silent; they are heard again by themselves."""
        if self.now_s() < self._mark_silent_at_s:
            return
        self._mark_silent_at_s = self.now_s() + MARK_SILENT_S
        try:
            self.site.mark_silent()
        except JournalError as exc:
            self.audience.say(f"{exc.line()} (agents that fall silent are not seen meanwhile)")

    def _read_stamp(self) -> str:
        """Return the stamp of what is declared; the last one where it cannot be had just now."""
        try:
            return self.site.ports.declarations.stamp()
        except JournalError:
            return self._stamp

    def look_at_all(self) -> Survey | None:
        """Look at all hosts and correct what may be; return where they stand then, or None when nobody can say."""
        self._stamp, began_at_s = self._read_stamp(), self.now_s()
        try:
            self._mend()
            self.site.forget()
            after = self._correct(self._survey_all())
        except AlreadyRunningError:
            raise
        except ReconcilerError as exc:
            self._count("all", "failed", began_at_s)
            # Also STALL: a person mends policies or inventory while the loop goes on, and nothing was changed.
            self._is_broken = True
            self._pass_at_s = self.now_s() + self._delay_s(self._failed_passes, exc)
            self._failed_passes += 1
            tried = "tried again" if exc.next_step is NextStep.RETRY else "looked at again"
            self.audience.say(f"{exc.line()} ({tried} at the next turn)")
            return None
        self._count("all", "ok", began_at_s)
        self._failed_passes = self._failed_serves = 0
        self._serve_at_s = float("-inf")
        self._pass_at_s = self.now_s() + self.interval_s
        return after

    def serve(self) -> bool:
        """Look at hosts that are due in the queue and correct what may be; return whether there were any.

        When that fails they stay in the queue, which then rests for a while.
        """
        if self.now_s() < self._serve_at_s:
            return False
        began_at_s = self.now_s()
        try:
            items = self.site.queue.take(MOST_AT_ONCE, self.site.ports.clock.now())
            if items:
                self._mend()
                self._serve(items)
                self._count("queue", "ok", began_at_s)
        except AlreadyRunningError:
            raise
        except ReconcilerError as exc:
            self._count("queue", "failed", began_at_s)
            self._is_broken = True
            self._serve_at_s = self.now_s() + self._delay_s(self._failed_serves, exc)
            self._failed_serves += 1
            self.audience.say(f"{exc.line()} (what is enqueued waits)")
            return False
        self._failed_serves = 0
        return bool(items)

    def _count(self, kind: Literal["all", "queue"], result: Literal["ok", "failed"], began_at_s: float) -> None:
        """Count a pass for the metrics; one that cannot be counted is no reason to do anything else."""
        with suppress(JournalError):
            self.site.passes.passed(Pass(kind, result, self.now_s() - began_at_s, self.site.ports.clock.now()))

    def _delay_s(self, failures: int, exc: ReconcilerError) -> float:
        """Return how long to wait after *exc*; what waits for a person is looked at every interval."""
        return self.interval_s if exc.next_step is NextStep.STALL else self._back_off_s(failures)

    def _back_off_s(self, failures: int) -> float:
        return min(FIRST_DELAY_S * 2.0 ** min(failures, 32), self.interval_s)

    def _mend(self) -> None:
        """Put right what a turn may have left that lost its journal."""
        if self._is_broken:
            put_right(self.site.ports.journal, self.site.ports.clock.now())
            self._is_broken = False

    def _survey(self, hosts: Sequence[Host]) -> Survey:
        with self.audience.watching(quiet=True) as on_progress:
            return survey(self.site.ports, self.options, on_progress, hosts)

    def _survey_all(self) -> Survey:
        """Return where all hosts stand, looked at in portions; between them the queue is served.

        Raises:
            ReconcilerError: as `survey`.
        """
        hosts = self._read_hosts()
        seen = self._survey(hosts[:MOST_AT_ONCE])
        for start in range(MOST_AT_ONCE, len(hosts), MOST_AT_ONCE):
            self._served = {}
            self.serve()
            if self.options.stop():
                break
            part = self._survey(hosts[start : start + MOST_AT_ONCE])
            if part.declared.digest != seen.declared.digest:
                self._stamp = self._read_stamp()
                return self._survey_all()  # all that was decided until now was decided under other policies
            newer = {name: view for name, view in self._served.items() if name in seen.hosts}
            seen = replace(part, hosts={**seen.hosts, **newer, **part.hosts})
        return replace(seen, pool_sizes=pool_sizes(hosts, seen.declared))

    def _read_hosts(self) -> Sequence[Host]:
        hosts = self.site.ports.inventory.hosts()
        self.site.ports.journal.record_inventory([host for host in hosts if host.connection])
        self._hosts = {host.name: host for host in hosts}
        return hosts

    def _correct(self, seen: Survey) -> Survey:
        """Carry out what *seen* plans and may be, and return where the hosts stand then."""
        self.audience.tell(seen)
        with self.audience.watching(quiet=False) as on_progress:
            after = converge(self.site.ports, seen, self.options, on_progress)
        if after is not seen:
            self.audience.tell(after)
        self.site.settle(after)
        return after

    def _serve(self, items: Sequence[QueueItem]) -> None:
        """Look at the hosts of *items*, and take from the queue what was served."""
        if any(item.host not in self._hosts for item in items):
            self._read_hosts()
        hosts = [self._hosts[item.host] for item in items if item.host in self._hosts]
        views: Mapping[str, HostView] = {}
        if hosts:
            seen = self._survey(hosts)
            sizes = pool_sizes(self._hosts.values(), seen.declared)
            views = self._correct(replace(seen, pool_sizes=sizes, limited=True)).hosts
        self._served = views
        served: list[QueueItem] = []
        for item in items:
            delay_s, why = self._put_off(item, views.get(item.host))
            if delay_s:
                later = self.site.ports.clock.now() + timedelta(seconds=delay_s)
                self.site.queue.later(item, later, why)
            else:
                served.append(item)
        self.site.queue.done(served)

    def _put_off(self, item: QueueItem, view: HostView | None) -> tuple[float, str]:
        """Return for how many seconds *item* is put off, and why; 0 when it was served."""
        if view is None and self.options.limited:
            return self.interval_s, "NotAmongOurs"
        if view is None:
            self.audience.say(f"{item.host}: {item.reason}: there is no such host; it is forgotten")
            return 0.0, ""
        delay_s = self._back_off_s(item.attempts)
        # At the interval all hosts are looked at again anyway.
        return (0.0, "") if view.subject is not None or delay_s >= self.interval_s else (delay_s, "Unobserved")
