# SPDX-License-Identifier: Apache-2.0
"""An operator at the command line: policies, an inventory of guests, a state folder, and the commands.

Used by the tests of the main job. Runs the installed program, as a user would.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.lab.guest import Guest

#: Guests crawl when the machine is busy: a whole apply, DKMS build and reboot included.
COMMAND_TIMEOUT_S = 1800

#: A guest on a busy machine takes longer than Ansible's ten seconds to answer sudo.
ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "ANSIBLE_TIMEOUT": "120"}

PROGRAM = Path(sys.executable).with_name("cyborg-reconciler")


@dataclass
class Answer:
    """What a command said."""

    code: int
    output: str
    errors: str

    @property
    def data(self) -> Any:
        """The JSON that it wrote."""
        return json.loads(self.output)

    def host(self, name: str) -> dict[str, Any]:
        """One host of a plan or an apply."""
        return next(host for host in self.data["hosts"] if host["host"] == name)

    def waits(self, name: str) -> dict[str, str]:
        """The reasons for which a host waits, with their messages."""
        return {wait["reason"]: wait["message"] for wait in self.host(name)["waits"]}

    def refusals(self, name: str) -> dict[str, str]:
        """What the host itself refused, with the messages."""
        return {step["reason"]: step["message"] for step in self.host(name)["steps"] if step["status"] == "refused"}


@dataclass
class Console:
    """The operator's folder, and what he types."""

    folder: Path
    guests: Sequence[Guest] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        (self.folder / "policies").mkdir(parents=True)
        self.write_inventory(self.inventory)

    @property
    def inventory(self) -> dict[str, Any]:
        """Where the guests are reached now."""
        return {"all": {"hosts": {guest.name: guest.inventory_vars() for guest in self.guests}}}

    def write_inventory(self, inventory: dict[str, Any]) -> None:
        """Write what Ansible is to know of the hosts."""
        (self.folder / "inventory.yml").write_text(json.dumps(inventory))

    def declare(self, name: str, **spec: object) -> None:
        """Declare a policy for all hosts; one of that name is replaced."""
        whole = {"host_selector": {"groups": ["all"]}, **spec}
        self._write(name, "AcceleratorPolicy", whole)

    def declare_pool(self, **spec: object) -> None:
        """Declare the pool of all hosts."""
        self._write("pool", "RolloutPool", {"host_selector": {"groups": ["all"]}, **spec})

    def declare_driver(self, name: str, **spec: object) -> None:
        """Add a driver to the catalogue."""
        self._write(name, "Driver", spec)

    def undeclare(self, name: str) -> None:
        """Take a policy away."""
        (self.folder / "policies" / f"{name}.yml").unlink()

    def _write(self, name: str, kind: str, spec: dict[str, object]) -> None:
        document = {"api_version": "cyborg/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        with (self.folder / "policies" / f"{name}.yml").open("w") as file:
            YAML().dump(document, file)

    def command(self, verb: str, *words: str) -> list[str]:
        """Return the words of a command."""
        common = ["-i", str(self.folder / "inventory.yml"), "-p", str(self.folder / "policies")]
        return [str(PROGRAM), verb, *common, "--state", str(self.folder / "state"), *words]

    def start(self, verb: str, *words: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own, and return without waiting."""
        return subprocess.Popen(
            self.command(verb, *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=ENVIRONMENT,
        )

    def _type(self, verb: str, *words: str) -> Answer:
        done = subprocess.run(
            self.command(verb, *words, "--output", "json"),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            env=ENVIRONMENT,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def plan(self, *words: str) -> Answer:
        """Type `plan`."""
        return self._type("plan", *words)

    def apply(self, *words: str) -> Answer:
        """Type `apply --yes`."""
        return self._type("apply", "--yes", *words)

    def must_apply(self, *words: str) -> Answer:
        """Type `apply --yes`, which is to end with every host verified."""
        answer = self.apply(*words)
        assert answer.code == 0, f"exit code {answer.code}\n{answer.output}\n{answer.errors}"
        return answer
