# SPDX-License-Identifier: Apache-2.0
"""The whole path: an agent in a process of its own, on a simulated host, and the conductor behind gunicorn."""

import json
import shutil
import signal
import socket
from datetime import timedelta

import pytest

from cyborg_reconciler.adapters.declarations.yaml import YamlDeclarations
from cyborg_reconciler.adapters.stored.observer import FreshestObserver, StoredObserver
from cyborg_reconciler.bootstrap import SystemClock, open_admission, open_stores
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.ports import Observation, Unobserved
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import nic_1, write_tree
from cyborg_reconciler.survey import modules_of
from cyborg_reconciler.testing import ignore_progress
from tests.integration.agent_support import ITEM, OBEDIENT, AgentProcess, FakeDriver
from tests.integration.api_support import serving, until

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


def usage_told(server, address, metric):
    """What the metrics tell of how much a device is used."""
    wanted = {'host="nic-1"', f'address="{address}"', f'metric="{metric}"'}
    lines = server("GET", "/metrics").data.decode().splitlines()
    found = [line for line in lines if line.startswith("cyborg_reconciler_device_usage{")]
    return next((float(line.split()[-1]) for line in found if all(one in line for one in wanted)), None)


def degraded(server):
    """How many accelerators of the host are said not to be well."""
    found = server("GET", "/v1/accelerators?host=nic-1").json()["accelerator"]
    return [one["acc_status"]["health"] for one in found].count("Degraded")


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def set_vfs(root, count):
    path = root / f"sys/bus/pci/devices/{PORT}/sriov_numvfs"
    path.chmod(0o644)
    path.write_text(f"{count}\n")


class Asked:
    """Who would ask hosts over SSH, and notes whom."""

    def __init__(self):
        self.hosts = []

    def observe(self, hosts, modules, on_progress):
        del modules, on_progress
        self.hosts += [host.name for host in hosts]
        return {host.name: Unobserved("Unreachable", "nobody is to ask it") for host in hosts}


POLICY = """\
api_version: cyborg/v1
kind: AcceleratorPolicy
metadata: {name: no-device-has-it}
spec:
  host_selector: {names: [nic-1]}
  kernel_modules: {blacklist: [nouveau]}
"""


def test_a_host_whose_policies_name_modules_that_no_device_has_need_not_be_asked_either(tmp_path, root):
    state, tree = tmp_path / "state", tmp_path / "policies"
    tree.mkdir()
    (tree / "site.yml").write_text(POLICY)
    declared, clock, asked = YamlDeclarations([tree]).read(), SystemClock(), Asked()
    assert "nouveau" in modules_of(declared)
    with (
        serving(state, "--auth", "none", "--workers", "1", heartbeat_interval_s=1) as server,
        open_stores(Settings(state)) as stores,
    ):
        stored = StoredObserver(stores.journal, clock, timedelta(minutes=5))
        observer = FreshestObserver(stored, asked, stores.journal)

        def observed():
            seen = observer.observe([Host("nic-1")], modules_of(declared), ignore_progress)["nic-1"]
            return isinstance(seen, Observation)

        with open_admission(Settings(state)) as operators:
            enrolment = operators.enrol(OPERATOR, "nic-1", timedelta(hours=1))
        agent = AgentProcess.make(tmp_path / "agent", server, root)
        agent.secret("enrolment", enrolment)
        with agent:
            until(lambda: server("GET", "/v1/accelerators?host=nic-1").json()["accelerator"])
            assert not observed()
            assert asked.hosts == ["nic-1"]
            stores.journal.record_declarations(declared, clock.now())
            until(observed)  # the next check-ins were answered with the module, and told of it
            asked.hosts.clear()
            assert observed()
            assert asked.hosts == []
            until(lambda: usage_told(server, PORT, "link_width") == 16)
            assert degraded(server) == 0
            (root / f"sys/bus/pci/devices/{PORT}/aer_dev_fatal").write_text("TOTAL_ERR_FATAL 1\n")
            until(lambda: degraded(server) == 1)


def test_what_an_agent_sees_is_offered_and_no_outage_kill_or_old_disk_loses_it(tmp_path, root):
    state = tmp_path / "state"
    with serving(state, "--auth", "none", "--workers", "1") as server:
        with open_admission(Settings(state)) as operators:
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
            (pci,) = server("GET", "/v1/backends?host=nic-1&driver=generic-pci").json()["backends"]
            assert (pci["status"], pci["endpoint_known"], pci["discovered_at"] is not None) == ("READY", True, True)

            hostile = {**ITEM, "acc_specs": {**ITEM["acc_specs"], "acc_capability": {"firmware": "\ud800"}}}
            answer = (200, {}, json.dumps({"hardware": [hostile]}).encode())
            with FakeDriver(OBEDIENT | {("GET", "/hardware"): answer}) as driver:
                body = json.dumps({"status": "READY", "type": "CRYPTO", "endpoint": driver.endpoint})
                headers = {"Content-Type": "application/json"}
                assert agent.ask("POST", "/hello", credential=None, body=body, headers=headers).status == 200
                driver.wait_for("GET", "/hardware")
                set_vfs(root, 2)  # one driver that says what nobody takes does not silence its host
                until(lambda: vfs_told(server, "nic-1") == 2)

            port = server.url.rpartition(":")[2]
            server.process.send_signal(signal.SIGKILL)  # its gunicorn ends with it
            server.process.wait()
            until(lambda: not listens(int(port)))
            for number, count in enumerate((3, 4), start=1):
                set_vfs(root, count)
                until(lambda at_least=number: len([*spool.glob("*[0-9]")]) >= at_least)  # what is begun is none yet
            agent.kill()  # with what it saw undelivered
            shutil.copytree(folder, snapshot)
            agent.start()
            with serving(state, "--auth", "none", "--workers", "1", port=int(port)) as again:
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
