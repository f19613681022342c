# SPDX-License-Identifier: Apache-2.0
"""Does a driver's role leave alone what carries the connection, whether or not the role thinks of it?

Real ansible-playbook on a simulated guest, reached as by SSH; no session is found above the modules.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cyborg_reconciler.simulation import SimulatedHosts, guest_1

ROOT = Path(__file__).parents[2]
PLAYBOOK = ROOT / "collections/ansible_collections/openstack/cyborg/playbooks/apply.yml"
NIC = "0000:01:00.0"  # without a route
#: Runs things here, and says that it is SSH.
LIKE_SSH = """
from ansible.plugins.connection.local import Connection as Local

DOCUMENTATION = "name: like_ssh\\nshort_description: x\\ndescription: [x]\\nauthor: x"

class Connection(Local):
    transport = "ssh"
"""
#: A role of somebody else's, which passes neither connection nor peer.
FORGETFUL = """
- name: Make VFs
  openstack.cyborg.sriov_vfs:
    address: "0000:01:00.0"
    num_vfs: 2
    root: "{{ cyborg_root }}"
"""
ROLES = {
    "shipped": {"role": "openstack.cyborg.driver_module", "args": {"name": "igb", "module": "igb", "state": "absent"}},
    "forgetful": {"role": "test.other.driver", "args": {"name": "other"}},
}
#: How hosts are reached: only of the first is it not known which of their devices carries that.
REACHED = {
    "anyhow": {"ansible_connection": "like_ssh"},
    "by-route": {"ansible_connection": "like_ssh", "cyborg_peer": "192.0.2.1"},  # that comes by the default route
    "locally": {"ansible_connection": "local"},
}


@pytest.fixture
def said(tmp_path):
    """What Ansible says of each host of one run, by its role and how it is reached."""
    (tmp_path / "connections").mkdir()
    (tmp_path / "connections/like_ssh.py").write_text(LIKE_SSH)
    tasks = tmp_path / "collections/ansible_collections/test/other/roles/driver/tasks"
    tasks.mkdir(parents=True)
    (tasks / "main.yml").write_text(FORGETFUL)
    names = {f"{role}-{how}": (role, how) for role in ROLES for how in REACHED}
    with SimulatedHosts(tmp_path / "hosts", [guest_1(name) for name in names]) as hosts:
        inventory = json.loads(hosts.inventory_path.read_text())
        for name, (_, how) in names.items():
            inventory["all"]["hosts"][name].update(REACHED[how])
        hosts.inventory_path.write_text(json.dumps(inventory))
        write_plan(tmp_path / "plan.json", {name: ROLES[role] for name, (role, _) in names.items()})
        lines = run(tmp_path, hosts.inventory_path).splitlines()
    return {names[name]: [line for line in lines if name in line] for name in names}


def write_plan(path, roles):
    plan = {"generation": 1, "digest": "", "fingerprint": ""}
    document = {"plan_version": 1, "uuid": "u", "created_at": "", "controller_id": "one", "policies_digest": ""}
    of_hosts = {name: {**plan, "segments": [{"kind": "role", "id": "driver", **role}]} for name, role in roles.items()}
    path.write_text(json.dumps(document | {"fencing_token": 1, "hosts": of_hosts}))


def run(folder, inventory):
    environment = os.environ | {
        "ANSIBLE_COLLECTIONS_PATH": f"{folder}/collections:{ROOT}/collections",
        "ANSIBLE_CONNECTION_PLUGINS": str(folder / "connections"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "remote"),
        "ANSIBLE_NOCOLOR": "1",
    }
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, PLAYBOOK, "-e", "plan_file=plan.json"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow
def test_a_device_that_may_carry_the_connection_is_refused_in_a_role(said):
    for (role, how), lines in said.items():
        is_refused = how == "anyhow"
        assert ("failed=1" in lines[-1]) is is_refused, (role, how, lines)  # what the recap says of the host
        assert any("ProtectedDevice" in line and NIC in line for line in lines) is is_refused, (role, how, lines)
        assert is_refused or "failed=0" in lines[-1], (role, how, lines)
