# SPDX-License-Identifier: Apache-2.0
"""The whole path: an agent in a process of its own, on a simulated host, and the conductor behind gunicorn."""

import signal
import socket
from datetime import timedelta

import pytest

from cyborg_reconciler.bootstrap import open_agents
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import nic_1, write_tree
from tests.integration.agent_support import AgentProcess
from tests.integration.api_support import serving, until

pytestmark = pytest.mark.xdist_group("agent_and_conductor")

OPERATOR = Caller("operator", Role.ADMIN)
PORT = "0000:ca:00.1"


@pytest.fixture
def root(tmp_path):
    write_tree(nic_1(), tmp_path / "host")
    return tmp_path / "host"


def vfs_told(server, host):
    """The VFs that the API tells of for the port."""
    found = server("GET", f"/v1/hosts/{host}/hardware?limit=1000").json()["hardware"]
    return next((one["acc_specs"]["acc_capability"]["num_vfs"] for one in found if one["address"] == PORT), None)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def set_vfs(root, count):
    path = root / f"sys/bus/pci/devices/{PORT}/sriov_numvfs"
    path.chmod(0o644)
    path.write_text(f"{count}\n")


def test_what_an_agent_sees_is_offered_and_no_outage_or_kill_loses_it(tmp_path, root):
    state = tmp_path / "state"
    with serving(state, "--auth", "none") as server:
        with open_agents(Settings(state)) as operators:
            enrolment = operators.enrol(OPERATOR, "nic-1", timedelta(hours=1))
        agent = AgentProcess.make(tmp_path / "agent", server, root)
        agent.secret("enrolment", enrolment)
        with agent:
            until(lambda: server("GET", "/v1/accelerators?host=nic-1").json()["accelerator"])
            found = server("GET", "/v1/accelerators?host=nic-1").json()["accelerator"]
            assert {one["state"] for one in found} == {"inactive"}
            assert {one["acc_specs"]["device_type"] for one in found} >= {"NIC", "NVME"}
            assert vfs_told(server, "nic-1") == 0
            (pci,) = server("GET", "/v1/backends?host=nic-1&driver=generic-pci").json()["backends"]
            assert (pci["status"], pci["endpoint_known"], pci["discovered_at"] is not None) == ("READY", True, True)

            set_vfs(root, 2)
            until(lambda: vfs_told(server, "nic-1") == 2)

            port = server.url.rpartition(":")[2]
            server.process.send_signal(signal.SIGKILL)  # its gunicorn ends with it
            server.process.wait()
            until(lambda: not listens(int(port)))
            set_vfs(root, 3)
            agent.wait_for_line("try again|tried again|refused")
            agent.kill()  # with what it saw undelivered
            agent.start()
            with serving(state, "--auth", "none", port=int(port)) as again:
                until(lambda: vfs_told(again, "nic-1") == 3)
