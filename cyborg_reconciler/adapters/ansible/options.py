# SPDX-License-Identifier: Apache-2.0
"""What may the user say about how Ansible is used? Made by `bootstrap`, passed to all of this package. No I/O."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

OBSERVE_PLAYBOOK: Final = "openstack.cyborg.observe"
APPLY_PLAYBOOK: Final = "openstack.cyborg.apply"


@dataclass(frozen=True, slots=True)
class AnsibleOptions:
    """How Ansible is used. Users, keys, become and the like are the matter of inventory and ansible.cfg.

    Attributes:
        inventory: sources as ``-i`` takes them: files, folders, scripts, plugin configurations, ``host1,host2,``.
            None: those of the user's ansible.cfg.
        runs: where the files of runs are, each in a folder of its own.
        limit: any Ansible pattern; empty for all hosts.
        forks: hosts at a time.
        run_timeout_s, inventory_timeout_s: after which a run, or the reading of the inventory, is stopped.
        grace_s: how long Ansible has to stop by itself before its processes are killed.
        vault_password_files: as ``--vault-password-file`` takes them.
        environ: what Ansible inherits, but for variables that begin with ``CYBORG_``: those may hold secrets of ours.
    """

    inventory: tuple[str, ...]
    runs: Path
    limit: str = ""
    forks: int = 10
    run_timeout_s: float = 3600.0
    inventory_timeout_s: float = 120.0
    grace_s: float = 10.0
    vault_password_files: tuple[str, ...] = ()
    observe_playbook: str = OBSERVE_PLAYBOOK
    apply_playbook: str = APPLY_PLAYBOOK
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: Path = field(default_factory=Path.cwd)

    def inventory_arguments(self) -> list[str]:
        """Return the sources and vault passwords as arguments, with absolute paths: Ansible may run elsewhere."""
        arguments = []
        for source in self.inventory:
            arguments += ["-i", source if "," in source else str(self.folder / Path(source).expanduser())]
        for path in self.vault_password_files:
            arguments += ["--vault-password-file", str(self.folder / Path(path).expanduser())]
        return arguments
