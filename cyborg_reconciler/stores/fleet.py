# SPDX-License-Identifier: Apache-2.0
"""What the API shows of hosts, backends, plans, runs and events, and what it asks of the database for that.

No I/O in here; the database's adapter fills the Protocols. Every method raises JournalError (or a subclass) when the
database cannot be used. What is shown is JSON, as the API gives it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from cyborg_reconciler.core.state import History, Host
from cyborg_reconciler.documents.plan import HostPlan, PlanDocument, step_ids
from cyborg_reconciler.documents.rest.fleet import ServiceType
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.pages import Page, PageQuery

#: Where the API has plans.
PLANS: Final = "/v1/plans"


class HostStore(Protocol):
    """The hosts, by name."""

    def page(self, wanted: PageQuery) -> Page:
        """Return a page of hosts."""

    def document(self, name: str) -> str | None:
        """Return a host; None when there is no such one."""


class BackendStore(Protocol):
    """The backends (a driver on a host), by host and driver."""

    def page(self, wanted: PageQuery) -> Page:
        """Return a page of backends; one that has no accelerator any more is not among them.

        Raises:
            RequestInvalidError: the marker is that of no backend.
        """

    def document(self, uuid: str) -> str | None:
        """Return a backend."""

    def services(self, uuid: str) -> Sequence[str] | None:
        """Return what a backend offers, a kind of acceleration each; None when there is no such backend."""


class EventStore(Protocol):
    """The audit trail, by number."""

    def page(self, wanted: PageQuery) -> Page:
        """Return a page of events; the marker is a number."""

    def newest(self) -> int:
        """Return the number of the newest event; 0 when there is none."""

    def forgotten(self) -> int:
        """Return up to which number events are forgotten, but for those of runs that have not ended; 0: none are."""


class RunStore(Protocol):
    """The runs, in their order."""

    def page(self, wanted: PageQuery) -> Page:
        """Return a page of runs; each says how many of its hosts came out how.

        Raises:
            RequestInvalidError: the marker is that of no run.
        """

    def document(self, uuid: str) -> str | None:
        """Return a run, with what came out for each of its hosts."""

    def cancel(self, uuid: str, by: str, event: Event) -> bool:
        """Note that somebody wants the run to end before its next wave; return False where it has ended.

        What was noted before stays as it was, and is not told again.
        """


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan that the API was asked for.

    Attributes:
        document: what the API gives of it. allow_reboot: reboots were planned whatever the pools say.
    """

    plan: PlanDocument
    document: str
    allow_reboot: bool = False


class PlanStore(Protocol):
    """The plans, and what they are made from."""

    def inventory(self, after: str, limit: int) -> Sequence[Host]:
        """Return hosts that were in the inventory, by name, of those after *after*."""

    def hosts(self, names: Sequence[str]) -> Mapping[str, Host]:
        """Return those of the hosts called *names* that were in the inventory."""

    def facts(self, names: Sequence[str]) -> Mapping[str, tuple[bytes, datetime]]:
        """Return the newest facts of hosts, and when they were received."""

    def foreseen(self, digests: Mapping[str, str]) -> Mapping[str, History]:
        """Return what will be remembered of each host once *digests* are those of its desired state. Writes nothing."""

    def approved(self, host: str, generation: int, digest: str) -> bool:
        """Return whether just these actions were approved."""

    def keep(self, proposal: Proposal, event: Event) -> None:
        """Keep a new plan."""

    def document(self, uuid: str) -> str | None:
        """Return a plan: what the API was asked for, or what a run carried out."""

    def proposal(self, uuid: str) -> Proposal | None:
        """Return the plan that the API was asked for; None when there is none, or a run made it."""

    def approve(self, proposal: Proposal, at: datetime, event: Event) -> None:
        """Note that a person approved what is planned for each host, and have the hosts looked at; all or nothing.

        The proposal's document is the new one.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service of the control plane, as it says itself that it is up.

    Attributes:
        host: the machine that it runs on. name: what else it is known by: where it listens, or its state folder.
        message: what it is at, for people.
        due_at: from when on it counts as down, unless it has said again that it is up.
    """

    type: ServiceType
    host: str
    name: str
    version: str
    message: str = ""
    started_at: datetime
    last_seen_at: datetime
    due_at: datetime


class ServiceStore(Protocol):
    """The services: those of the control plane, and agents with their drivers; by host, type and name."""

    def report(self, one: Service) -> None:
        """Keep that a service of the control plane is up."""

    def forget(self, before: datetime) -> None:
        """Forget the services of the control plane that have been down since *before* then."""

    def page(self, wanted: PageQuery, at: datetime, heard_since: datetime) -> Page:
        """Return a page of services, as they are *at* that time; agents are up that were heard since.

        Raises:
            RequestInvalidError: the marker is that of no service.
        """


def shown_plan(plan: PlanDocument, made_at: datetime) -> dict[str, Any]:
    """Return what the API gives of a plan that a run made for itself: what was done, and not why."""
    path = f"{PLANS}/{plan.uuid}"
    return {
        "uuid": plan.uuid,
        "created_at": made_at,
        "created_by": None,
        "allow_reboot": None,
        "policies_digest": plan.policies_digest,
        "approved_at": None,
        "approved_by": None,
        "hosts": [{"host": host, **shown_steps(of_host)} for host, of_host in plan.hosts.items()],
        "links": [{"rel": "self", "href": path}],
    }


def shown_steps(plan: HostPlan) -> dict[str, Any]:
    """Return what the API gives of what is to be done on a host."""
    return {
        "generation": plan.generation,
        "digest": plan.digest,
        "fingerprint": plan.fingerprint,
        "steps": step_ids(plan),
    }
