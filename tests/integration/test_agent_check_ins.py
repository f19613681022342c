# SPDX-License-Identifier: Apache-2.0
"""An agent on a simulated host and its conductor: look-up, hello, check-ins, outages, kills, rotated tokens.

Real processes and real HTTP; the conductor is a stand-in that speaks the wire between the two.
"""

import pytest

from cyborg_reconciler.simulation import nic_1, write_tree
from tests.integration.agent_support import AgentProcess
from tests.integration.fake_conductor import ENROLMENT, FIRST_TOKEN, FakeConductor

NUMVFS = "sys/bus/pci/devices/0000:ca:00.1/sriov_numvfs"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The tree of a host with an SR-IOV NIC; no process plays its kernel, so tests write its files as they like."""
    root = tmp_path_factory.mktemp("hosts") / "nic-1"
    write_tree(nic_1(), root)
    return root


@pytest.fixture
def conductor():
    with FakeConductor() as conductor:
        yield conductor


@pytest.fixture
def agent(tmp_path, conductor, root):
    with AgentProcess(tmp_path / "agent", conductor, root) as agent:
        yield agent


def set_vfs(root, count):
    """Change what the agent finds, as a write to the kernel does."""
    path = root / NUMVFS
    path.chmod(0o644)
    path.write_text(f"{count}\n")


def test_the_first_check_in_has_the_facts_and_the_second_only_their_fingerprint(agent, conductor):
    conductor.wait_for(lambda: conductor.check_ins(facts=False))
    lookup, hello, first, second, *_ = conductor.said
    assert (lookup.path, lookup.token, hello.path, hello.token) == ("/v1/lookup", ENROLMENT, "/v1/hello", FIRST_TOKEN)
    assert lookup.body["inventory"]["hostname"] == "nic-1"
    assert hello.body == {"status": "READY", "endpoint": f"nic-1:{agent.port}"}
    assert first.body["facts"]["fingerprint"] == first.body["fingerprint"] == second.body["fingerprint"]
    assert (first.body["sequence"], second.body["sequence"]) == (1, 2)
    assert first.body["epoch"] == second.body["epoch"]
    assert "facts" not in second.body
    assert (agent.folder / "state/identity.json").stat().st_mode & 0o777 == 0o600
    assert not list((agent.folder / "state/spool").iterdir())
    assert agent.end() == 0
