# SPDX-License-Identifier: Apache-2.0
"""The controller as it is run for a fleet: a server with TLS and its worker, and the role that installs agents.

Used by the story of the agent. Runs the installed programs, as an operator would.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import urllib3

from cyborg_reconciler.bootstrap import open_admission, open_memory
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.settings import Settings
from tests.integration.api_support import Server, serving
from tests.integration.certificates import Authority
from tests.lab.console import COMMAND_TIMEOUT_S, ENVIRONMENT, Console
from tests.lab.guest import Guest
from tests.lab.machine import CONDUCTOR
from tests.lab.place import PROJECT

#: All hosts are looked at once, when the worker starts; what happens later comes of what agents tell.
DAY_S = "86400"
#: Of what the conductor makes what it shows to the agents of its hosts.
SECRET = "what-the-conductor-s-credentials-are-made-of"
#: A guest that crawls is given longer than Ansible's own ten seconds.
PATIENT = {name: text for name, text in ENVIRONMENT.items() if name.startswith("ANSIBLE_")}


@dataclass
class Control:
    """The controller of one guest.

    Attributes:
        wheels: a folder of the project's wheel (in `dist`) and of the agent's libraries (in `libraries`).
    """

    at: Console
    guest: Guest
    wheels: Path

    def __post_init__(self) -> None:
        self.authority = Authority(self.at.folder / "pki")
        self.certificate, self.key, _ = self.authority.issue("api", CONDUCTOR[0])

    @property
    def state(self) -> Path:
        return self.at.folder / "state"

    @contextmanager
    def serving(self) -> Iterator[Server]:
        """Yield the server, which the guest's agent finds, for as long as the block runs."""
        words = ["--auth", "none", "--workers", "1", "--interval", DAY_S]
        words += ["--tls-cert", str(self.certificate), "--tls-key", str(self.key)]
        words += ["--inventory", str(self.at.folder / "inventory.yml"), "--policies", str(self.at.folder / "policies")]
        with serving(self.state, *words, **PATIENT) as server:
            self.guest.lead_to_conductor(int(server.url.rpartition(":")[2]))
            yield replace(server, pool=urllib3.PoolManager(ca_certs=str(self.authority.file), retries=False))

    def enrolment(self) -> str:
        """Return a new enrolment token for the guest."""
        with open_admission(Settings(self.state)) as operators:
            return operators.enrol(Caller("operator", Role.ADMIN), self.guest.name, timedelta(hours=1))

    def facts(self) -> Any:
        """Return the newest facts of the guest that anybody told."""
        with open_memory(Settings(self.state)) as journal:
            found = journal.facts([self.guest.name])
        return json.loads(found[self.guest.name][0]) if found else None

    def run_role(self, **variables: object) -> str:
        """Apply the role `agent` to the guest with these variables, and return Ansible's recap."""
        (wheel,) = (self.wheels / "dist").glob("*.whl")
        given = {
            "agent_wheel": str(wheel),
            "agent_wheels": str(self.wheels / "libraries"),
            "agent_constraints": str(PROJECT / "constraints.txt"),
            "agent_conductor": "https://{}:{}".format(*CONDUCTOR),
            "agent_ca_file": str(self.authority.file),
            "agent_conductor_secrets": [SECRET],
            **variables,
        }
        role = {"role": "openstack.cyborg.agent", "vars": given}
        play = [{"hosts": "all", "become": True, "gather_facts": False, "roles": [role]}]
        playbook = self.at.folder / "agent.yml"
        playbook.write_text(json.dumps(play))
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", self.at.folder / "inventory.yml", playbook],
            cwd=PROJECT,
            env={**os.environ, **PATIENT, "ANSIBLE_PIPELINING": "1"},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.rpartition("PLAY RECAP")[2]
