# SPDX-License-Identifier: Apache-2.0
"""Do the collection's integration targets hold? Run by `make lint` on a tree of files; a test uses its functions.

Real ansible-test, in a copy of the collection: it reads its configuration from there, and writes beside it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

COLLECTION = Path(__file__).resolve().parent.parent / "collections/ansible_collections/openstack/cyborg"
TARGETS = COLLECTION / "tests/integration/targets"


def copy_collection(folder: Path) -> Path:
    """Copy the collection into *folder*, and return where it lies: ansible-test looks at the path's last folders."""
    place = folder / "ansible_collections/openstack/cyborg"
    shutil.copytree(COLLECTION, place, ignore=shutil.ignore_patterns("output", "__pycache__", ".ansible"))
    return place


def run_targets(copy: Path) -> tuple[int, str]:
    """Run every target of a copy; return how ansible-test ended, and what it said."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(copy)}
    command = ["ansible-test", "integration", "--local", "--color", "no", "--continue-on-error"]
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [program, *command[1:]], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def names() -> set[str]:
    """Return the targets: all but what they share."""
    return {path.name for path in TARGETS.iterdir()} - {"setup_host"}


def left_out(said: str) -> set[str]:
    """Return the targets of which ansible-test, by what it *said*, ran none."""
    return names() - {line.split()[1] for line in said.splitlines() if line.endswith(" integration test role")}


def main() -> int:
    """Run all targets on a tree of files; return 0 when they hold and none was left out."""
    with tempfile.TemporaryDirectory() as folder:
        code, said = run_targets(copy_collection(Path(folder)))
    print(said)
    missed = left_out(said)
    if missed:
        print(f"not run: {', '.join(sorted(missed))}")
    if "skipping: [testhost]" not in said:
        print("nothing was left out, and there is no kernel here: where did it run?")
        return 1
    return 1 if missed else code


if __name__ == "__main__":
    sys.exit(main())
