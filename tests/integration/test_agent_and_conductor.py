# SPDX-License-Identifier: Apache-2.0
"""The whole path: an agent in a process of its own, on a simulated host, and the conductor behind gunicorn."""

import shutil
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


def test_what_an_agent_sees_is_offered_and_no_outage_kill_or_old_disk_loses_it(tmp_path, root):
    state = tmp_path / "state"
    with serving(state, "--auth", "none") as server:
        with open_agents(Settings(state)) as operators:
            enrolment = operators.enrol(OPERATOR, "nic-1", timedelta(hours=1))
        agent = AgentProcess.make(tmp_path / "agent", server, root)
        agent.secret("enrolment", enrolment)
        folder, snapshot = agent.folder / "state", tmp_path / "snapshot"
        spool = folder / "spool"
        with agent:
            until(lambda: server("GET", "/v1/accelerators?host=nic-1").json()["accelerator"])
            found = server("GET", "/v1/accelerators?host=nic-1").json()["accelerator"]
            assert {one["state"] for one in found} == {"inactive"}
            assert {one["acc_specs"]["device_type"] for one in found} >= {"NIC", "NVME"}
            assert vfs_told(server, "nic-1") == 0

            set_vfs(root, 2)
            until(lambda: vfs_told(server, "nic-1") == 2)

            port = server.url.rpartition(":")[2]
            server.process.send_signal(signal.SIGKILL)  # its gunicorn ends with it
            server.process.wait()
            until(lambda: not listens(int(port)))
            for number, count in enumerate((3, 4), start=1):
                set_vfs(root, count)
                until(lambda at_least=number: len(list(spool.iterdir())) >= at_least)
            agent.kill()  # with what it saw undelivered
            shutil.copytree(folder, snapshot)
            agent.start()
            with serving(state, "--auth", "none", port=int(port)) as again:
                until(lambda: vfs_told(again, "nic-1") == 4)

                # A disk that goes back to what it was brings what is older than what is known: none of it counts.
                agent.kill()
                shutil.rmtree(folder)
                shutil.copytree(snapshot, folder)
                set_vfs(root, 5)
                agent.start()
                until(lambda: vfs_told(again, "nic-1") == 5)
                refused = [line for line in agent.lines if "the conductor knows of later than check-in" in line]
                assert len(refused) >= 2
