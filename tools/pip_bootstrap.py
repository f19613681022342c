# SPDX-License-Identifier: Apache-2.0
"""How does `ansible-test --venv` run where its bootstrap of pip cannot be downloaded?

Run by the lint gates in place of `ansible-test`, with the same arguments. Before it becomes ansible-test it writes,
when there is none yet, the bootstrap script that ansible-test would download into its cache: one that installs the
same pip from Python's own ensurepip and from the package index that pip is configured for.
"""

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

BOOTSTRAP = '''\
"""Installs pip {version} into the environment that runs this. Written by cyborg-reconciler's tools/pip_bootstrap.py."""
import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip"])
subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "pip=={version}"])
'''


def parse_pip_pin(source: str) -> str | None:
    """Return the release of pip that ansible-test's *source* asks for, None where it names none.

    Source: ansible-core, ansible_test/_internal/python_requirements.py, ``get_venv_packages``.
    """
    found = re.search(r"def get_venv_packages.*?\bpip='([0-9.]+)'", source, re.DOTALL)
    return found[1] if found else None


def write_bootstrap(home: Path) -> None:
    """Write the bootstrap script for the pip that the installed ansible-test asks for, unless there is one."""
    spec = find_spec("ansible_test")
    if spec is None or not spec.submodule_search_locations:
        return
    requirements = Path(spec.submodule_search_locations[0]) / "_internal/python_requirements.py"
    version = parse_pip_pin(requirements.read_text())
    if version is None:
        return
    script = home / ".ansible/test/cache" / f"get_pip_{version.replace('.', '_')}.py"
    if not script.exists():
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(BOOTSTRAP.format(version=version))


def main(arguments: list[str]) -> None:
    """Become ansible-test."""
    write_bootstrap(Path.home())
    program = Path(sys.executable).parent / "ansible-test"
    if not program.exists():
        sys.exit("ansible-test is missing: run make setup")
    os.environ["PATH"] = f"{program.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    os.execv(program, [str(program), *arguments])  # noqa: S606 -- no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
