# SPDX-License-Identifier: Apache-2.0
"""What people read of a survey: the plan as text. Pure: values in, text out."""

from collections.abc import Sequence

from rich.text import Text

from cyborg_reconciler.core.features.base import is_boot
from cyborg_reconciler.core.select import device_type
from cyborg_reconciler.core.state import ABSENT, HOST, Action, Change, FieldPath, Phase, Sync, Value, Wait
from cyborg_reconciler.core.subject import ids_of
from cyborg_reconciler.survey import HostView, Survey
from cyborg_reconciler.survey_data import sign_of, summary

#: Phases of hosts that have something to do, and not now.
WAITING = frozenset({Phase.PENDING_APPROVAL, Phase.WAITING_FOR_SLOT})

_STYLES = {"+": "green", "~": "yellow", "-": "red"}

#: Columns before the value of a field, and before what stands at the right of it.
_FIELD_WIDTH, _VALUE_WIDTH = 36, 30


def plan_text(survey: Survey) -> Text:
    """Return the plan of every host that is not as declared, and the line of counts."""
    text = Text()
    for view in survey.hosts.values():
        if view.verdict.sync is not Sync.SYNCED:
            text.append(host_text(view)).append("\n")
    if not survey.declared.policies:
        text.append("Warning: no policy is declared; nothing is done, and nothing undone\n", "yellow")
    for name in survey.unused_policies:
        text.append(f"Warning: policy {name} selects no host or device here; check its selectors\n", "yellow")
    return text.append(footer(survey))


def host_text(view: HostView) -> Text:
    """Return one host's part of the plan."""
    text = Text().append(f"{view.host.name}   ", "bold")
    text.append(f"{view.verdict.sync}   pool {view.pool.metadata.name}")
    text.append(f"   {view.phase}\n" if view.phase in WAITING else "\n", "magenta")
    blocked = [(wait.action, wait) for wait in view.plan.waits if wait.action is not None]
    shown: list[tuple[Action, Wait | None]] = [*((action, None) for action in view.plan.actions), *blocked]
    running = {change.path for action, _ in shown for change in action.changes if not is_boot(change.path)}
    for action, wait in sorted(shown, key=lambda pair: (pair[0].target == HOST, pair[0].target)):
        changes = [change for change in action.changes if not _said_by(change, running)]
        if changes or wait is not None:
            text.append(_action_text(view, action, changes, wait))
    for wait in view.plan.waits:
        if wait.action is None:
            where = "" if wait.target == HOST else f"{wait.target}  "
            text.append(f"  ! {where}waits: {wait.reason}: {wait.message}\n", "magenta")
    return text


def _said_by(change: Change, running: set[FieldPath]) -> bool:
    """Return whether a line about what runs says this change, about the next boot, as well."""
    return is_boot(change.path) and (*change.path[:2], *change.path[3:]) in running


def _action_text(view: HostView, action: Action, changes: Sequence[Change], wait: Wait | None) -> Text:
    sign = sign_of(action)
    text = Text().append(f"  {sign} ", _STYLES[sign]).append(f"{_target(view, action):<48} ")
    text.append(f"{action.changes[0].declared_by}\n", "dim")
    notes = "  ".join([*([str(action.disruption)] if action.disruption else []), *(["drift"] if action.drift else [])])
    for change in changes:
        boot = is_boot(change.path)
        name = ".".join((change.feature, *change.path[3 if boot else 2 :]))
        value = f"{show(change.observed)} → {show(change.desired)}" + (" at the next boot" if boot else "")
        text.append(f"      {name:<{_FIELD_WIDTH}} {value:<{_VALUE_WIDTH}} {notes}".rstrip() + "\n")
        notes = ""
    if wait is not None:
        text.append(f"      waits: {wait.reason}: {wait.message}\n", "magenta")
    return text


def _target(view: HostView, action: Action) -> str:
    device = view.subject.devices.get(action.target) if view.subject else None
    if device is None or view.subject is None:
        return action.feature
    kind = device_type(device, view.subject.catalogue)
    return f"{action.target}  {kind} {ids_of(device)}"


def show(value: Value) -> str:
    """Return a value as people write it."""
    if value is ABSENT:
        return "(none)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def footer(survey: Survey) -> str:
    """Return the counts, in one line that is enough for someone in a hurry."""
    counts = summary(survey)
    parts = []
    if counts["hosts_changing"]:
        host = _hosts(counts["hosts_changing"])
        parts.append(
            f"Plan: {counts['add']} to add, {counts['change']} to change, {counts['remove']} to remove on {host}."
        )
        if counts["hosts_rebooting"]:
            parts.append(f"{_hosts(counts['hosts_rebooting'])} {_s('reboot', counts['hosts_rebooting'])}.")
    elif not counts["waiting"] and not counts["unknown"]:
        parts.append("Nothing to do.")
    if counts["waiting"]:
        parts.append(f"{counts['waiting']} {'change waits' if counts['waiting'] == 1 else 'changes wait'}.")
    if counts["synced"]:
        parts.append(f"{_hosts(counts['synced'])} {_be(counts['synced'])} Synced.")
    if counts["unknown"]:
        parts.append(f"{_hosts(counts['unknown'])} {_be(counts['unknown'])} Unknown.")
    return " ".join(parts)


def _hosts(count: int) -> str:
    return f"{count} host" if count == 1 else f"{count} hosts"


def _s(verb: str, count: int) -> str:
    return f"{verb}s" if count == 1 else verb


def _be(count: int) -> str:
    return "is" if count == 1 else "are"
