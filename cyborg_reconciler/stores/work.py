# SPDX-License-Identifier: Apache-2.0
"""What is to be done next, and by whom: hosts to be looked at, leases, and drivers that are declared over the API.

Asked by the worker and the conductor; the database's adapter fills the Protocols. No I/O in here.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

from cyborg_reconciler.core.features import driver
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.plan import PlanDocument, step_ids
from cyborg_reconciler.ports import Event


@dataclass(frozen=True, slots=True)
class QueueItem:
    """A host that is to be looked at out of turn. What is to be done there is decided afresh, from all that there is.

    Attributes:
        ticket: rises each time the host is enqueued; who has looked at it can tell whether it was enqueued again since.
        reason: for people; nothing is decided by it.
        attempts: how often it was put off since it was last served.
    """

    host: str
    ticket: int
    reason: str = ""
    attempts: int = 0


class Queue(Protocol):
    """The hosts that are to be looked at out of turn, once each. Every method raises JournalError, as a journal's do.

    Who changes something enqueues the host in the transaction in which he does: nothing is lost between the two. One
    that was put off is then due at once.
    """

    def take(self, limit: int, at: datetime) -> Sequence[QueueItem]:
        """Return up to *limit* hosts that are due, those first that wait longest. They stay until they are done."""

    def done(self, items: Sequence[QueueItem]) -> None:
        """Remove *items*, but for hosts that were enqueued again since they were taken."""

    def later(self, item: QueueItem, not_before: datetime, why: str) -> None:
        """Put *item* off, unless it was enqueued again since."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who does what only one process may do.

    Attributes:
        holder: empty once it was given back. token: rises each time it is taken.
        expires_at: by the holder's clock, and for people.
    """

    name: str
    holder: str
    token: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass of the worker that has ended.

    Attributes:
        kind: over ``all`` hosts, or over those of the ``queue``. seconds: how long it took.
    """

    kind: Literal["all", "queue"]
    result: Literal["ok", "failed"]
    seconds: float
    ended_at: datetime


class Passes(Protocol):
    """What the worker has done, for the metrics. Every method raises JournalError, as a journal's do."""

    def passed(self, one: Pass) -> None:
        """Count a pass."""


class Leases(Protocol):
    """The leases. Every method raises JournalError, as a journal's do."""

    def lease(self, name: str) -> Lease | None:
        """Return the lease as it is; None when nobody ever took it."""

    def take_lease(self, wanted: Lease, seen: Lease | None) -> Lease | None:
        """Take a lease that still is as it was *seen*; return it with its new token, or None: another was faster."""

    def renew(self, lease: Lease) -> bool:
        """Keep that *lease* ends later, as it says; return False when somebody else has it."""

    def give_back(self, lease: Lease) -> None:
        """Let others have *lease* at once, if it is still ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDriver:
    """What is declared over the API of a driver on a host.

    Attributes:
        version: which one is to be there; None: any.
        run: the run that was asked for with it. is_open: that has not come out yet.
    """

    host: str
    driver: str
    state: Literal["present", "absent"]
    version: str | None = None
    run: str = ""
    is_open: bool = True
    declared_by: str = ""
    declared_at: datetime

    def told(self) -> Mapping[str, str | None]:
        """Return what the audit trail keeps of it."""
        return {"state": self.state, "version": self.version}


def with_before(event: Event, before: HostDriver | None) -> Event:
    """Return *event*, which tells what is declared now, with what was declared *before*; None: nothing was."""
    was = {"state": None, "version": None} if before is None else before.told()
    return replace(event, data={**(event.data or {}), "before": was})


def carried_out(asked: Iterable[HostDriver], plan: PlanDocument) -> Mapping[str, str]:
    """Return the runs that *plan* carries out of those that were *asked* for, by host: of each the first."""
    found: dict[str, str] = {}
    for one in sorted(asked, key=lambda one: one.declared_at):
        on_host = plan.hosts.get(one.host)
        if on_host is not None and f"{driver.NAME} {one.driver}" in step_ids(on_host):
            found.setdefault(one.host, one.run)
    return found


@dataclass(frozen=True, slots=True)
class RunNews:
    """What has become of a run that was asked for.

    Attributes:
        status: ``pending``: it waits, and *message* says for what; ``applied`` or ``failed``: it came out.
        by: the run in which it was carried out: itself, or another, whose plan and outcome it gets; empty where nothing
            was to be done.
    """

    status: Literal["pending", "applied", "failed"]
    message: str = ""
    by: str = ""


class HostDriverStore(Protocol):
    """What is declared over the API of drivers on hosts. Every method raises JournalError, as a journal's do."""

    def declare(self, one: HostDriver, event: Event) -> HostDriver:
        """Keep *one*, with a pending run of its host, and have the host looked at, in one transaction; return it so.

        *event* is told with what was declared before. What is declared just so, and waits for its run, is returned as
        it is. A run that waits for something else of the same driver is closed as ``cancelled``.
        """

    def declared(self) -> Sequence[HostDriver]:
        """Return all that is declared, by host and driver."""

    def awaited(self, hosts: Collection[str]) -> Sequence[HostDriver]:
        """Return what is declared for *hosts* and has a run that did not come out yet."""

    def tell(self, one: HostDriver, news: RunNews, at: datetime) -> None:
        """Keep what has become of the run of *one*, unless that came out, or another was asked for since."""

    def catalogue(self) -> Mapping[str, DriverDocSpec]:
        """Return the drivers that there are, by name, as of the last look at hosts; none before the first."""
