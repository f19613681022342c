# SPDX-License-Identifier: Apache-2.0
"""Do the collection's own integration targets hold on a simulated host, where nothing that they try is left out?

Real ansible-test. On a tree of files, as anybody runs them, they are a gate of `make lint`.
"""

import json
from dataclasses import replace

import pytest

from cyborg_reconciler.simulation import SimulatedHosts, qat_1
from cyborg_reconciler.simulation.machine import Sriov
from tools.targets import COLLECTION, copy_collection, left_out, names, run_targets

NIC = "0000:01:00.0"


@pytest.mark.slow
def test_they_hold_on_a_simulated_host_where_nothing_is_left_out(tmp_path):
    copy = copy_collection(tmp_path)
    nic = replace(qat_1().function(NIC), sriov=Sriov(total_vfs=8, vf_device_id="1520"))
    functions = tuple(nic if one.address == NIC else one for one in qat_1().functions)
    with SimulatedHosts(tmp_path / "hosts", [replace(qat_1(), functions=functions)]) as hosts:
        configuration = {"cyborg_simulated_root": str(hosts["qat-1"].root)}
        (copy / "tests/integration/integration_config.yml").write_text(json.dumps(configuration))
        code, said = run_targets(copy)
        traces = [path for path in hosts["qat-1"].root.rglob("*cyborg*") if "/etc/" in str(path)]
    assert code == 0, said
    assert left_out(said) == set()
    assert said.count("skipping: [testhost]") == len(names())  # the tree of files that is not made
    assert traces == []


def test_every_module_but_those_that_roles_wrap_has_a_target():
    modules = {path.stem for path in (COLLECTION / "plugins/modules").glob("*.py")}
    assert modules - names() == {"apply_actions", "dkms_package"}
