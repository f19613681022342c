# SPDX-License-Identifier: Apache-2.0
"""Every story below this folder: what is declared and observed on one side, the plan and the verdict on the other.

A story tells all actions, waits and unknown fields, and of each what matters to it; just that is compared. Where it
tells of accelerators, it tells of all of them, by address: the state that is observed, or a dict with what matters.
"""

from pathlib import Path
from typing import Any

import pytest

from cyborg_reconciler.core.accelerators import units
from cyborg_reconciler.core.offer import Offer, offers
from cyborg_reconciler.core.state import Action, Change, Phase, Plan, Wait, words_of
from cyborg_reconciler.core.verdict import judge
from tests.scenarios.story import looked_at, plan_of, read_stories

STORIES = [
    pytest.param(story, id=f"{path.stem}: {story['name']}")
    for path in sorted(Path(__file__).parent.glob("*.yaml"))
    for story in read_stories(path)
]

#: What `then` may tell.
WORDS = {"actions", "waits", "unknown", "sync", "health", "reboots", "accelerators"}


@pytest.mark.parametrize("story", STORIES)
def test_the_plan_is_as_the_story_tells(story: dict[str, Any]) -> None:
    desired, subject, plan = looked_at(story["given"])
    then = story["then"]
    assert set(then) <= WORDS
    actions, waits = then.get("actions", []), then.get("waits", [])
    assert [_action(action, told) for action, told in _beside(plan.actions, actions)] == actions
    assert [_wait(wait, told) for wait, told in _beside(plan.waits, waits)] == waits
    assert _unknown(plan) == then.get("unknown", {})
    verdict = judge(plan)
    if "accelerators" in then:
        found = units(subject.facts, subject.catalogue)
        failed_in = Phase(story["given"]["failed_in"]) if "failed_in" in story["given"] else None
        offered = {offer.address: offer for offer in offers(found, plan, desired, subject, failed_in)}
        told = then["accelerators"]
        assert {at: _offer(offer, told.get(at, {})) for at, offer in offered.items()} == told
    shown = {"sync": verdict.sync, "health": verdict.health, "reboots": plan.reboots}
    assert {key: shown[key] for key in shown if key in then} == {key: then[key] for key in shown if key in then}


def _beside(found: tuple[Any, ...], told: list[dict[str, Any]]) -> list[tuple[Any, dict[str, Any]]]:
    """Return each thing found with what the story tells of it; a surplus thing is shown whole."""
    return [(thing, told[place] if place < len(told) else {}) for place, thing in enumerate(found)]


def _action(action: Action, told: dict[str, Any]) -> dict[str, Any]:
    """Return of *action* what the story speaks of."""
    shown = {
        "id": action.id,
        "target": action.target,
        "feature": action.feature,
        "changes": {change.field: _change(change) for change in action.changes},
        "policy": [str(change.declared_by) for change in action.changes],
        "disruption": str(action.disruption),
        "module": getattr(action.call, "module", None),
        "args": getattr(action.call, "args", None),
        "own": {".".join(own.path): own.before for own in getattr(action.call, "own", [])},
        "release": [".".join(path) for path in getattr(action.call, "release", [])],
        "role": getattr(action.call, "role", None),
        "observed": getattr(action.call, "observed", None),
        "drift": action.drift,
    }
    return {key: shown[key] for key in (told or shown)}


def _change(change: Change) -> str:
    return f"{words_of(change.observed)} -> {words_of(change.desired)}"


def _wait(wait: Wait, told: dict[str, Any]) -> dict[str, Any]:
    """Return of *wait* what the story speaks of; of its message a story may tell a part, or several."""
    shown: dict[str, Any] = {
        "reason": str(wait.reason),
        "message": wait.message,
        "target": wait.target,
        "changes": {change.field: _change(change) for change in wait.action.changes} if wait.action else {},
    }
    parts = told.get("message")
    if parts and all(part in wait.message for part in ([parts] if isinstance(parts, str) else parts)):
        shown["message"] = parts
    return {key: shown[key] for key in (told or shown)}


def _offer(offer: Offer, told: str | dict[str, Any]) -> Any:
    """Return of *offer* what the story speaks of."""
    if isinstance(told, str):
        return offer.state
    shown: dict[str, Any] = {
        "state": offer.state,
        "desired": offer.desired_state,
        "policy": str(offer.declared_by),
        "setup_required": offer.setup_required,
        "reboot_required": offer.reboot_required,
        "health": str(offer.health),
        "reason": offer.reason,
        "message": offer.message,
    }
    if told.get("message") and told["message"] in offer.message:
        shown["message"] = told["message"]
    return {key: shown[key] for key in (told or shown)}


def _unknown(plan: Plan) -> dict[str, str]:
    return {" ".join((path[0], ".".join(path[1:]))): unknown.reason for path, unknown in plan.blind_spots}


def test_there_are_stories() -> None:
    assert len(STORIES) > 60


def test_names_of_stories_are_told_once() -> None:
    names = [story.id for story in STORIES]
    assert len(set(names)) == len(names)


def test_a_plan_without_declarations_is_empty() -> None:
    plan = plan_of({})
    assert not plan.actions
    assert not plan.waits
    assert not plan.blind_spots
