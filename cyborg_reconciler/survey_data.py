# SPDX-License-Identifier: Apache-2.0
"""What programs read of a survey: plan, waits and counts as JSON has them. Called by CLI and conductor. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cyborg_reconciler.core.state import ABSENT, Action, Change, Disruption, Sync, Wait
from cyborg_reconciler.core.subject import to_json
from cyborg_reconciler.survey import HostView, Survey


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


def sign_of(action: Action) -> str:
    """Return whether an action adds (+), removes (-) or changes (~)."""
    if all(change.observed is ABSENT for change in action.changes):
        return "+"
    if all(change.desired is ABSENT for change in action.changes):
        return "-"
    return "~"


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
