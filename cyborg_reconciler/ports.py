# SPDX-License-Identifier: Apache-2.0
"""What `reconcile` asks of the world, as small Protocols; adapters fill them, `testing` has a fake of each.

No I/O in here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cyborg_reconciler.core.conditions import Condition
from cyborg_reconciler.core.modules_wanted import ModulesWanted
from cyborg_reconciler.core.state import Health, History, Host, Phase, Sync
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.parse import Parsed
from cyborg_reconciler.documents.plan import Outcome, PlanDocument


@dataclass(frozen=True, slots=True)
class Observation:
    """What a host reported.

    Attributes:
        document: the JSON that *facts* was decoded from.
        received_at: when it came in; of many hosts that are looked at together, the first may be older by far.
    """

    facts: Facts
    document: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Unobserved:
    """Why a host yielded no facts.

    Attributes:
        reason: ``Unreachable`` (no connection), ``Failed`` (the module failed, or there is no Python), ``Unreadable``
            (facts of another version), ``Missing`` (the run ended without a word of it).
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Something that happened on a host during a run.

    Attributes:
        step: ``observe``, ``apply``, ``role``, ``reboot`` or a task's name. status: ``started``, ``ok``, ``changed``,
            ``failed``, ``unreachable``.
    """

    host: str
    step: str
    status: str
    message: str = ""


OnProgress = Callable[[Progress], None]


class Declarations(Protocol):
    """Where desired state comes from."""

    def read(self) -> Declared:
        """Return all that is declared now.

        Raises:
            DeclarationsInvalidError: a document has a problem; it lists them all.
        """

    def stamp(self) -> str:
        """Return a digest that is another one whenever something may be declared otherwise; cheaper than `read`."""


class Source(Protocol):
    """What is declared beside the tree: the API's policies, say. One that cannot be read raises; it never is empty."""

    def read(self) -> Parsed:
        """Return its documents, each with the place that problems are to name, or all that is wrong with them."""

    def stamp(self) -> str:
        """Return a digest that is another one whenever `read` may return something else."""


class Inventory(Protocol):
    """Which hosts there are."""

    def hosts(self) -> Sequence[Host]:
        """Return the hosts, in the inventory's order.

        Raises:
            InventoryUnreadableError: it cannot be read, or the limit matches nothing.
        """


class Observer(Protocol):
    """Where facts come from."""

    def observe(
        self, hosts: Sequence[Host], modules: ModulesWanted, on_progress: OnProgress
    ) -> Mapping[str, Observation | Unobserved]:
        """Return an entry for every one of *hosts*. Never raises for a host: `Unobserved` carries the reason.

        *modules*: what the facts are to speak of beside the modules of the devices.

        Raises:
            ExecutionError: no host could be asked at all.
        """


class Executor(Protocol):
    """What carries plans out."""

    def apply(self, plan: PlanDocument, on_progress: OnProgress) -> Mapping[str, Outcome]:
        """Carry out the plan of each host, and return an entry for every one. Never raises for a host.

        Raises:
            ExecutionError: no host could be asked at all.
        """

    def settle(self) -> None:
        """Stop, or wait for, what an earlier process of this state folder left running."""


class Cordon(Protocol):
    """Who keeps new work off a host while it is changed."""

    def cordon(self, host: str) -> bool:
        """Keep new work off *host*; return False when somebody else already did (then it is not ours to undo)."""

    def uncordon(self, host: str) -> None:
        """Let work come to *host* again."""


class Clock(Protocol):
    """What time it is."""

    def now(self) -> datetime:
        """Return the time, in UTC."""


@dataclass(frozen=True, slots=True)
class Controller:
    """Who writes: the id of this state folder, and a token that rises with every start."""

    id: str
    fencing_token: int


@dataclass(frozen=True, slots=True)
class HostRecord:
    """What the journal says of a host.

    Attributes:
        reason, message: why it waits or failed; empty when it does neither.
        failed_in: the phase in which the last change failed; None but in the phase ``Failed``.
        conditions: one of each type; empty when none were ever recorded.
        drivers: the policies of the tree that declare drivers there, with their place, by the driver's name; None where
            nobody knows, and what was known stays.
    """

    name: str
    uuid: str
    generation: int
    sync: Sync
    health: Health
    phase: Phase
    reason: str = ""
    message: str = ""
    fingerprint: str = ""
    observed_at: datetime | None = None
    changed_at: datetime | None = None
    failed_in: Phase | None = None
    conditions: tuple[Condition, ...] = ()
    drivers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One execution.

    Attributes:
        status: ``running``; ``applied`` when every step was reported as done, which says nothing of how the hosts are
            now (their records do); ``failed`` when something was refused or failed; ``interrupted``. Of a run that was
            asked for: ``pending`` until it came out, or ``cancelled``; ``applied`` when what it is for is so.
        hosts: the status of each host's outcome; that of the run where there is no outcome.
        message: why a run that was asked for waits, or did not come out well.
        request_id: in which request it was asked for; empty where nobody asked for it.
    """

    uuid: str
    plan_uuid: str
    status: str
    started_at: datetime
    ended_at: datetime | None
    hosts: Mapping[str, str]
    message: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run that has begun on a host, and the request that it was asked for in, if it was."""

    uuid: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of the audit trail.

    Attributes:
        data: who did it (``by``), how it was (``before``) and is (``after``), where that can be said.
        run: the uuid of the run that it is of.
    """

    at: datetime
    kind: str
    host: str = ""
    message: str = ""
    data: Mapping[str, Any] | None = None
    run: str = ""


class Journal(Protocol):
    """The memory: what was seen, planned, run, and what came out. What a call has returned from is on disk.

    Every method raises JournalError (or a subclass) when the database cannot be used.
    """

    def controller(self) -> Controller:
        """Return who we are; the token is this process's, one higher than any before."""

    def histories(self, digests: Mapping[str, str]) -> Mapping[str, History]:
        """Return what is remembered of each host under its present generation.

        *digests* are those of the hosts' desired states. One that differs from the last raises the host's generation
        by one. What is remembered is kept for each digest: one that was desired before finds it again.
        """

    def retry(self, host: str, at: datetime) -> None:
        """Forget the failures and the reboots of *host* under its present generation, and have it looked at."""

    def record_observations(self, observed: Mapping[str, Observation | Unobserved]) -> None:
        """Keep the newest facts of each host, in one transaction; an unchanged fingerprint only moves the time.

        What was received earlier than what is kept changes nothing.
        """

    def facts(self, hosts: Sequence[str]) -> Mapping[str, tuple[bytes, datetime]]:
        """Return the newest facts of *hosts* and when they were received; hosts without any are left out."""

    def reported(self, since: datetime, hosts: Sequence[str] | None = None) -> Mapping[str, datetime]:
        """Return the hosts (of *hosts*) whose agents stand by the facts that are kept, and when they last did.

        That is no earlier than *since*: an agent that is heard and whose facts did not change sends none.
        """

    def record_declarations(self, declared: Declared, at: datetime) -> None:
        """Keep that this is what is declared now, and of the tree, for each state that it was in, what had changed."""

    def record_inventory(self, hosts: Sequence[Host]) -> None:
        """Keep the groups and labels of *hosts*. One that leaves the inventory is known by its last ones."""

    def record_hosts(self, records: Sequence[HostRecord]) -> None:
        """Keep where hosts stand, in one transaction. *uuid* and *conditions* may be empty: the journal's own stay."""

    def record_phases(self, hosts: Sequence[str], phase: Phase, failed_in: Phase | None = None) -> None:
        """Keep that *hosts*, which the journal knows, are in *phase* now, in one transaction; all else stays."""

    def hosts(self, names: Sequence[str] | None = None) -> Sequence[HostRecord]:
        """Return every host ever seen, by name; of those called *names*, where some are given."""

    def open_run(self, plan: PlanDocument, at: datetime) -> Mapping[str, BegunRun]:
        """Keep *plan*, begin a run of it, and return that by host; an approval of it is used up.

        A host for which a run was asked for, of a driver that the plan sets up there, has that run, and no other host
        has it. The audit trail tells of each run, as it does of each outcome and of the end.
        """

    def record_reboot(self, host: str, boot_id: str, at: datetime) -> None:
        """Note, before it is asked for, that *host* will be rebooted from *boot_id* under its present generation."""

    def record_outcome(self, run: str, host: str, outcome: Outcome, at: datetime) -> None:
        """Keep what came out for one host."""

    def record_verdicts(self, verified: Mapping[str, bool]) -> None:
        """Note whether each host was as desired when it was looked at: it raises its failures, or resets them.

        What is verified forgets its reboots too: they were not in vain.
        """

    def close_run(self, run: str, status: str, at: datetime) -> None:
        """End a run with *status*, and with it the outcomes that are still ``running``.

        One that was asked for is ``pending`` again: whether what it is for is so shows when its host is looked at.
        """

    def cancel_requested(self, run: str) -> bool:
        """Return whether somebody wants *run* to be the last of its pass."""

    def open_runs(self) -> Sequence[RunRecord]:
        """Return the runs that an earlier process left open."""

    def runs(self, host: str = "", limit: int = 50) -> Sequence[RunRecord]:
        """Return the newest runs, newest first; of one host when *host* is given."""

    def plan(self, uuid: str) -> PlanDocument | None:
        """Return the plan that was kept under *uuid*."""

    def approve(self, host: str, generation: int, digest: str, at: datetime) -> None:
        """Note that a person approved the actions with *digest* under *generation*, and have the host looked at."""

    def approved(self, host: str, generation: int, digest: str) -> bool:
        """Return whether just these actions were approved."""

    def record_event(self, event: Event) -> None:
        """Append to the audit trail."""

    def events(self, host: str = "", limit: int = 100) -> Sequence[Event]:
        """Return the newest events, newest first; of one host when *host* is given."""


def run_started(run: str, plan: PlanDocument, hosts: int, at: datetime) -> Event:
    """Return what the journal tells of a run that begins, on so many *hosts*."""
    return Event(at, "RunStarted", message=f"plan {plan.uuid}", data={"hosts": hosts}, run=run)


def run_ended(run: str, status: str, at: datetime) -> Event:
    """Return what the journal tells of a run that ends."""
    return Event(at, "RunEnded", message=status, run=run)


def apply_ended(run: str, host: str, outcome: Outcome, at: datetime) -> Event:
    """Return what the journal tells of an outcome."""
    text = ": ".join(part for part in (outcome.status, outcome.message) if part)
    return Event(at, "ApplyEnded", host, text, run=run)
