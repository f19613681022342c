# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How is a list of steps applied on one host, and what is said of each?

Called by the module `apply_actions`, under the host's lock. Each step runs the `ensure` of its state module; the first
that is refused or fails ends the list. What a module says of itself is not taken on trust: whether a step changed
anything is told by what is read before and after it. Does I/O through `Host`.
"""

import os

from ansible_collections.openstack.cyborg.plugins.module_utils import unfinished
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Host, Refusal
from ansible_collections.openstack.cyborg.plugins.module_utils.persistence import expand
from ansible_collections.openstack.cyborg.plugins.module_utils.record import Record
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import ToolMissing, Unreadable, clean

NOTHING = (None, "", [], {}, "none")
#: What is written there is bookkeeping, and changes nothing of the host.
RECORDS = "/var/lib/cyborg-reconciler/"
AS_BEFORE = "%s said that it changed something, and all that it tells of is as it was before"


class Request:
    """What is asked of the host.

    Attributes:
        steps: as the plan has them. own, release: fields of a role that runs next, paths of one that has run.
        features: by the name of a state module, its feature: an object with ``ensure(host, args)`` and ``read(tree,
        args)``. link: see `Host`.
        validated: a function that returns the checked parameters of a module, or raises ValueError.
    """

    def __init__(self, params, features, validated):
        self.steps, self.own, self.release = params["steps"], params["own"], params["release"]
        self.controller_id, self.fencing_token = params["controller_id"], params["fencing_token"]
        self.link = (params.get("connection"), params.get("peer"))
        self.features, self.validated = features, validated


def apply(tree, request, *, check):
    """Apply what is requested and return the outcome, in the shape that the controller reads, and the diffs."""
    host = Host(tree, check=check, link=request.link)
    outcome = {"status": "applied", "steps": [], "message": ""}
    diffs = []
    try:
        record = Record(host)
        record.fence(request.controller_id, request.fencing_token)
        if not check:
            unfinished.restore_all(host)
            record.enter(request.own)
            record.strike(request.release)
    except (Refusal, Failure) as exc:
        ids = [step["id"] for step in request.steps]
        _end(outcome, _ended(ids[0] if ids else "record", exc))
        outcome["steps"].extend(_outcome(one, "skipped") for one in ids[1:])
        return outcome, diffs
    for step in request.steps:
        if outcome["status"] != "applied":
            outcome["steps"].append(_outcome(step["id"], "skipped"))
            continue
        _end(outcome, _apply_step(tree, record, request, step, check))
        made = outcome["steps"][-1]
        if made["status"] == "changed":
            diffs.append({"before_header": step["id"], "before": made["before"], "after": made["after"]})
    return outcome, diffs


def _end(outcome, step):
    outcome["steps"].append(step)
    if step["status"] in ("refused", "failed"):
        outcome.update(status=step["status"], message=step["message"])


def _apply_step(tree, record, request, step, check):
    """Return the outcome of one step. One without a module forgets fields that are already as they were before."""
    if not step.get("module"):
        return _outcome(step["id"], "changed" if record.strike(step.get("release") or []) else "unchanged")
    entry, feature, args = _Entry(record, step), None, {}
    try:
        feature = _feature_of(request, step)
        args = request.validated(feature, step.get("args") or {})
        host = _Watched(tree, check=check, on_change=entry.on_change, link=request.link)
        result = feature.ensure(host, args)
        after = feature.read(tree, args) if host.was_touched else result.after
    except Exception as exc:  # noqa: BLE001 -- what the steps before have done must reach the controller in any case
        if entry.new and not isinstance(exc, Refusal):
            entry.withdraw_unless_written(feature, tree, args)
        return _ended(step["id"], exc)
    # In check mode *after* is what would be, and the module alone knows what it would write.
    changed = result.changed if check else after != result.before or (result.changed and host.was_configured)
    is_true = changed or not result.changed
    if is_true and not check:
        record.strike(step.get("release") or [])  # what did not move is not back at what it was, either
    states = {"before": result.before, "after": after, "reboot_required": result.reboot_required}
    message = "" if is_true else AS_BEFORE % step["module"]
    return _outcome(step["id"], "changed" if changed else "unchanged", message=message, **states)


class _Watched(Host):
    """A host that knows what was done to it.

    Attributes:
        was_touched: whether anything was written or run. was_configured: whether a file was written or removed that
            says how the host shall be.
    """

    was_touched = was_configured = False

    def write_attribute(self, name, value, subject):
        self.was_touched = True
        super().write_attribute(name, value, subject)

    def write_file(self, name, text, mode=None):
        super().write_file(name, text, mode)
        self._note(name)

    def remove_file(self, name):
        was_there = os.path.lexists(self.tree.path(name, follow=False))
        super().remove_file(name)
        if was_there:
            self._note(name)

    def run(self, tool, *arguments, timeout_s=600):
        self.was_touched = True
        return super().run(tool, *arguments, timeout_s=timeout_s)

    def _note(self, name):
        self.was_touched = True
        self.was_configured = self.was_configured or not name.startswith(RECORDS)


def _feature_of(request, step):
    feature = request.features.get(step.get("module"))
    if feature is None:
        raise Failure("%r is no state module of this collection" % clean(str(step.get("module"))))
    return feature


class _Entry:
    """What a step enters in the record, at the moment before its first write."""

    def __init__(self, record, step):
        self._record, self._step = record, step
        self._before, self.new = None, []

    def on_change(self, before):
        observed = self._step.get("observed") or {}
        if not agrees(observed, before):
            message = "the plan was made from %s, and this is there now: %s" % (_shown(observed), _shown(before))
            raise Refusal("FactsStale", message)
        self._before = before
        self.new = self._record.enter(self._step.get("own") or [])

    def withdraw_unless_written(self, feature, tree, args):
        """Strike out what was entered, if everything is still as it was; when in doubt, keep it."""
        try:
            if feature.read(tree, args) == self._before:
                self._record.strike(self.new)
        except (Unreadable, Failure, OSError):
            return


def agrees(observed, found):
    """Say whether *found* is what *observed* says: its keys alone count, and every way to say "nothing" is the same."""
    if isinstance(observed, dict):
        return isinstance(found, dict) and all(agrees(value, found.get(key)) for key, value in observed.items())
    if _is_ranges(observed) or _is_ranges(found):
        return expand(observed or []) == expand(found or [])
    if observed in NOTHING:
        return found in NOTHING
    return observed == found


def _is_ranges(value):
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "vfs" in one for one in value)


def _shown(state):
    return clean(", ".join("%s=%s" % (name, state[name]) for name in sorted(state)), 300)


def _outcome(step_id, status, **more):
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


def _ended(step_id, exc):
    """Return the outcome of a step that *exc* ended."""
    if isinstance(exc, Refusal):
        return _outcome(step_id, "refused", reason=exc.reason, message=exc.message)
    if isinstance(exc, (Failure, Unreadable, ToolMissing, ValueError)):
        return _outcome(step_id, "failed", message=clean(str(exc)))
    return _outcome(step_id, "failed", message=clean("%s: %s" % (type(exc).__name__, exc)))
