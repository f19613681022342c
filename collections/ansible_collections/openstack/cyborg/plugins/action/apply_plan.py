# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How is one host's plan walked: actions in one module call, reboots in place, up to the next driver's role?

The controller's half of `apply_plan`; the role `apply` calls it. It decodes the plan itself, so that nothing in a plan
ever meets the template engine. Talks to the host through Ansible's connection.
"""

from __future__ import annotations

import os
import shlex

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.openstack.cyborg.plugins.plugin_utils import plan as plans

ARGUMENTS = {
    "plan": {"type": "str"},
    "plan_file": {"type": "path"},
    "from_segment": {"type": "int", "default": 0},
    "allow_reboot": {"type": "bool", "default": False},
    "root": {"type": "path", "default": "/"},
    "lock_timeout_s": {"type": "int", "default": 60},
    "peer": {"type": "str"},
    "so_far": {"type": "dict"},
    "role_done": {"type": "int"},
    "failure": {"type": "str"},
    "reason": {"type": "str", "default": ""},
}
#: How the host is reached, in the words of the modules; of other transports they find it out.
TRANSPORTS = {"local": "local", "ssh": "ssh", "paramiko": "ssh", "paramiko_ssh": "ssh", "libssh": "ssh"}
BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: sshd answers before the units that make devices at boot have ended; a look at the host then would see half of it. A
#: driver may even be loaded after the boot has ended, and its device's unit follows that.
BOOT_ENDED = """timeout 300 sh -c '
systemctl is-system-running --wait
udevadm settle
while systemctl list-units --no-legend --state=activating "cyborg-device@*" | grep -q .; do sleep 1; done
' >/dev/null 2>&1; true"""
#: Said of a reboot while it goes on, for it may take long. The controller reads these lines too.
REBOOTS = "openstack.cyborg reboots %s"
REBOOTED = "openstack.cyborg rebooted %s"
NOT_REBOOTED = "openstack.cyborg could not reboot %s"
CHECK_MODE = "check mode: a reboot is not tried, nor what comes after it"


class Stopped(Exception):  # noqa: N818 -- the walk ends here, for better or worse
    """The outcome so far says that nothing more may be done on this host."""


class ActionModule(ActionBase):
    """Walks the segments of one host's plan."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(ARGUMENTS)

    def run(self, tmp=None, task_vars=None):
        """Return ``cyborg_outcome`` and the roles that are left; ``failed`` where a step was refused or failed."""
        result = super().run(tmp, task_vars)
        self._task_vars = task_vars or {}
        self._changed, self._diffs = False, []
        host = self._task_vars.get("inventory_hostname", "")
        try:
            self._wanted = self._validated()
            self._plan = self._read_plan()
            segments = plans.segments_of(self._plan, host)
        except (plans.PlanUnreadable, OSError) as exc:
            outcome = plans.outcome(plans.FAILED, message=str(exc))
            return dict(result, failed=True, msg=str(exc), cyborg_outcome=outcome, cyborg_roles=[])
        return dict(result, **self._walked(segments))

    def _validated(self):
        checked = ArgumentSpecValidator(
            ARGUMENTS, mutually_exclusive=[("plan", "plan_file")], required_one_of=[("plan", "plan_file")]
        ).validate(self._task.args)
        if checked.error_messages:
            raise plans.PlanUnreadable("; ".join(checked.error_messages))
        return checked.validated_parameters

    def _read_plan(self):
        if self._wanted["plan"] is not None:
            return plans.decode_base64(self._wanted["plan"])
        with open(os.path.abspath(self._wanted["plan_file"]), "rb") as document:
            return plans.decode(document.read())

    # -------------------------------------------------------------------------------------------------------- the walk
    def _walked(self, segments):
        """Walk *segments* and return what to add to the task's result."""
        self._outcome = (self._wanted["so_far"] or {}).get("cyborg_outcome") or plans.outcome()
        start = self._wanted["from_segment"]
        ending = {}
        try:
            self._close_role(segments)
            start = self._walk(segments, start)
        except Stopped:
            first = 0 if self._wanted["so_far"] else start
            self._outcome = plans.skipped(self._outcome, plans.step_ids(segments, first))
        except AnsibleConnectionFailure as exc:
            message = "the connection was lost: %s" % exc
            self._outcome = plans.outcome(plans.FAILED, self._outcome["steps"], message)
            ending = {"unreachable": True, "msg": message}
        roles = plans.role_calls(segments, start) if self._outcome["status"] == plans.APPLIED else []
        return dict(self._ending(), cyborg_roles=roles, cyborg_link=self._link(), **ending)

    def _ending(self):
        steps = self._outcome["steps"]
        ending = {
            "changed": self._changed,
            "cyborg_outcome": self._outcome,
            "reboot_required": any(step["reboot_required"] for step in steps),
        }
        if self._diffs:
            ending["diff"] = self._diffs
        if self._outcome["status"] != plans.APPLIED:
            ending.update(failed=True, msg=self._outcome["message"] or self._outcome["status"])
        return ending

    def _walk(self, segments, start):
        """Apply *segments* from *start* up to the next role, and return the index where the walk ended."""
        index = start
        while index < len(segments):
            segment = segments[index]
            if segment["kind"] == plans.ROLE:
                if segment.get("own"):
                    self._apply([], own=segment["own"])
                return index
            if segment["kind"] == plans.REBOOT:
                self._add(self._rebooted(segment))
                index += 1
                continue
            steps = []
            while index < len(segments) and segments[index]["kind"] == plans.ACTIONS:
                steps.extend(segments[index]["steps"])
                index += 1
            self._apply(steps)
        return index

    def _close_role(self, segments):
        """Enter what became of the role that ran since the last call, if one did."""
        done, failure = self._wanted["role_done"], self._wanted["failure"]
        if failure is not None:
            if self._outcome["status"] == plans.APPLIED:
                reason = self._wanted["reason"]
                status = plans.REFUSED if reason else plans.FAILED
                role = plans.open_role(segments, self._outcome)
                self._add(plans.step_outcome(role, status, reason=reason, message=failure))
            raise Stopped  # it was a step of the plan that failed, and it is in the outcome already
        if done is None:
            return
        if not 0 <= done < len(segments) or segments[done]["kind"] != plans.ROLE:
            self._outcome = plans.outcome(plans.FAILED, self._outcome["steps"], "segment %d is no role" % done)
            raise Stopped
        if segments[done].get("release"):
            self._apply([], release=segments[done]["release"])
        self._add(plans.step_outcome(segments[done]["id"], "changed"))

    def _add(self, step):
        self._changed = self._changed or step["status"] == "changed"
        self._outcome = plans.extended(self._outcome, step)
        if self._outcome["status"] != plans.APPLIED or step["status"] == "skipped":
            raise Stopped

    # --------------------------------------------------------------------------------------------------------- actions
    def _link(self):
        """Return how the host is reached, as options of a module: what is not known is left out."""
        found = {"connection": TRANSPORTS.get(self._connection.transport), "peer": self._wanted["peer"]}
        return {name: value for name, value in found.items() if value}

    def _apply(self, steps, own=(), release=()):
        """Have the host apply *steps*, in one call of one module."""
        arguments = {
            "steps": steps,
            "own": list(own),
            "release": [list(path) for path in release],
            "controller_id": self._plan["controller_id"],
            "fencing_token": self._plan["fencing_token"],
            "root": self._wanted["root"],
            "lock_timeout_s": self._wanted["lock_timeout_s"],
            **self._link(),
        }
        done = self._execute_module(
            module_name="openstack.cyborg.apply_actions", module_args=arguments, task_vars=self._task_vars
        )
        self._diffs.extend(done.get("diff") or [])
        found = done.get("cyborg_outcome")
        if not isinstance(found, dict):
            message = "apply_actions ended without an outcome: %s" % _said(done)
            self._outcome = plans.outcome(plans.FAILED, self._outcome["steps"], message)
            raise Stopped
        self._changed = self._changed or bool(done.get("changed"))
        self._outcome = plans.outcome(found["status"], self._outcome["steps"] + found["steps"], found["message"])
        if found["status"] != plans.APPLIED:
            raise Stopped

    # --------------------------------------------------------------------------------------------------------- reboots
    def _rebooted(self, segment):
        """Reboot the host unless that has happened, or may not happen, and return the step's outcome."""
        before = self._boot_id()
        if not before:
            message = "%s could not be read, so it is not known whether the reboot has happened" % BOOT_ID
            return plans.step_outcome(segment["id"], plans.FAILED, message=message)
        if before != segment["boot_id"]:
            return plans.step_outcome(segment["id"], "unchanged", message="rebooted since the plan was made")
        if not self._wanted["allow_reboot"]:
            message = "the plan reboots this host, and this run may not (allow_reboot is false)"
            return plans.step_outcome(segment["id"], plans.REFUSED, reason="RebootNotAllowed", message=message)
        if self._task.check_mode:
            return plans.step_outcome(segment["id"], "skipped", message=CHECK_MODE)
        self._say(REBOOTS)
        problem = self._reboot(segment["timeout_s"])
        after = "" if problem else self._boot_id()
        if not problem and after == before:
            problem = "the reboot ended, and the boot id is still %s" % before
        self._say(NOT_REBOOTED if problem else REBOOTED)
        if problem:
            return plans.step_outcome(segment["id"], plans.FAILED, message=problem)
        states = {"before": {"boot_id": before}, "after": {"boot_id": after}}
        return plans.step_outcome(segment["id"], "changed", **states)

    def _say(self, words):
        Display().display(words % self._task_vars.get("inventory_hostname", ""))

    def _boot_id(self):
        done = self._low_level_execute_command("cat %s" % shlex.quote(self._inside(BOOT_ID)))
        return done.get("stdout", "").strip() if done.get("rc") == 0 else ""

    def _inside(self, path):
        root = self._wanted["root"].rstrip("/")
        return root + path

    def _reboot(self, timeout_s):
        """Reboot the host and wait until it is back; return what went wrong, None when nothing did."""
        if self._wanted["root"].rstrip("/"):
            return self._reboot_tree(timeout_s)
        # What was made on the host for module files may be gone when it is up again.
        self._remove_tmp_path(self._connection._shell.tmpdir)  # noqa: SLF001 -- as ActionBase itself does
        task = self._task.copy()
        task.action = "ansible.builtin.reboot"
        task.args = {
            "reboot_timeout": timeout_s,
            "test_command": BOOT_ENDED,
            **self._reboot_command(),
            "msg": "Reboot by openstack.cyborg: the plan of this host asks for it",
        }
        reboot = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.reboot",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        done = reboot.run(task_vars=self._task_vars)
        return _said(done) if done.get("failed") or not done.get("rebooted") else None

    def _reboot_command(self):
        """Return how to reboot under systemd: unlike the default, shutdown, it needs no D-Bus."""
        done = self._low_level_execute_command("test -d /run/systemd/system")
        return {"reboot_command": "systemctl reboot"} if done.get("rc") == 0 else {}

    def _reboot_tree(self, timeout_s):
        """Reboot a simulated host with its own program, which returns when the machine is up again."""
        command = "CYBORG_ROOT=%s timeout %d %s" % (
            shlex.quote(self._wanted["root"]),
            timeout_s,
            shlex.quote(self._inside("/usr/sbin/reboot")),
        )
        done = self._low_level_execute_command(command)
        return None if done.get("rc") == 0 else "reboot: rc %s: %s" % (done.get("rc"), done.get("stderr", "").strip())


def _said(result):
    """Return what a failed module or action says of itself, in one line."""
    for name in ("msg", "module_stderr", "stderr", "exception", "module_stdout"):
        if result.get(name):
            return str(result[name]).strip().splitlines()[-1]
    return "it said nothing"
