# SPDX-License-Identifier: Apache-2.0
"""Does the playbook `apply` walk a saved plan on its own, say what came out, and never take a string for a template?

Real ansible-playbook, simulated hosts, no controller.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import dkms_package, kernel_modules, source_archive
from cyborg_reconciler.simulation import SimulatedHosts, qat_1
from tests.integration.state_support import Subject

ROOT = Path(__file__).parents[2]
PLAYBOOK = ROOT / "collections/ansible_collections/openstack/cyborg/playbooks/apply.yml"
QAT = "0000:6b:00.0"
EDU_CONF = 'PACKAGE_NAME="edu_lab"\nPACKAGE_VERSION="1.0"\nBUILT_MODULE_NAME[0]="edu_lab"\n'
EDU_C = """
MODULE_VERSION("1.0");
static const struct pci_device_id ids[] = {{ PCI_DEVICE(0x1234, 0x11e8) }};
static struct pci_driver edu = { .name = "edu_lab", };
"""
#: Keeps what Ansible says of each task: the name of the action, and its result.
RECORDER = """
import json
import os
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "recorder"

    def _keep(self, status, result):
        with open(os.environ["RECORDER_FILE"], "a") as file:
            said = result._result
            outcome = said.get("cyborg_outcome")
            entry = {"status": status, "action": result._task.action, "msg": str(said.get("msg")), "outcome": outcome}
            file.write(json.dumps(entry, default=str) + "\\n")

    def v2_runner_on_ok(self, result):
        self._keep("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._keep("failed", result)

    def v2_runner_on_skipped(self, result):
        self._keep("skipped", result)

    def v2_runner_on_unreachable(self, result):
        self._keep("unreachable", result)
"""


class Playbook:
    """A folder from which the playbook runs on one simulated host."""

    def __init__(self, folder, hosts):
        self.folder, self.host, self._inventory = folder, hosts["qat-1"], hosts.inventory_path
        (folder / "callbacks").mkdir()
        (folder / "callbacks/recorder.py").write_text(RECORDER)

    def boot_id(self):
        return self.host.read("/proc/sys/kernel/random/boot_id")

    def plan(self, *segments, fencing_token=1):
        plan = {"generation": 1, "digest": "", "fingerprint": "", "segments": segments}
        document = {"plan_version": 1, "uuid": "u", "created_at": "", "controller_id": "one", "policies_digest": ""}
        document |= {"fencing_token": fencing_token, "hosts": {"qat-1": plan}}
        (self.folder / "plan.json").write_text(json.dumps(document))

    def run(self, *arguments, **variables):
        """Apply the plan; return the exit status and what was said of each task."""
        record = self.folder / "record"
        record.unlink(missing_ok=True)
        command = [Path(sys.executable).parent / "ansible-playbook", "-i", self._inventory, PLAYBOOK, *arguments]
        command += ["-e", json.dumps({"plan_file": "plan.json", **variables})]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment(record), capture_output=True, text=True, check=False
        )
        assert record.exists(), done.stdout + done.stderr
        return done.returncode, [json.loads(line) for line in record.read_text().splitlines()]

    def _environment(self, record):
        return os.environ | {
            "ANSIBLE_COLLECTIONS_PATH": f"{self.folder}/collections:{ROOT}/collections",
            "ANSIBLE_CALLBACK_PLUGINS": str(self.folder / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "recorder",
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "local"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"),
            "RECORDER_FILE": str(record),
        }


@pytest.fixture
def playbook(tmp_path):
    with SimulatedHosts(tmp_path / "hosts", [qat_1()]) as hosts:
        yield Playbook(tmp_path, hosts)


def actions(*steps):
    return {"kind": "actions", "steps": list(steps)}


def vfs(count, **more):
    args = {"address": QAT, "num_vfs": count, "replace": True, "vf_driver": "vfio-pci"}
    return {"id": f"sriov {QAT}", "module": "sriov_vfs", "args": args, "observed": {}, "own": [], "release": [], **more}


def arguments(**args):
    return {"id": "kernel_args", "module": "kernel_args", "args": {"args": args}}


def reboot(boot_id):
    return {"kind": "reboot", "id": "reboot", "boot_id": boot_id, "timeout_s": 60}


def statuses(task):
    return [(step["id"], step["status"]) for step in task["outcome"]["steps"]]


@pytest.mark.slow
def test_a_plan_without_roles_is_one_task_a_second_time_nothing_changes_and_a_reboot_needs_leave(playbook):
    own = [{"path": [QAT, "sriov", "num_vfs"], "before": 0, "set": 4}]
    playbook.plan(actions(vfs(4, observed={"num_vfs": 0}, own=own)), actions(arguments(iommu="pt")))
    status, tasks = playbook.run()
    assert status == 0
    assert [(task["status"], task["action"]) for task in tasks] == [
        ("ok", "openstack.cyborg.apply_plan"),
        ("skipped", "ansible.builtin.include_tasks"),
    ]
    assert statuses(tasks[0]) == [(f"sriov {QAT}", "changed"), ("kernel_args", "changed")]
    assert playbook.host.read(f"/sys/bus/pci/devices/{QAT}/sriov_numvfs") == "4"
    boot_id = playbook.boot_id()
    playbook.plan(actions(vfs(4), arguments(iommu="pt")), reboot(boot_id), actions(vfs(2)))
    status, tasks = playbook.run()
    assert status != 0
    assert statuses(tasks[0])[:2] == [(f"sriov {QAT}", "unchanged"), ("kernel_args", "unchanged")]
    refused = tasks[0]["outcome"]["steps"][2]
    assert (refused["status"], refused["reason"]) == ("refused", "RebootNotAllowed")
    assert playbook.host.read(f"/sys/bus/pci/devices/{QAT}/sriov_numvfs") == "4"
    assert playbook.boot_id() == boot_id


@pytest.mark.slow
def test_check_mode_changes_nothing_and_does_not_reboot(playbook):
    boot_id = playbook.boot_id()
    playbook.plan(actions(vfs(4)), reboot(boot_id), actions(vfs(2)))
    status, tasks = playbook.run("--check", cyborg_allow_reboot=True)
    assert status == 0
    assert [step["status"] for step in tasks[0]["outcome"]["steps"]] == ["changed", "skipped"]
    assert playbook.host.read(f"/sys/bus/pci/devices/{QAT}/sriov_numvfs") == "0"
    assert playbook.boot_id() == boot_id


@pytest.mark.slow
def test_a_refusal_fails_the_host_and_tells_of_every_step(playbook):
    playbook.plan(actions(vfs(4), vfs(99), arguments(iommu="pt")))
    status, tasks = playbook.run()
    assert status != 0
    assert tasks[0]["status"] == "failed"
    assert [step["status"] for step in tasks[0]["outcome"]["steps"]] == ["changed", "refused", "skipped"]
    assert tasks[0]["outcome"]["status"] == "refused"
    assert tasks[0]["msg"].endswith("99 exceeds the 16 that the device supports")


@pytest.mark.slow
def test_roles_and_reboots_are_walked_in_the_plans_order(playbook):
    source = playbook.folder / "edu"
    source.mkdir()
    (source / "dkms.conf").write_text(EDU_CONF)
    (source / "edu_lab.c").write_text(EDU_C)
    driver = {"name": "edu", "package": "edu_lab", "module": "edu_lab", "version": None, "source": str(source)}
    role = {"kind": "role", "role": "openstack.cyborg.driver_dkms"}
    own = [{"path": ["host", "driver", "edu", "state"], "before": None, "set": "present", "device": ""}]
    boot_id = playbook.boot_id()
    playbook.plan(
        actions(arguments(iommu="pt")),
        {**role, "id": "driver edu", "args": {**driver, "state": "present"}, "own": own},
        reboot(boot_id),
        actions(vfs(2)),
        {**role, "id": "driver edu again", "args": {**driver, "state": "verified"}},
    )
    status, tasks = playbook.run(cyborg_allow_reboot=True)
    assert status == 0, tasks[-1]
    assert playbook.boot_id() != boot_id
    assert statuses(tasks[-1]) == [
        ("kernel_args", "changed"),
        ("driver edu", "changed"),
        ("reboot", "changed"),
        (f"sriov {QAT}", "changed"),
        ("driver edu again", "changed"),
    ]
    assert "iommu=pt" in playbook.host.read("/proc/cmdline")
    assert "installed" in playbook.host.run("dkms", "status").stdout
    assert json.loads(playbook.host.read("/var/lib/cyborg-reconciler/ownership.json"))["fields"] == own

    release = [["host", "driver", "edu", "state"]]
    gone = {**role, "id": "driver edu", "args": {**driver, "state": "absent"}, "release": release}
    playbook.plan(gone, reboot(boot_id))
    status, tasks = playbook.run()  # the boot id has changed since: the reboot has happened
    assert (status, statuses(tasks[-1])) == (0, [("driver edu", "changed"), ("reboot", "unchanged")])
    assert playbook.host.run("dkms", "status").stdout == ""
    assert json.loads(playbook.host.read("/var/lib/cyborg-reconciler/ownership.json"))["fields"] == []


@pytest.mark.slow
def test_an_earlier_build_that_a_killed_run_left_loaded_is_seen_and_unloaded(playbook):
    source = playbook.folder / "edu"
    source.mkdir()
    (source / "dkms.conf").write_text(EDU_CONF)
    (source / "edu_lab.c").write_text(EDU_C)
    driver = {"name": "edu", "package": "edu_lab", "module": "edu_lab", "version": None, "source": str(source)}

    def run(*states):
        role = {"kind": "role", "role": "openstack.cyborg.driver_dkms"}
        playbook.plan(*({**role, "id": f"edu {state}", "args": {**driver, "state": state}} for state in states))
        return playbook.run()

    # What the role does first, without Ansible; then as a run leaves it that DKMS has served and that ended before the
    # module was loaded anew.
    files, archive, subject = source_archive.read_source(str(source)), source / "sent.tar.gz", Subject(playbook.host)
    archive.write_bytes(source_archive.pack(files))
    sent = {"digest": source_archive.digest_of(files), "archive": str(archive)}
    subject.make(dkms_package, name="edu_lab", version="1.0", **sent)
    archive.unlink()
    subject.make(kernel_modules, name="edu_lab", state="loaded", boot=True)
    loaded = playbook.host.read("/sys/module/edu_lab/srcversion")
    playbook.host.run("dkms", "remove", "-m", "edu_lab", "-v", "1.0", "--all")
    (playbook.host.root / "usr/src/edu_lab-1.0/edu_lab.c").write_text(EDU_C + 'MODULE_DESCRIPTION("newer");\n')
    playbook.host.run("dkms", "install", "-m", "edu_lab", "-v", "1.0", "-k", "6.1.0-28-amd64")
    status, tasks = run("verified")
    assert status != 0
    assert f"an earlier build is loaded: its srcversion is {loaded}" in tasks[-1]["outcome"]["message"]
    status, tasks = run("present", "verified")
    assert status == 0, tasks[-1]
    assert playbook.host.read("/sys/module/edu_lab/srcversion") != loaded


@pytest.mark.slow
def test_a_role_that_fails_fails_the_host_with_the_outcome_of_every_step(playbook):
    args = {"name": "edu", "module": "edu_lab", "state": "present", "source": "/nowhere"}
    role = {"kind": "role", "id": "driver edu", "role": "openstack.cyborg.driver_dkms", "args": args}
    playbook.plan(actions(arguments(iommu="pt")), role, actions(vfs(2)))
    status, tasks = playbook.run()
    assert status != 0
    assert tasks[-1]["status"] == "failed"
    assert [step["status"] for step in tasks[-1]["outcome"]["steps"]] == ["changed", "failed", "skipped"]
    assert "/nowhere" in tasks[-1]["outcome"]["message"]


@pytest.mark.slow
def test_hostile_strings_are_data_wherever_they_stand(playbook):
    pwned = playbook.folder / "pwned"
    hostile = f"{{{{ lookup('ansible.builtin.pipe', 'touch {pwned}') }}}}"
    tasks = playbook.folder / "collections/ansible_collections/test/hostile/roles/driver/tasks"
    tasks.mkdir(parents=True)
    (tasks / "main.yml").write_text("""
- ansible.builtin.debug:
    msg: "{{ cyborg_driver.serial }}"
- ansible.builtin.debug:
    msg: "{{ item }}"
  loop: "{{ cyborg_driver.nested.list }}"
- ansible.builtin.set_fact:
    kept: "{{ cyborg_driver }}"
- ansible.builtin.debug:
    msg: "{{ kept.serial }} {{ kept }}"
""")
    args = {"name": hostile, "serial": hostile, "nested": {"list": [hostile], hostile: 1}}
    own = [{"path": ["host", hostile], "before": hostile, "set": hostile, "device": hostile}]
    step = {"id": hostile, "module": "kernel_module", "args": {"name": "igbvf", "boot": True}, "own": own}
    bad = {"id": "bad", "module": "kernel_module", "args": {"name": "igbvf", "options": {"a": hostile + '"'}}}
    role = {"kind": "role", "id": "role " + hostile, "role": "test.hostile.driver", "args": args}
    playbook.plan(actions(step), role, actions(bad))
    status, said = playbook.run("--diff", "-v")
    assert status != 0
    assert not pwned.exists()
    assert next(task["msg"] for task in said if task["action"] == "ansible.builtin.debug") == hostile
    assert statuses(said[-1]) == [(hostile, "changed"), ("role " + hostile, "changed"), ("bad", "failed")]
    assert hostile in said[-1]["outcome"]["message"].replace("\\'", "'")
    record = json.loads(playbook.host.read("/var/lib/cyborg-reconciler/ownership.json"))
    assert record["fields"] == own


@pytest.mark.slow
def test_a_plan_of_another_version_is_refused_before_anything_is_done(playbook):
    playbook.plan(actions(vfs(2)))
    path = playbook.folder / "plan.json"
    path.write_text(path.read_text().replace('"plan_version": 1', '"plan_version": 2'))
    status, tasks = playbook.run()
    assert status != 0
    assert tasks[0]["outcome"]["message"].startswith("the plan is of version 2")
    assert not playbook.host.exists("/var/lib/cyborg-reconciler")
