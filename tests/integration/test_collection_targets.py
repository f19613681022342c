# SPDX-License-Identifier: Apache-2.0
"""Do the collection's own integration targets hold: on a tree of files as anybody runs them, and on a simulated host?

Real ansible-test, in a copy of the collection, since it reads its configuration from there and writes beside it.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cyborg_reconciler.simulation import SimulatedHosts, qat_1
from cyborg_reconciler.simulation.machine import Sriov

COLLECTION = Path(__file__).parents[2] / "collections/ansible_collections/openstack/cyborg"
TARGETS = COLLECTION / "tests/integration/targets"
NIC = "0000:01:00.0"


@pytest.fixture
def copy(tmp_path):
    place = tmp_path / "ansible_collections/openstack/cyborg"
    shutil.copytree(COLLECTION, place, ignore=shutil.ignore_patterns("output", "__pycache__", ".ansible"))
    return place


def run_targets(folder):
    """Run every target; return what ansible-test said, and those that it ran."""
    bin_folder = Path(sys.executable).parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
    command = [bin_folder / "ansible-test", "integration", "--local", "--color", "no", "--continue-on-error"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    return said, {line.split()[1] for line in said.splitlines() if line.endswith(" integration test role")}


def names():
    return {path.name for path in TARGETS.iterdir()} - {"setup_host"}


@pytest.mark.slow
def test_they_hold_on_a_tree_of_files(copy):
    said, ran = run_targets(copy)
    assert ran == names()
    assert "skipping: [testhost]" in said  # what needs a kernel


@pytest.mark.slow
def test_they_hold_on_a_simulated_host_where_nothing_is_left_out(copy, tmp_path):
    nic = replace(qat_1().function(NIC), sriov=Sriov(total_vfs=8, vf_device_id="1520"))
    functions = tuple(nic if one.address == NIC else one for one in qat_1().functions)
    with SimulatedHosts(tmp_path / "hosts", [replace(qat_1(), functions=functions)]) as hosts:
        configuration = {"cyborg_simulated_root": str(hosts["qat-1"].root)}
        (copy / "tests/integration/integration_config.yml").write_text(json.dumps(configuration))
        said, ran = run_targets(copy)
        traces = [path for path in hosts["qat-1"].root.rglob("*cyborg*") if "/etc/" in str(path)]
    assert ran == names()
    assert said.count("skipping: [testhost]") == len(ran)  # the tree of files that is not made
    assert traces == []


def test_every_module_but_those_that_roles_wrap_has_a_target():
    modules = {path.stem for path in (COLLECTION / "plugins/modules").glob("*.py")}
    assert modules - names() == {"apply_actions", "dkms_package"}
