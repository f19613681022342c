# SPDX-License-Identifier: Apache-2.0
"""What people and programs read of a survey: the plan as text and as JSON. Pure: values in, text out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

from cyborg_reconciler.core.features.base import is_boot
from cyborg_reconciler.core.select import device_type
from cyborg_reconciler.core.state import ABSENT, HOST, Action, Change, Disruption, FieldPath, Phase, Sync, Value, Wait
from cyborg_reconciler.core.subject import ids_of, to_json
from cyborg_reconciler.survey import HostView, Survey

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


def sign_of(action: Action) -> str:
    """Return whether an action adds (+), removes (-) or changes (~)."""
    if all(change.observed is ABSENT for change in action.changes):
        return "+"
    if all(change.desired is ABSENT for change in action.changes):
        return "-"
    return "~"


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


def summary(survey: Survey) -> dict[str, int]:
    """Return the counts of the plan."""
    actions = [(view, action) for view in survey.hosts.values() for action in view.plan.actions if action.changes]
    signs = [sign_of(action) for _, action in actions]
    views = survey.hosts.values()
    return {
        "hosts": len(survey.hosts),
        "synced": sum(view.verdict.sync is Sync.SYNCED for view in views),
        "unknown": sum(view.verdict.sync is Sync.UNKNOWN for view in views),
        "add": signs.count("+"),
        "change": signs.count("~"),
        "remove": signs.count("-"),
        "waiting": sum(len(view.plan.waits) for view in views if view.verdict.sync is not Sync.UNKNOWN),
        "hosts_changing": len({view.host.name for view, _ in actions}),
        "hosts_rebooting": sum(view.plan.reboots for view in views),
    }


def _hosts(count: int) -> str:
    return f"{count} host" if count == 1 else f"{count} hosts"


def _s(verb: str, count: int) -> str:
    return f"{verb}s" if count == 1 else verb


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def plan_data(survey: Survey) -> dict[str, Any]:
    """Return the plan for programs."""
    return {
        "policies_digest": survey.declared.digest,
        "hosts": [host_data(view) for view in survey.hosts.values()],
        "unused_policies": list(survey.unused_policies),
        "summary": summary(survey),
    }


def host_data(view: HostView) -> dict[str, Any]:
    """Return one host's part of the plan for programs."""
    data: dict[str, Any] = {
        "host": view.host.name,
        "pool": view.pool.metadata.name,
        "sync": str(view.verdict.sync),
        "health": str(view.verdict.health),
        "phase": str(view.phase),
        "generation": view.plan.generation,
        "digest": view.plan.digest,
        "actions": [_action_data(action) for action in view.plan.actions],
        "waits": [_wait_data(wait) for wait in view.plan.waits],
        "unknown_fields": [{"path": list(path), "reason": unknown.reason} for path, unknown in view.plan.blind_spots],
    }
    if view.outcome is not None:
        data["outcome"] = {"status": view.outcome.status, "message": view.outcome.message}
        data["steps"] = [
            {"id": step.id, "status": step.status, "reason": step.reason, "message": step.message}
            for step in view.outcome.steps
        ]
    return data


def _action_data(action: Action) -> dict[str, Any]:
    return {
        "id": action.id,
        "target": action.target,
        "feature": action.feature,
        "disruption": str(action.disruption),
        "reboot": action.disruption is Disruption.REBOOT,
        "reason": action.reason,
        "drift": action.drift,
        "changes": _changes_data(action.changes),
    }


def _changes_data(changes: Iterable[Change]) -> Sequence[Mapping[str, Any]]:
    return [
        {
            "path": list(change.path),
            "observed": to_json(change.observed),
            "desired": to_json(change.desired),
            "policy": change.declared_by.policy or None,
            "file": change.declared_by.file or None,
            "line": change.declared_by.line or None,
        }
        for change in changes
    ]


def _wait_data(wait: Wait) -> dict[str, Any]:
    data: dict[str, Any] = {"target": wait.target, "reason": str(wait.reason), "message": wait.message}
    if wait.action is not None:
        data["action"] = _action_data(wait.action)
    return data
