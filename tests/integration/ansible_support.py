# SPDX-License-Identifier: Apache-2.0
"""What the tests of real Ansible runs share: hosts with a local connection, a plan for them, and who is at work."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.openstack.cyborg.tests.unit.host_tree import simulate
from cyborg_reconciler.adapters.ansible import processes
from cyborg_reconciler.adapters.ansible.observer import AnsibleObserver
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.plan import ActionsSegment, HostPlan, PlanDocument, Step
from cyborg_reconciler.ports import Observation, OnProgress, Unobserved
from cyborg_reconciler.testing import FixedClock, ignore_progress

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "cyborg_become": False}
CLOSED = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_python_interpreter": sys.executable}
SECRET = "correct-horse-battery-staple"

#: One task that sleeps in a module, with a child of the module that sleeps too, after one that is quick.
SLEEP = """
- name: Sleep
  hosts: all
  gather_facts: false
  tasks:
    - name: Be quick
      ansible.builtin.ping:
    - name: Sleep in a module
      ansible.builtin.command: sleep 600
"""


def make_options(folder: Path, hosts: dict[str, dict[str, object]], **more: Any) -> AnsibleOptions:
    """Make options for an inventory of *hosts*, given with their variables; everything lies in *folder*."""
    path = folder / "inventory.json"
    path.write_text(json.dumps({"all": {"hosts": hosts}}))
    environ = {**os.environ, "CYBORG_TOKEN": SECRET, "CLOUD_PASSWORD": SECRET, **more.pop("environ", {})}
    return AnsibleOptions(inventory=(str(path),), runs=folder / "runs", environ=environ, folder=folder, **more)


def write_playbook(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def make_root(folder: Path) -> Path:
    """Make the tree of a host that has just what a plan of `make_plan` needs."""
    for place in ("etc", "var/lib", "run/lock", "proc/sys/kernel/random", "sys/module"):
        (folder / "root" / place).mkdir(parents=True)
    for name, text in (("modules", ""), ("cmdline", "quiet"), ("sys/kernel/osrelease", "6.1.0")):
        (folder / "root/proc" / name).write_text(f"{text}\n")
    for name in ("dep", "builtin"):
        path = folder / f"root/lib/modules/6.1.0/modules.{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    simulate(folder / "root")
    return folder / "root"


def observe(options: AnsibleOptions, on_progress: OnProgress = ignore_progress) -> dict[str, Observation | Unobserved]:
    """Observe all hosts of the inventory that `make_options` wrote: how others are read, other tests show."""
    hosts = [Host(name) for name in json.loads(Path(options.inventory[0]).read_text())["all"]["hosts"]]
    return dict(AnsibleObserver(options, FixedClock()).observe(hosts, (), on_progress))


def make_plan(root: Path, *hosts: str) -> PlanDocument:
    """Plan to load a module at boot: what needs nothing but files."""
    hostile = "{{ lookup('ansible.builtin.pipe', 'touch " + str(root) + "/hacked') }}"
    args = {"name": "vfio_pci", "boot": True, "options": {"ids": "8086:4940"}, "update_initramfs": "never"}
    step = Step(id=f"kernel_modules {hostile}", module="kernel_module", args=args)
    of_host = HostPlan(generation=1, digest="d", fingerprint="f", segments=[ActionsSegment(steps=[step])])
    return PlanDocument(
        plan_version=1,
        uuid="11111111-1111-4111-8111-111111111111",
        created_at="2026-01-05T12:00:00Z",
        controller_id="c",
        fencing_token=1,
        hosts=dict.fromkeys(hosts, of_host),
    )


def marked(options: AnsibleOptions) -> dict[int, str]:
    """Return every process, of whatever run, whose environment names a folder of *options*."""
    runs = [folder.name for folder in options.runs.glob("*")]
    return {pid: processes.read_command(pid) for run in runs for pid in processes.find(run)}


def wait_until(met: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.2)


def is_sleeping(options: AnsibleOptions) -> bool:
    return any(command == "sleep 600" for command in marked(options).values())
