# SPDX-License-Identifier: Apache-2.0
"""What the API declares is made, kept and taken away like what stands in files. Real Ansible, simulated hosts."""

import json
from datetime import UTC, datetime

import pytest

from cyborg_reconciler.bootstrap import open_stores
from cyborg_reconciler.ports import Event
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import qat_1
from tests.integration.console import NOTHING, open_console

pytestmark = pytest.mark.slow

COUNT = "/sys/bus/pci/devices/0000:6b:00.0/sriov_numvfs"
SRIOV = {
    "host_selector": {"groups": ["all"]},
    "device_selector": {"vendor_id": "8086", "product_id": "4940"},
    "sriov": {"num_vfs": 4},
}


@pytest.fixture
def console(tmp_path):
    with open_console(tmp_path, qat_1()) as opened:
        yield opened


@pytest.fixture
def policies(console):
    """The policies of the API, as its server keeps them."""
    with open_stores(Settings(console.state)) as stores:
        yield stores.fleet.policies


def test_policies_of_the_api_are_resolved_with_those_in_files_and_undone_when_they_go(console, policies):
    told = Event(datetime.now(UTC), "Told")
    document = {"api_version": "cyborg/v1", "kind": "AcceleratorPolicy", "metadata": {"name": "mine"}, "spec": SRIOV}
    mine = policies.add("mine", json.dumps(document), told)
    made = console.apply("-p", "")  # the last -p counts: nothing stands in files
    assert (made.code, made.host("qat-1")["sync"]) == (0, "Synced"), made.errors
    assert console["qat-1"].read(COUNT) == "4"

    policies.remove(mine, told)
    other = {**document, "metadata": {"name": "other"}, "spec": {**SRIOV, **NOTHING}}
    policies.add("other", json.dumps(other), told)
    held = console.plan()
    assert (held.code, held.host("qat-1")["actions"]) == (0, []), "an empty folder is an accident"

    console.declare("theirs", **NOTHING)
    console.must_apply()
    assert console["qat-1"].read(COUNT) == "0"
