# SPDX-License-Identifier: Apache-2.0
"""Do the collection's integration targets hold, on a tree of files and on a simulated host? Run by `make lint`.

On a tree is as anybody runs them; on a host nothing that they try is left out. Real ansible-test, in a copy of the
collection: it reads its configuration from there, and writes beside it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from cyborg_reconciler.simulation import SimulatedHosts, qat_1
from cyborg_reconciler.simulation.machine import Sriov

COLLECTION = Path(__file__).resolve().parent.parent / "collections/ansible_collections/openstack/cyborg"
TARGETS = COLLECTION / "tests/integration/targets"
#: What the targets make VFs of on the simulated host.
NIC = "0000:01:00.0"


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


def holds_on_files(copy: Path) -> bool:
    """Run all targets on a tree of files, where there is no kernel."""
    code, said = run_targets(copy)
    print(said)
    if "skipping: [testhost]" not in said:
        print("nothing was left out, and there is no kernel here: where did it run?")
    return code == 0 and "skipping: [testhost]" in said and _is_whole(said)


def holds_on_simulated_host(copy: Path, work: Path) -> bool:
    """Run all targets on a simulated host: nothing but the tree of files is left out, and they clean up behind them."""
    sriov = Sriov(total_vfs=8, vf_device_id="1520")
    functions = tuple(replace(one, sriov=sriov) if one.address == NIC else one for one in qat_1().functions)
    with SimulatedHosts(work, [replace(qat_1(), functions=functions)]) as hosts:
        root = hosts["qat-1"].root
        configuration = {"cyborg_simulated_root": str(root)}
        (copy / "tests/integration/integration_config.yml").write_text(json.dumps(configuration))
        code, said = run_targets(copy)
        traces = [str(path) for path in root.rglob("*cyborg*") if "/etc/" in str(path)]
    print(said, *(f"left behind: {trace}" for trace in traces), sep="\n")
    skipped = said.count("skipping: [testhost]")
    if skipped != len(names()):
        print(f"{skipped} tasks were left out; it should be {len(names())}: the trees of files that are not made")
    return code == 0 and not traces and skipped == len(names()) and _is_whole(said)


def _is_whole(said: str) -> bool:
    missed = left_out(said)
    if missed:
        print(f"not run: {', '.join(sorted(missed))}")
    return not missed


def main() -> int:
    """Run all targets on both; return 0 when they hold and none was left out."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_collection(Path(folder))
        hold = holds_on_files(copy), holds_on_simulated_host(copy, Path(folder, "hosts"))
    return 0 if all(hold) else 1


if __name__ == "__main__":
    sys.exit(main())
