# SPDX-License-Identifier: Apache-2.0
"""The values that everything else is made of: a host's state, its differences, what removes them, what waits.

One type, `HostState`, serves for desired and for observed. Pure.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cyborg_reconciler.documents.base import Mode
from cyborg_reconciler.documents.plan import RoleSegment, Step

#: The first element of the path of a field that concerns the whole host.
HOST: Final = "host"


class Absent(enum.Enum):
    """The thing is not (to be) there."""

    ABSENT = "absent"

    def __str__(self) -> str:
        return "(none)"


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class Unknown:
    """It could not be observed, and why. It never yields an action."""

    reason: str

    def __str__(self) -> str:
        return f"unknown ({self.reason})"


Value = str | int | bool | tuple[str, ...] | Absent
Observed = Value | Unknown


def words_of(value: Observed) -> str:
    """Return a value as it stands in a sentence."""
    return ", ".join(value) if isinstance(value, tuple) else str(value)


#: Where a field is: target (a PCI address, or ``host``), feature, then the feature's own path.
FieldPath = tuple[str, ...]

#: A host's state. Fields that it leaves open are not in it.
HostState = Mapping[FieldPath, Observed]


class Disruption(enum.IntEnum):
    """What an action costs the host's users, from least to most."""

    NONE = 0
    DEVICE_RESET = 1
    MODULE_RELOAD = 2
    DRAIN = 3
    REBOOT = 4
    POWER_CYCLE = 5

    def __str__(self) -> str:
        return self.name.lower()


class Reason(enum.StrEnum):
    """Why a host, or one of its actions, waits."""

    WAITING_FOR_SLOT = "WaitingForSlot"
    WINDOW_CLOSED = "WindowClosed"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    PENDING_APPROVAL = "PendingApproval"
    DEVICE_IN_USE = "DeviceInUse"
    MODULE_IN_USE = "ModuleInUse"
    PROTECTED_DEVICE = "ProtectedDevice"
    SECURE_BOOT_UNSIGNED = "SecureBootUnsigned"
    KERNEL_UNSUPPORTED = "KernelUnsupported"
    KERNEL_ARG_NOT_EFFECTIVE = "KernelArgNotEffective"
    REBOOT_LOOP_DETECTED = "RebootLoopDetected"
    REBOOT_NOT_ALLOWED = "RebootNotAllowed"
    FACTS_STALE = "FactsStale"
    UNREACHABLE = "Unreachable"
    MANUAL_ACTION_REQUIRED = "ManualActionRequired"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    CONFLICTED = "Conflicted"
    UNKNOWN = "Unknown"
    UNSUPPORTED = "Unsupported"
    SUSPENDED = "Suspended"
    MODE_WARN = "ModeWarn"
    NO_CONNECTION = "NoConnection"


@dataclass(frozen=True, slots=True)
class Origin:
    """The policy that declared a field, where it says so, and what may be done about a difference.

    An empty *policy* means that none declares the field any more: it goes back to what it was.
    """

    policy: str
    file: str = ""
    line: int = 0
    mode: Mode = "enforce"
    suspended: bool = False

    def __str__(self) -> str:
        if not self.policy:
            return "no longer declared"
        return f"{self.policy}  {self._where}" if self.file else self.policy

    @property
    def place(self) -> str:
        """The policy and where it says so, inside of a sentence."""
        return f"{self.policy} ({self._where})" if self.file else self.policy

    @property
    def _where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


#: The origin of a field that goes back to what it was before.
NO_LONGER_DECLARED: Final = Origin("")


@dataclass(frozen=True, slots=True)
class Change:
    """One field of one device (or of the host) that is not as desired.

    Attributes:
        path: where, e.g. ``("0000:6b:00.0", "sriov", "num_vfs")``.
        desired, observed: canonical values; ABSENT where the thing is not (to be) there. Never Unknown: see `diff`.
        declared_by: the policy that won this field.
    """

    path: FieldPath
    desired: Value
    observed: Value
    declared_by: Origin

    @property
    def target(self) -> str:
        """The device's address, or ``host``."""
        return self.path[0]

    @property
    def feature(self) -> str:
        """The feature that the field belongs to."""
        return self.path[1]

    @property
    def field(self) -> str:
        """The field's name inside its feature, dotted."""
        return ".".join(self.path[2:])


@dataclass(frozen=True, slots=True)
class Action:
    """One step that removes one or more differences of one feature on one target.

    Attributes:
        call: the module call or the role that does it; None for a reboot.
        drift: the host was as desired before under this generation.
    """

    target: str
    feature: str
    changes: tuple[Change, ...]
    disruption: Disruption
    reason: str
    call: Step | RoleSegment | None
    drift: bool = False

    @property
    def id(self) -> str:
        """Unique in a host's plan."""
        return self.call.id if self.call else f"{self.feature} {self.target}"


@dataclass(frozen=True, slots=True)
class Wait:
    """Why something of a host is not being done.

    Attributes:
        target: a device's address, or ``host``.
        action: what waits, with its changes; None when the whole host waits.
    """

    reason: Reason
    message: str
    target: str = HOST
    action: Action | None = None

    @property
    def text(self) -> str:
        """The message, with the device that it is about."""
        return self.message if self.target == HOST else f"{self.target}: {self.message}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done on one host, in order, and what waits; with what it was computed from.

    Attributes:
        digest: of the actions. fingerprint: of the facts. generation: of the desired state.
        blind_spots: desired fields that could not be observed.
    """

    host: str
    generation: int
    fingerprint: str
    actions: tuple[Action, ...] = ()
    waits: tuple[Wait, ...] = ()
    blind_spots: tuple[tuple[FieldPath, Unknown], ...] = ()
    digest: str = ""

    @property
    def reboots(self) -> bool:
        """Whether the plan reboots the host."""
        return any(action.disruption is Disruption.REBOOT for action in self.actions)


@dataclass(frozen=True, slots=True)
class Host:
    """A compute node of the inventory.

    Attributes:
        labels: from the inventory variable ``cyborg_labels``. Never from the host itself.
        root: the tree that its modules work on; ``/`` but for simulated hosts.
        connection: it can be changed. False for a host that only its agent knows: that is observed, and no more.
        agent_endpoint: where its agent can be called, from the inventory variable ``cyborg_agent_endpoint``; empty: it
            is called nowhere. Never from the agent itself.
    """

    name: str
    groups: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    root: str = "/"
    connection: bool = True
    agent_endpoint: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """What the journal remembers of a host under its present generation.

    Attributes:
        boots: the boot ids that a reboot of ours was asked from.
        was_synced: it has been as desired under this generation.
        failures: attempts in a row that did not end verified.
    """

    generation: int = 0
    boots: tuple[str, ...] = ()
    was_synced: bool = False
    failures: int = 0


class Sync(enum.StrEnum):
    """Whether a host is as declared."""

    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class Health(enum.StrEnum):
    """How a host is doing."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"
    MISSING = "Missing"
    UNKNOWN = "Unknown"


#: From the best to the worst.
HEALTHS: Final = (
    *(Health.HEALTHY, Health.PROGRESSING, Health.SUSPENDED, Health.UNKNOWN, Health.MISSING, Health.DEGRADED),
)


class Phase(enum.StrEnum):
    """Where in the sentence a host is."""

    IDLE = "Idle"
    PLANNED = "Planned"
    PENDING_APPROVAL = "PendingApproval"
    WAITING_FOR_SLOT = "WaitingForSlot"
    CORDONING = "Cordoning"
    DRAINING = "Draining"
    APPLYING = "Applying"
    REBOOTING = "Rebooting"
    VALIDATING = "Validating"
    UNCORDONING = "Uncordoning"
    FAILED = "Failed"


#: What each phase means; the reference page is made from it.
PHASES: Final[Mapping[Phase, str]] = {
    Phase.IDLE: "nothing is to be done, or all that is waits for what the reason names",
    Phase.PLANNED: "something is to be done, and may be: at its turn in this pass, or in the next one",
    Phase.PENDING_APPROVAL: "a person is to agree to the plan first",
    Phase.WAITING_FOR_SLOT: "an earlier wave of its pool went wrong, or was the last of its pass: begun in the next",
    Phase.CORDONING: "new work is being kept off the host; this release has no scheduler to tell, so it takes no time",
    Phase.DRAINING: "work is being moved away. Nothing drains yet: no host is ever in this phase",
    Phase.APPLYING: "its plan is being carried out",
    Phase.REBOOTING: "its reboot has begun, and it is waited for",
    Phase.VALIDATING: "its plan was carried out, and it is being observed again",
    Phase.UNCORDONING: "new work is let come again, where it was kept off by us",
    Phase.FAILED: "the last change failed, or was broken off, in the phase that is told with it: `Failed (Applying)`. "
    "It is tried again as policies and pools let it; the phase stays until the host is seen as declared",
}

#: Phases in which somebody is at work on a host.
UNDER_WAY: Final = frozenset(
    {Phase.CORDONING, Phase.DRAINING, Phase.APPLYING, Phase.REBOOTING, Phase.VALIDATING, Phase.UNCORDONING}
)
