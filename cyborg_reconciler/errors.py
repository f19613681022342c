# SPDX-License-Identifier: Apache-2.0
"""Every error of the reconciler, and what happens next after each; `cli.remote` has one more of its own.

Foreign exceptions are turned into these once, in their adapter; they are turned into words by the worker, the CLI and
the API alone. Pure; imported by everybody.

    ReconcilerError
    ├── DeclarationsInvalidError    STALL   the policy tree has problems; all of them are listed
    ├── InventoryUnreadableError    STALL
    ├── FactsUnreadableError        STALL   another version, or no facts at all
    ├── PlanUnreadableError         STALL
    ├── PlanOutdatedError           STALL   a saved plan's policies, generation or facts have changed
    ├── SettingsInvalidError        STALL
    ├── JournalError                RETRY
    │   └── JournalOutageError      RETRY   it passes, or is mended elsewhere, and whatever is asked meets it
    │       ├── JournalLockedError      RETRY
    │       ├── JournalUnavailableError RETRY   the database's server
    │       └── JournalFullError        STALL
    ├── ExecutionError              RETRY   ansible-runner itself failed
    ├── AlreadyRunningError         RETRY   another process holds this state folder or database
    ├── HostUnreadableError         RETRY   an agent cannot read the host that it runs on
    ├── ConductorError              RETRY   an agent's conductor does not answer, or says no
    ├── AgentUnreachableError       RETRY   an agent does not answer at its own port
    └── RequestError                STALL   a request to the API cannot be met as it is
        ├── RequestInvalidError     STALL   what was sent is not what is asked for; all of it is listed
        ├── UnauthenticatedError    STALL   nobody knows who asks
        ├── ForbiddenError          STALL   who asks may not
        ├── TooManyRequestsError    RETRY   who asks does so too often
        ├── NotFoundError           STALL   there is no such thing
        └── ConflictError           STALL   what is there does not allow it
            ├── OvertakenError      RETRY   somebody else changed the same thing first
            ├── UnknownFingerprintError STALL   a check-in leaves out facts that are not here
            └── StaleCheckInError   STALL   a check-in is older than what is here
"""

import enum
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


class NextStep(enum.Enum):
    """What the caller does after an error: wait for a person, or try again by itself."""

    STALL = "stall"
    RETRY = "retry"


class ReconcilerError(Exception):
    """The root of all errors: one line for people, the same fields for programs."""

    next_step: ClassVar[NextStep] = NextStep.STALL
    remedy: ClassVar[str] = ""

    def __init__(
        self, *, wanted: str = "", found: str = "", host: str = "", device: str = "", remedy: str = ""
    ) -> None:
        self.wanted, self.found, self.host, self.device = wanted, found, host, device
        self.hint = remedy or self.remedy.format(host=host, device=device, wanted=wanted, found=found)
        super().__init__(self.line())

    def line(self) -> str:
        """Return the error as one line: where, what was wanted, what was found, what to do."""
        where = " ".join(part for part in (self.host, self.device) if part)
        what = ": ".join(part for part in (self.wanted, self.found) if part)
        text = f"{where}: {what}" if where else what
        return f"{text}; {self.hint}" if self.hint else text

    def fields(self) -> dict[str, Any]:
        """Return the error for a program."""
        names = ("wanted", "found", "host", "device")
        known = {name: getattr(self, name) for name in names if getattr(self, name)}
        return {"error": type(self).__name__, "next_step": self.next_step.value, **known, "remedy": self.hint}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a document, and what would be right; *line* is 0 where there is none."""

    file: str
    line: int
    field: str
    message: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        field = f" {self.field}:" if self.field else ""
        return f"{place}:{field} {self.message}; {self.remedy}" if self.remedy else f"{place}:{field} {self.message}"


class DeclarationsInvalidError(ReconcilerError):
    """The policy tree has problems; nothing is applied from it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(wanted="a valid policy tree", found="\n".join(map(str, self.problems)))

    def line(self) -> str:
        """Return one line a problem."""
        return "\n".join(map(str, self.problems))

    def fields(self) -> dict[str, Any]:
        """Return the problems for a program."""
        count = len(self.problems)
        return {
            **super().fields(),
            "found": "1 problem" if count == 1 else f"{count} problems",
            "problems": list(map(asdict, self.problems)),
        }


class InventoryUnreadableError(ReconcilerError):
    """Ansible cannot read the inventory, or it has no host that matches."""

    remedy = "check the path, and `ansible-inventory -i … --list`"


class FactsUnreadableError(ReconcilerError):
    """A host's facts are not what this release reads."""

    remedy = "use the collection that this program was installed with"


class PlanUnreadableError(ReconcilerError):
    """A plan file is not what this release reads."""

    remedy = "make it anew with `cyborg-reconciler plan --out FILE`"


class PlanOutdatedError(ReconcilerError):
    """What a saved plan was made from has changed."""

    remedy = "make it anew with `cyborg-reconciler plan --out FILE`"


class SettingsInvalidError(ReconcilerError):
    """The configuration has a value that cannot be used."""


class JournalError(ReconcilerError):
    """The journal's database could not be used.

    Attributes:
        public: what the API tells of it: its own words may hold the database's address, and are for the log.
    """

    public: ClassVar[str] = "The journal's database could not be used"
    next_step = NextStep.RETRY
    remedy = "check the state folder and its file system"


class JournalOutageError(JournalError):
    """The journal's database cannot do its work just now, whatever it is asked for."""


class JournalLockedError(JournalOutageError):
    """Another process keeps the database, or what is to be written in it, locked."""

    public = "Another process keeps the database, or what is to be written in it, locked"
    remedy = "wait for the other process, or end it"


class JournalUnavailableError(JournalOutageError):
    """The database's server cannot be reached, has just been lost, or does not answer in time."""

    public = "The database's server cannot be reached, has just been lost, or does not answer in time"
    remedy = "see whether the database server runs and lets this user in; it is tried anew with each call"


class JournalFullError(JournalOutageError):
    """The disk under the journal is full."""

    public = "The disk under the journal is full; nothing can be kept until an operator makes room"
    next_step = NextStep.STALL
    remedy = "make room in the state folder's file system; nothing was lost"


class ExecutionError(ReconcilerError):
    """ansible-runner itself failed, before any host could answer."""

    next_step = NextStep.RETRY


class AlreadyRunningError(ReconcilerError):
    """Another process works with this state folder, or with this database."""

    next_step = NextStep.RETRY
    remedy = "wait for it, or give another folder with --state"


class HostUnreadableError(ReconcilerError):
    """Not even the list of a host's devices could be read, so nothing is reported of it."""

    next_step = NextStep.RETRY


class ConductorError(ReconcilerError):
    """The conductor cannot be reached, or refuses what an agent says.

    Attributes:
        status: of the answer, 0 where there was none.
        kind: the last part of the problem's ``type``, such as ``stale-check-in``.
        retry_after_s: how long the conductor asks to be left alone.
    """

    next_step = NextStep.RETRY

    def __init__(
        self, *, wanted: str, found: str, status: int = 0, kind: str = "", retry_after_s: float | None = None
    ) -> None:
        self.status, self.kind, self.retry_after_s = status, kind, retry_after_s
        super().__init__(wanted=wanted, found=found)


class AgentUnreachableError(ReconcilerError):
    """An agent does not answer at its own port, or not as it should."""

    next_step = NextStep.RETRY
    remedy = "see that it runs, that its port is open to the conductor, and that it has what `agents digest` prints"


class RequestError(ReconcilerError):
    """A request cannot be met as it is.

    Attributes:
        kind: what the type of its problem ends with, where programs tell it apart by that; empty: as it is called.
    """

    kind: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong in a request; *path* is a JSON path, or names a parameter or a header."""

    path: str
    message: str


class RequestInvalidError(RequestError):
    """What was sent is not what is asked for; all of it is listed."""

    remedy = "see the operation's schema in /openapi.json"

    def __init__(self, what: str, fields: Sequence[FieldError] = ()) -> None:
        self.problems = tuple(fields)
        super().__init__(wanted=what, found="not as asked for")


class UnauthenticatedError(RequestError):
    """Nobody knows who asks."""

    remedy = "send a valid token: Authorization: Bearer TOKEN"


class ForbiddenError(RequestError):
    """Who asks may not."""


class TooManyRequestsError(RequestError):
    """Who asks does so too often."""

    next_step = NextStep.RETRY
    remedy = "wait as long as Retry-After says"

    def __init__(self, found: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(found=found)


class NotFoundError(RequestError):
    """There is no such thing, or who asks may not know of it."""


class ConflictError(RequestError):
    """What is there does not allow it."""


class OvertakenError(ConflictError):
    """Somebody else changed the same thing first."""

    next_step = NextStep.RETRY
    remedy = "read it again, and decide anew"


class UnknownFingerprintError(ConflictError):
    """The facts of this fingerprint are not here."""

    kind = "unknown-fingerprint"
    remedy = "send the facts in full"


class StaleCheckInError(ConflictError):
    """It is older than what is here: another agent speaks for the host, or this one came out of order."""

    kind = "stale-check-in"
    remedy = "see that one agent runs on the host; a restart gives it a new epoch"
