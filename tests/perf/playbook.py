# SPDX-License-Identifier: Apache-2.0
"""How does the bench run Ansible? One way for every row: local connection, no facts, as many forks as cores.

Called by `facts` and `apply`. Writes an inventory, starts `ansible-playbook`, and returns what that cost.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.perf.process import Cost, measure

#: Where runs of Ansible put what they need for a while, beside their inventory.
TEMPORARY: Final = "tmp"


def write_play(path: Path, tasks: Sequence[Mapping[str, Any]]) -> Path:
    """Write a playbook of one play with *tasks* for all hosts; JSON is YAML."""
    play = {"name": "Bench", "hosts": "all", "gather_facts": False, "tasks": list(tasks)}
    path.write_text(json.dumps([play], indent=2), encoding="utf-8")
    return path


def write_inventory(path: Path, roots: Mapping[str, Path]) -> Path:
    """Write an inventory of hosts whose files lie below *roots*."""
    shared = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {name: {"cyborg_root": str(root)} for name, root in roots.items()}
    path.write_text(json.dumps({"all": {"hosts": hosts, "vars": shared}}, indent=2), encoding="utf-8")
    return path


def run_play(playbook: str, inventory: Path, *arguments: str, kept: bool = False) -> Cost:
    """Run *playbook* and return what it cost, hosts' modules included. Raises: CommandFailedError.

    What was sent to hosts stays there when that is to be *kept*.
    """
    forks = str(len(os.sched_getaffinity(0)))
    command = ["ansible-playbook", "--inventory", str(inventory), "--forks", forks, playbook, *arguments]
    temporary = str(inventory.parent / TEMPORARY)
    settings = {"ANSIBLE_LOCAL_TEMP": temporary, "ANSIBLE_REMOTE_TEMP": temporary}
    return measure(command, inventory.parent, settings | ({"ANSIBLE_KEEP_REMOTE_FILES": "1"} if kept else {}))


def keep_payload(playbook: str, folder: Path, root: Path) -> Path:
    """Run *playbook*, which has one task, in a new *folder*; return the file that Ansible sent to its one host.

    It holds the module, all that it imports of Ansible and of its collection, and its parameters.
    """
    folder.mkdir()
    run_play(playbook, write_inventory(folder / "inventory.json", {"host-0": root}), kept=True)
    (payload,) = (folder / TEMPORARY).glob("*/AnsiballZ_*.py")
    return payload
