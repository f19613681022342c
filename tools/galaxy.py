# SPDX-License-Identifier: Apache-2.0
"""Is the collection what Galaxy takes? Run by `make lint`; the tests of packaging use its functions.

``galaxy.py compare`` says where the two galaxy.yml differ; ``galaxy.py import`` builds the collection in its own folder
and has galaxy-importer judge the tarball. Builds go to temporary folders; the checkout is only read.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
COLLECTION = ROOT / "collections/ansible_collections/openstack/cyborg"

#: ansible-test has gates of its own; the rest of what Galaxy may refuse a tarball for is checked here.
IMPORTER_SETTINGS = """\
[galaxy-importer]
CHECK_CHANGELOG = True
CHECK_REQUIRED_TAGS = True
RUN_ANSIBLE_DOC = True
RUN_ANSIBLE_LINT = True
RUN_ANSIBLE_TEST = False
RUN_FLAKE8 = True
"""


#: "whitespace before ':'": the importer's flake8 and the formatter disagree on slices; pycodestyle sides with
#: the formatter.
FORMATTERS_BUSINESS = " E203 "


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return what the galaxy.yml in *folder* says, but for what each leaves out of its build."""
    metadata: dict[str, Any] = yaml.safe_load((folder / "galaxy.yml").read_text())
    del metadata["build_ignore"]
    return metadata


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the keys whose values differ, in order; empty when the two say the same."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def program(name: str) -> str:
    """Return the path of one of the environment's programs."""
    return str(Path(sys.executable).parent / name)


def build(folder: Path, into: Path) -> Path:
    """Build the collection as it lies in *folder* and return its tarball, in *into*.

    Raises:
        subprocess.CalledProcessError: ansible-galaxy refused; its output is in the error.
    """
    command = [program("ansible-galaxy"), "collection", "build", "--force", "--output-path", str(into), str(folder)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (tarball,) = into.glob("openstack-cyborg-*.tar.gz")
    return tarball


def is_complaint(line: str) -> bool:
    """Return whether a *line* of galaxy-importer's output asks for something to be changed."""
    return line.startswith(("ERROR", "WARNING")) and FORMATTERS_BUSINESS not in line


def judge(tarball: Path, scratch: Path) -> int:
    """Have galaxy-importer judge *tarball*, show what it refuses or warns of, and return 0 when that is nothing."""
    settings = scratch / "galaxy-importer.cfg"
    settings.write_text(IMPORTER_SETTINGS)
    environment = os.environ | {
        "GALAXY_IMPORTER_CONFIG": str(settings),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    command = [sys.executable, "-m", "galaxy_importer.main", str(tarball)]
    done = subprocess.run(command, cwd=scratch, env=environment, check=False, capture_output=True, text=True)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if is_complaint(line)]
    print("".join(f"{line}\n" for line in complaints), end="")
    return done.returncode or int(bool(complaints))


def main(arguments: list[str]) -> int:
    """Do what is asked; return 0 when the collection is as it should be."""
    if arguments == ["compare"]:
        keys = differences(read_metadata(ROOT), read_metadata(COLLECTION))
        print(
            "".join(f"galaxy.yml and {COLLECTION.relative_to(ROOT)}/galaxy.yml differ in {key}\n" for key in keys),
            end="",
        )
        return 1 if keys else 0
    if arguments == ["import"]:
        with tempfile.TemporaryDirectory() as scratch:
            return judge(build(COLLECTION, Path(scratch)), Path(scratch))
    print("usage: galaxy.py compare | import")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
