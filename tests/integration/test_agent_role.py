# SPDX-License-Identifier: Apache-2.0
"""Does the role `agent` give each host a digest of its own, and no secret? Real Ansible, in folders of this machine."""

import getpass
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cyborg_reconciler.port_credentials import port_credential, port_digest

ROOT = Path(__file__).parents[2]
NEW, OLD = "new-" * 8, "old-" * 8
#: The part of the role that writes settings and credentials, which needs neither root nor a service manager here.
PLAY = {
    "hosts": "all",
    "gather_facts": False,
    "vars": {
        "agent_conductor": "https://cloud.example:6670",
        "agent_user": getpass.getuser(),
        "agent_config_folder": "{{ folder }}/{{ inventory_hostname }}",
        "agent_state_folder": "{{ folder }}/{{ inventory_hostname }}.state",
        "agent_enabled": False,
    },
    "tasks": [{"ansible.builtin.include_role": {"name": "openstack.cyborg.agent", "tasks_from": "configuration"}}],
}


class Place:
    """A folder with the play, and what it writes for each host."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "play.yml").write_text(json.dumps([PLAY]))

    def run(self, **secrets):
        """Give hosts what follows from their secrets; return what Ansible says, and how each host fared."""
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        hosts = {host: local | {"agent_conductor_secrets": given} for host, given in secrets.items()}
        inventory = self.folder / "inventory.yml"
        inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": {"folder": str(self.folder)}}}))
        environ = os.environ | {
            "ANSIBLE_COLLECTIONS_PATH": f"{ROOT}/collections",
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "local"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"),
            "ANSIBLE_NOCOLOR": "1",
        }
        command = [Path(sys.executable).parent / "ansible-playbook", "-vvv", "-i", inventory, self.folder / "play.yml"]
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)
        said, _, recap = (done.stdout + done.stderr).partition("PLAY RECAP")
        fared = re.findall(r"^(\S+) +: .*changed=(\d+) .*failed=(\d+)", recap, re.MULTILINE)
        return said, {host: (int(changed), int(failed)) for host, changed, failed in fared}

    def digests(self, host):
        file = self.folder / host / "conductor_digest"
        assert file.stat().st_mode & 0o777 == 0o600
        return file.read_text().splitlines()


@pytest.mark.slow
def test_each_host_gets_a_digest_of_its_own_once_and_nobody_sees_a_secret(tmp_path):
    place = Place(tmp_path)
    given = {"node1": [NEW], "node2": [NEW, OLD], "node3": OLD}
    said, fared = place.run(**given)
    assert [fared[host][1] for host in given] == [0, 0, 1], said
    assert "the secret must be a random word of 32 characters or more" in said, "each letter is none"
    assert place.digests("node1") == [port_digest(port_credential(NEW, "node1"))]
    assert place.digests("node2") == [port_digest(port_credential(one, "node2")) for one in (NEW, OLD)]
    assert not (tmp_path / "node3/conductor_digest").exists()
    again, fared = place.run(node1=[NEW], node2=[NEW, OLD])
    assert fared == dict.fromkeys(("node1", "node2"), (0, 0)), again
    for text in (said, again, *(one.read_text() for one in tmp_path.glob("node*/*"))):
        assert not re.search(f"{NEW}|{OLD}", text)
