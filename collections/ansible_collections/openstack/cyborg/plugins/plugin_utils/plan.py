# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What does a plan say for one host, and what has come out of it so far?

Called by the action plugin `apply_plan` on the controller. Pure: text in, values out. Nothing here is ever a template.
"""

from __future__ import annotations

import base64
import binascii
import json
import re

#: The only version of the plan document that this collection applies.
PLAN_VERSION = 1
#: What may be included as a driver's role: a full name, and nothing that could be a path or a template.
ROLE_NAME = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+\.[a-z0-9_]+\Z")

ACTIONS, ROLE, REBOOT = "actions", "role", "reboot"
APPLIED, REFUSED, FAILED = "applied", "refused", "failed"


class PlanUnreadable(Exception):  # noqa: N818 -- reads as what it says
    """The document is no plan that this collection can apply."""


def decode_base64(text):
    """Return the plan in *text*, base64 of its JSON. Raises: PlanUnreadable."""
    try:
        document = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as exc:
        raise PlanUnreadable("the plan is not base64: %s" % exc) from exc
    return decode(document)


def decode(document):
    """Return the plan in *document*, JSON as bytes. Raises: PlanUnreadable."""
    try:
        plan = json.loads(document)
    except ValueError as exc:
        raise PlanUnreadable("the plan is not JSON: %s" % exc) from exc
    if not isinstance(plan, dict) or "plan_version" not in plan:
        raise PlanUnreadable("this is JSON, but no plan: it has no plan_version")
    if plan["plan_version"] != PLAN_VERSION:
        raise PlanUnreadable(
            "the plan is of version %s, and this collection applies version %s: let the same release write and apply it"
            % (json.dumps(plan["plan_version"]), PLAN_VERSION)
        )
    for name, kind in (("controller_id", str), ("fencing_token", int), ("hosts", dict)):
        if not isinstance(plan.get(name), kind):
            raise PlanUnreadable("the plan's %s is missing or of the wrong type" % name)
    return plan


def segments_of(plan, host):
    """Return the segments that *plan* has for *host*; none where it does not name the host. Raises: PlanUnreadable."""
    host_plan = plan["hosts"].get(host, {"segments": []})
    segments = host_plan.get("segments") if isinstance(host_plan, dict) else None
    if not isinstance(segments, list):
        raise PlanUnreadable("%s: the plan has no list of segments" % host)
    for index, segment in enumerate(segments):
        problem = _problem(segment)
        if problem:
            raise PlanUnreadable("%s: segment %d: %s" % (host, index, problem))
    return segments


def _problem(segment):
    """Return what is wrong with *segment*, None when nothing is."""
    if not isinstance(segment, dict):
        return "it is no object"
    checks = {ACTIONS: _actions_problem, ROLE: _role_problem, REBOOT: _reboot_problem}
    check = checks.get(segment.get("kind"))
    return check(segment) if check else "its kind is none of actions, role, reboot"


def _actions_problem(segment):
    steps = segment.get("steps")
    if not isinstance(steps, list) or not all(
        isinstance(step, dict) and isinstance(step.get("id"), str) for step in steps
    ):
        return "its steps are no list of objects with an id"
    return None


def _role_problem(segment):
    if not isinstance(segment.get("id"), str) or not isinstance(segment.get("args"), dict):
        return "a role needs an id and args"
    role = segment.get("role")
    if not isinstance(role, str) or not ROLE_NAME.match(role):
        return "the name of a role is namespace.collection.role in lower case"
    return None


def _reboot_problem(segment):
    known = isinstance(segment.get("id"), str) and isinstance(segment.get("boot_id"), str)
    return (
        None if known and isinstance(segment.get("timeout_s"), int) else "a reboot needs an id, a boot_id and timeout_s"
    )


def role_calls(segments, start):
    """Return the roles in *segments* from the index *start* on: where they stand, their names and arguments."""
    return [
        {"index": index, "role": segment["role"], "driver": segment["args"]}
        for index, segment in enumerate(segments)
        if index >= start and segment["kind"] == ROLE
    ]


def open_role(segments, so_far):
    """Return the id of the first role in *segments* that the outcome *so_far* knows nothing of."""
    known = {step["id"] for step in so_far["steps"]}
    return next((one["id"] for one in segments if one["kind"] == ROLE and one["id"] not in known), "role")


def step_ids(segments, start):
    """Return the ids of everything that *segments* holds from the index *start* on."""
    ids = []
    for segment in segments[start:]:
        ids.extend([step["id"] for step in segment["steps"]] if segment["kind"] == ACTIONS else [segment["id"]])
    return ids


def step_outcome(step_id, status, **more):
    """Return the outcome of one step, in the shape that the controller reads."""
    found = {
        "id": step_id,
        "status": status,
        "before": {},
        "after": {},
        "reboot_required": False,
        "reason": "",
        "message": "",
    }
    found.update(more)
    return found


def outcome(status=APPLIED, steps=(), message=""):
    """Return the outcome of a host's plan, in the shape that the controller reads."""
    return {"status": status, "steps": list(steps), "message": message}


def extended(so_far, step):
    """Return the outcome *so_far* with one more *step*: the first that is refused or fails decides."""
    bad = step["status"] in (REFUSED, FAILED) and so_far["status"] == APPLIED
    return outcome(
        step["status"] if bad else so_far["status"],
        [*so_far["steps"], step],
        step["message"] if bad else so_far["message"],
    )


def skipped(so_far, ids):
    """Return the outcome *so_far* with *ids* as steps that were not reached.

    Those that it has already stay as they are.
    """
    known = {step["id"] for step in so_far["steps"]}
    rest = [step_outcome(one, "skipped") for one in ids if one not in known]
    return outcome(so_far["status"], so_far["steps"] + rest, so_far["message"])
