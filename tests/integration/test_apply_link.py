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
UNLOAD = {"role": "openstack.cyborg.driver_module", "args": {"name": "igb", "module": "igb", "state": "absent"}}
MAKE_VFS = {"role": "test.other.driver", "args": {"name": "other"}}


@pytest.fixture
def apply(tmp_path):
    (tmp_path / "connections").mkdir()
    (tmp_path / "connections/like_ssh.py").write_text(LIKE_SSH)
    tasks = tmp_path / "collections/ansible_collections/test/other/roles/driver/tasks"
    tasks.mkdir(parents=True)
    (tasks / "main.yml").write_text(FORGETFUL)
    environment = os.environ | {
        "ANSIBLE_COLLECTIONS_PATH": f"{tmp_path}/collections:{ROOT}/collections",
        "ANSIBLE_CONNECTION_PLUGINS": str(tmp_path / "connections"),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
        "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
    }

    def run(segment, **variables):
        segments = [{"kind": "role", "id": "driver", **segment}]
        plan = {"generation": 1, "digest": "", "fingerprint": "", "segments": segments}
        document = {"plan_version": 1, "uuid": "u", "created_at": "", "controller_id": "one", "policies_digest": ""}
        document |= {"fencing_token": 1, "hosts": {"guest-1": plan}}
        (tmp_path / "plan.json").write_text(json.dumps(document))
        given = {"plan_file": "plan.json", "ansible_connection": "like_ssh", **variables}
        command = [Path(sys.executable).parent / "ansible-playbook", "-i", hosts.inventory_path, PLAYBOOK]
        command += ["-e", json.dumps(given)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    with SimulatedHosts(tmp_path / "hosts", [guest_1()]) as hosts:
        yield run


@pytest.mark.slow
@pytest.mark.parametrize("role", [UNLOAD, MAKE_VFS], ids=["shipped", "forgetful"])
def test_a_device_that_may_carry_the_connection_is_refused_in_a_role(apply, role):
    status, said = apply(role)
    assert status != 0
    assert "ProtectedDevice" in said
    assert NIC in said
    assert apply(role, cyborg_peer="192.0.2.1")[0] == 0  # that comes by the default route
    assert apply(role, ansible_connection="local")[0] == 0
