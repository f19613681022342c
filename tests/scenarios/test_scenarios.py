# SPDX-License-Identifier: Apache-2.0
"""Every story below this folder: what is declared and observed on one side, the plan and the verdict on the other."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cyborg_reconciler.core.state import Action, Plan, Wait
from cyborg_reconciler.core.verdict import judge
from tests.scenarios.story import plan_of

STORIES = [
    pytest.param(story, id=f"{path.stem}: {story['name']}")
    for path in sorted(Path(__file__).parent.glob("*.yaml"))
    for story in YAML(typ="safe").load(path)
]


@pytest.mark.parametrize("story", STORIES)
def test_the_plan_is_as_the_story_tells(story: dict[str, Any]) -> None:
    plan = plan_of(story["given"])
    then = story["then"]
    assert [_action(action, told) for action, told in _beside(plan.actions, then.get("actions", []))] == then.get(
        "actions", []
    )
    assert [_wait(wait, told) for wait, told in _beside(plan.waits, then.get("waits", []))] == then.get("waits", [])
    verdict = judge(plan)
    for key in ("sync", "health"):
        if key in then:
            assert getattr(verdict, key) == then[key]


def _beside(found: tuple[Any, ...], told: list[dict[str, Any]]) -> list[tuple[Any, dict[str, Any]]]:
    """Return each thing found with what the story tells of it; a surplus thing is shown whole."""
    return [(thing, told[place] if place < len(told) else {}) for place, thing in enumerate(found)]


def _action(action: Action, told: dict[str, Any]) -> dict[str, Any]:
    """Return of *action* what the story speaks of."""
    shown = {
        "target": action.target,
        "feature": action.feature,
        "changes": {change.field: f"{change.observed} -> {change.desired}" for change in action.changes},
        "disruption": str(action.disruption),
        "args": getattr(action.call, "args", None),
        "own": [".".join(own.path) for own in getattr(action.call, "own", [])],
        "release": [".".join(path) for path in getattr(action.call, "release", [])],
        "role": getattr(action.call, "role", None),
        "drift": action.drift,
    }
    return {key: shown[key] for key in (told or shown)}


def _wait(wait: Wait, told: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"reason": str(wait.reason), "message": wait.message, "target": wait.target}
    told_message = told.get("message")
    if told_message and told_message in wait.message:  # a story may tell a part of the message
        shown["message"] = told_message
    return {key: shown[key] for key in (told or shown)}


def test_there_are_stories() -> None:
    assert len(STORIES) > 20


def test_a_plan_without_declarations_is_empty() -> None:
    assert plan_of({}) == Plan("compute-7", 0, "f", digest=plan_of({}).digest)
