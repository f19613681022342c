# SPDX-License-Identifier: Apache-2.0
"""What is true of a host now, as a list of conditions in the manner of Kubernetes; and what each of them means.

Called by `survey` and `reconcile` whenever they record where a host stands. Pure.
"""

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NamedTuple

from cyborg_reconciler.core.features import BY_NAME, kernel_args, kernel_modules
from cyborg_reconciler.core.resolve import Desired
from cyborg_reconciler.core.state import (
    ABSENT,
    HOST,
    UNDER_WAY,
    Disruption,
    FieldPath,
    Phase,
    Plan,
    Reason,
    Sync,
    Unknown,
    Value,
    Wait,
    words_of,
)
from cyborg_reconciler.core.subject import Subject
from cyborg_reconciler.core.verdict import PATIENT, WISHED, Verdict
from cyborg_reconciler.documents import facts as reported


class ConditionType(enum.StrEnum):
    """What a condition speaks of."""

    READY = "Ready"
    DRIFTED = "Drifted"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    PAUSED = "Paused"
    REBOOT_REQUIRED = "RebootRequired"
    AGENT_SILENT = "AgentSilent"


class Status(enum.StrEnum):
    """Whether what a condition says is so."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is true of a host, is not, or cannot be told.

    Attributes:
        reason: why *status* is what it is, as one word in CamelCase for programs; never empty.
        message: the same for people; may be empty.
        last_transition_time: when *status* became what it is.
        observed_generation: which generation of the desired state it was judged by.
    """

    type: ConditionType
    status: Status
    reason: str
    message: str
    last_transition_time: datetime
    observed_generation: int


class Meaning(NamedTuple):
    """What each status of a condition says."""

    true: str
    false: str
    unknown: str


#: The exact meaning of every type; the reference page is made from it.
MEANINGS: Final[Mapping[ConditionType, Meaning]] = {
    ConditionType.READY: Meaning(
        "everything declared is so, seen in the facts of the last look",
        "something declared is not so; the reason is that of what waits, or `OutOfSync` where nothing does",
        "the host could not be observed, or something declared could not be read",
    ),
    ConditionType.DRIFTED: Meaning(
        "it was as declared under this generation, and is no longer: somebody else changed the host",
        "it is as declared, or never was under this generation (`NotYetSynced`)",
        "as for Ready, or the host was not compared (`Conflicted`)",
    ),
    ConditionType.PROGRESSING: Meaning(
        "it is being changed, or will be without anybody's doing (`Planned`, `WaitingForSlot`)",
        "nothing goes on: there is nothing to do, or it waits for what the reason names, or the last change failed",
        "the host could not be observed",
    ),
    ConditionType.DEGRADED: Meaning(
        "the last change failed, or something declared cannot be brought about until a person, or the host's users, "
        "do something",
        "nothing stands in the way of what is declared but time, approval, or a policy's own wish",
        "as for Ready, where no trouble is known",
    ),
    ConditionType.PAUSED: Meaning(
        "a policy that declares something for the host is suspended, a device is in maintenance, or a difference is "
        "left since its policy is in another mode than `enforce`",
        "no policy holds anything back",
        "the host could not be observed: which policies select its devices is not known",
    ),
    ConditionType.REBOOT_REQUIRED: Meaning(
        "something declared is configured (a kernel argument, a module's option or blacklisting) and takes effect with "
        "a reboot that has not been; or the initial RAM disk is still to be built from what is configured",
        "what is configured and declared is what runs; a change that is merely planned requires nothing yet",
        "the host could not be observed, or what is configured could not be compared with what runs",
    ),
    ConditionType.AGENT_SILENT: Meaning(
        "the host's agent has reported once, and was not heard for three intervals since",
        "its agent is heard",
        "never: where no agent that may speak for the host has reported, there is no such condition",
    ),
}

#: Waits that say that something could not be read.
_BLIND: Final = frozenset({Reason.UNKNOWN, Reason.FACTS_STALE, Reason.UNREACHABLE})

#: The reason of what is so since a change failed.
CHANGE_FAILED: Final = "ChangeFailed"

#: Differences that a message names; others are counted.
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """What conditions are derived from.

    Attributes:
        wait: why the host as a whole is not further; the reason of the journal's record.
        was_synced: it has been as desired under this generation.
        failed_in: the phase in which the last change failed, if it did.
        desired, subject: None where the host was not observed.
    """

    plan: Plan
    verdict: Verdict
    phase: Phase
    wait: Wait | None = None
    was_synced: bool = False
    failed_in: Phase | None = None
    desired: Desired | None = None
    subject: Subject | None = None


#: Status, reason, message.
Judgement = tuple[Status, str, str]


def conditions_of(standing: Standing, previous: Iterable[Condition], now: datetime) -> tuple[Condition, ...]:
    """Return the conditions of a host, in the order of their types: one of each, but for what `of_agent` tells.

    A status that is as in *previous* keeps its time; a host of which no generation is known, since it was not observed,
    keeps the one that it was judged by last.
    """
    before = {condition.type: condition for condition in previous}
    found = []
    for type_, (status, reason, message) in _judged(standing):
        old = before.get(type_)
        generation = standing.plan.generation or (old.observed_generation if old else 0)
        since = old.last_transition_time if old and old.status is status else now
        new = Condition(type_, status, str(reason), message, since, generation)
        found.append(old if old == new else new)  # one value for what stays: it is told from others at a glance
    return tuple(found)


def of_agent(since: datetime, generation: int, silent_after: datetime | None) -> Condition:
    """Return whether a host's agent, which has reported once, is silent; and when that became so.

    *silent_after*: when it was heard last, None where it is not silent.
    """
    if silent_after is None:
        return Condition(ConditionType.AGENT_SILENT, Status.FALSE, "Heard", "", since, generation)
    words = f"its agent was last heard at {silent_after.isoformat()}"
    return Condition(ConditionType.AGENT_SILENT, Status.TRUE, "NotHeard", words, since, generation)


def after_failure(conditions: Iterable[Condition], phase: Phase, now: datetime) -> tuple[Condition, ...]:
    """Return *conditions* as they are once a change was broken off in *phase*, and the host not looked at since."""
    failed = {ConditionType.PROGRESSING: Status.FALSE, ConditionType.DEGRADED: Status.TRUE}
    return tuple(
        replace(
            condition,
            status=failed[condition.type],
            reason=CHANGE_FAILED,
            message=_failure(phase),
            last_transition_time=condition.last_transition_time if condition.status is failed[condition.type] else now,
        )
        if condition.type in failed
        else condition
        for condition in conditions
    )


def _judged(standing: Standing) -> Iterator[tuple[ConditionType, Judgement]]:
    unseen = _unseen(standing)
    yield ConditionType.READY, _ready(standing)
    yield ConditionType.DRIFTED, unseen or _drifted(standing)
    yield ConditionType.PROGRESSING, _progressing(standing, unseen)
    yield ConditionType.DEGRADED, _degraded(standing, unseen)
    yield ConditionType.PAUSED, unseen or _paused(standing)
    yield ConditionType.REBOOT_REQUIRED, unseen or _reboot_required(standing)


def _unseen(standing: Standing) -> Judgement | None:
    """Return why nothing can be said of the host; None when it was observed."""
    if standing.subject is not None and standing.desired is not None:
        return None
    return (Status.UNKNOWN, *_words(standing.wait)) if standing.wait else (Status.UNKNOWN, Reason.UNKNOWN, "")


def _words(wait: Wait) -> tuple[str, str]:
    return wait.reason, wait.text


def _ready(standing: Standing) -> Judgement:
    if standing.verdict.verified:
        return Status.TRUE, "Synced", "everything declared is so"
    if standing.verdict.sync is Sync.UNKNOWN:
        blind = next((wait for wait in standing.plan.waits if wait.reason in _BLIND), standing.wait)
        return (Status.UNKNOWN, *_words(blind)) if blind else (Status.UNKNOWN, Reason.UNKNOWN, "")
    if standing.wait is not None:
        return (Status.FALSE, *_words(standing.wait))
    return Status.FALSE, "OutOfSync", _differences(standing.plan)


def _differences(plan: Plan, *, drift: bool = False) -> str:
    """Return which fields are not as declared, the first of them by name; with *drift*, those that were."""
    waiting = (wait.action for wait in plan.waits if wait.action is not None)
    actions = [action for action in (*plan.actions, *waiting) if action.drift or not drift]
    changes = list(dict.fromkeys(change for action in actions for change in action.changes))
    named = [
        f"{'' if c.target == HOST else f'{c.target} '}{c.feature}.{c.field} is {words_of(c.observed)}"
        for c in changes[:_NAMED]
    ]
    more = len(changes) - len(named)
    return "; ".join([*named, f"and {more} more"] if more else named)


def _drifted(standing: Standing) -> Judgement:
    if standing.verdict.verified:
        return Status.FALSE, "Synced", ""
    known = _differences(standing.plan, drift=True)
    if known:
        return Status.TRUE, "ChangedSinceSynced", known
    reasons = {wait.reason for wait in standing.plan.waits}
    if standing.verdict.sync is Sync.UNKNOWN or Reason.CONFLICTED in reasons:
        return (Status.UNKNOWN, *_ready(standing)[1:])
    if standing.was_synced and Reason.RETRIES_EXHAUSTED in reasons:  # then nothing is planned that would name it
        return Status.TRUE, "ChangedSinceSynced", ""
    return Status.FALSE, "Synced" if standing.was_synced else "NotYetSynced", ""


def _progressing(standing: Standing, unseen: Judgement | None) -> Judgement:
    if standing.phase in UNDER_WAY:
        return Status.TRUE, "Changing", "a run is at work on the host; its phase tells more"
    if unseen is not None:
        return unseen
    if standing.failed_in is not None:
        return Status.FALSE, CHANGE_FAILED, _failure(standing.failed_in)
    if standing.phase in {Phase.PLANNED, Phase.WAITING_FOR_SLOT}:
        return Status.TRUE, standing.phase, standing.wait.message if standing.wait else ""
    if standing.wait is not None:
        return (Status.FALSE, *_words(standing.wait))
    return Status.FALSE, "NothingToDo", ""


def _failure(phase: Phase) -> str:
    return f"the last change failed, or was broken off, in the phase {phase}; see `cyborg-reconciler history`"


def _degraded(standing: Standing, unseen: Judgement | None) -> Judgement:
    if standing.failed_in is not None:
        return Status.TRUE, CHANGE_FAILED, _failure(standing.failed_in)
    if unseen is not None:
        return unseen
    trouble = next((w for w in standing.plan.waits if w.reason not in WISHED | PATIENT | _BLIND), None)
    if trouble is not None:
        return (Status.TRUE, *_words(trouble))
    if standing.verdict.sync is Sync.UNKNOWN:
        return (Status.UNKNOWN, *_ready(standing)[1:])
    return Status.FALSE, "NoTrouble", ""


def _paused(standing: Standing) -> Judgement:
    templates = standing.desired.templates.values() if standing.desired else ()
    suspended = sorted({name for template in templates for name in template.suspended})
    if suspended:
        word = "policy" if len(suspended) == 1 else "policies"
        return Status.TRUE, Reason.SUSPENDED, f"suspended: {word} {', '.join(suspended)}"
    maintained = sorted(standing.desired.lifecycle.in_maintenance) if standing.desired else ()
    if maintained:
        return Status.TRUE, Reason.SUSPENDED, f"in maintenance: {_some(maintained)}"
    wished = next((wait for wait in standing.plan.waits if wait.reason in WISHED), None)
    return (Status.TRUE, *_words(wished)) if wished else (Status.FALSE, "NothingHeldBack", "")


# ------------------------------------------------------------------------------------------------- what needs a reboot
def _reboot_required(standing: Standing) -> Judgement:
    if standing.desired is None or standing.subject is None:
        return Status.UNKNOWN, Reason.UNKNOWN, ""
    due = standing.subject.facts.drivers.initramfs_due
    pending, unread = ([], []) if standing.verdict.verified else _compared(standing, standing.desired.fields)
    if pending:
        return Status.TRUE, "ConfiguredNotRunning", f"configured, and not so in the running kernel: {_some(pending)}"
    if isinstance(due, reported.Unknown):
        return Status.UNKNOWN, Reason.UNKNOWN, f"it could not be read whether the initramfs is built: {due.unknown}"
    if due:
        return Status.TRUE, "InitramfsDue", f"configured, and not in the initramfs yet: {_some(due)}"
    if unread:
        return Status.UNKNOWN, Reason.UNKNOWN, f"could not be read: {_some(unread)}"
    return Status.FALSE, "NothingPending", ""


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _compared(standing: Standing, fields: Mapping[FieldPath, Value]) -> tuple[list[str], list[str]]:
    """Return the fields that are configured as desired and do not run so, and those of which nobody can tell."""
    at_once = {
        change.path
        for action in standing.plan.actions
        if action.disruption is not Disruption.REBOOT
        for change in action.changes
    }
    pending: list[str] = []
    unread: list[str] = []
    for path, desired in fields.items():
        pair = _configured(path, desired) if path not in at_once else None
        if pair is None or standing.subject is None:
            continue
        observe = BY_NAME[path[1]].observe
        running, configured = observe(path, desired, standing.subject), observe(*pair, standing.subject)
        if running == desired:
            continue
        name = ".".join(path[1:])
        if isinstance(running, Unknown) or isinstance(configured, Unknown):
            unread.append(name)
        elif configured == pair[1]:
            pending.append(name)
    return pending, unread


def _configured(path: FieldPath, desired: Value) -> tuple[FieldPath, Value] | None:
    """Return which field is to have which value so that the next boot makes *path* as *desired*; None: none has to."""
    match path:
        case (_, kernel_args.NAME, name):
            return (HOST, kernel_args.NAME, "boot", name), desired
        case (_, kernel_modules.NAME, "parameters", module, option):
            return (HOST, kernel_modules.NAME, "options", module, option), desired
        case (_, kernel_modules.NAME, "load", module) if desired is ABSENT:
            return (HOST, kernel_modules.NAME, "blacklist", module), True
    return None
