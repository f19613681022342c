# SPDX-License-Identifier: Apache-2.0
"""The whole path, API → conductor → agent → driver and back: a server and its worker, an agent, an obedient driver.

The driver has no hardware. It runs in the agent's process, and once more behind a port of its own.
"""

import json
import sys
from datetime import timedelta

import pytest

from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import nic_1, write_tree
from tests.integration.agent_support import AgentProcess
from tests.integration.api_support import problem, serving, until
from tests.integration.http_driver import HttpDriver

HOST = "nic-1"
INSTANCE = "7e0c5c3e-6b0c-4e0a-9d5b-0d8f3a1c2b4d"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole_path")
    (folder / "policies").mkdir()
    write_tree(nic_1(), folder / "host")
    state = folder / "state"
    often = {"heartbeat_interval_s": 1, "save_out_interval_s": 1, "interval_s": 60}
    with serving(state, "--auth", "none", "--workers", "1", "--policies", str(folder / "policies"), **often) as server:
        with open_admission(Settings(state)) as operators:
            enrolment = operators.enrol(Caller("operator", Role.ADMIN), HOST, timedelta(hours=1))
        agent = AgentProcess.make(folder / "agent", server, folder / "host", dummy_devices=2)
        agent.secret("enrolment", enrolment)
        with agent:
            server.agent, server.log = agent, folder / "state.log"
            yield server
            (folder / "agent.log").write_text("\n".join(agent.lines))


@pytest.fixture(autouse=True)
def _said(server):
    """What server, worker and agent said is shown beside a test that fails."""
    yield
    lines = [line for line in server.log.read_text(encoding="utf-8").splitlines() if "method=GET" not in line]
    sys.stdout.write("\n".join([*lines[-60:], *server.agent.lines[-60:]]))


def found(server, driver):
    """The accelerators of a driver, once there are some."""
    path = f"/v1/accelerators?host={HOST}&driver={driver}"
    until(lambda: server("GET", path).json()["accelerator"])
    return server("GET", path).json()["accelerator"]


def show(server, uuid):
    return server("GET", f"/v1/accelerators/{uuid}").json()


def want(server, uuid, state):
    answer = server(
        "PATCH",
        f"/v1/accelerators/{uuid}",
        [{"op": "replace", "path": "/desired_state", "value": state}],
        content_type="application/json-patch+json",
    )
    assert answer.status == 200, answer.data
    return answer.json()


def events(server, kind):
    return [one for one in server("GET", f"/v1/events?kind={kind}&limit=1000").json()["events"] if one["host"] == HOST]


def test_a_device_of_the_agents_own_driver_is_ready_once_it_was_set_up_and_told_so(server):
    first, second = found(server, "dummy")
    assert {first["state"], second["state"]} == {"inactive"}
    assert first["acc_status"] == {"setup_required": True, "reboot_required": False, "health": "Healthy", "reason": ""}
    problem(server("PUT", f"/v1/accelerators/{first['uuid']}", {"name": first["name"]}), 409)

    assert want(server, first["uuid"], "ready")["state"] == "inactive"  # wanted, and not verified yet
    until(lambda: show(server, first["uuid"])["state"] == "ready")
    assert show(server, first["uuid"])["acc_status"]["setup_required"] is False
    assert show(server, second["uuid"])["state"] == "inactive"
    assert [one["data"]["accelerator"] for one in events(server, "AcceleratorReady")] == [first["uuid"]]

    body = {"name": first["name"], "instance_uuid": INSTANCE}
    assert server("PUT", f"/v1/accelerators/{first['uuid']}", body).json()["attachment"]["status"] == "done"
    assert server("DELETE", f"/v1/accelerators/{first['uuid']}").status == 204
    assert show(server, first["uuid"])["state"] == "ready"  # detached, and there all the same

    want(server, first["uuid"], "inactive")
    until(lambda: show(server, first["uuid"])["acc_status"]["setup_required"])
    assert show(server, first["uuid"])["state"] == "inactive"


def test_a_device_that_is_claimed_goes_through_its_driver_and_is_ready_once_that_said_so(server):
    one = found(server, "dummy")[1]
    assert (one["state"], one["desired_state"]) == ("inactive", "inactive")
    assert server("POST", "/v1/accelerators", {"name": "crypto for tests", "uuid": one["uuid"]}).status == 201
    until(lambda: show(server, one["uuid"])["state"] == "ready")
    assert (show(server, one["uuid"])["name"], show(server, one["uuid"])["desired_state"]) == (
        "crypto for tests",
        "ready",
    )
    want(server, one["uuid"], "inactive")


def run_of(server, verb, driver="dummy"):
    """Ask for a driver, and return the status of the run once it is over."""
    answer = server("POST", f"/v1/hosts/{HOST}/drivers/{driver}/{verb}", {})
    assert answer.status == 202, answer.data
    uuid = answer.json()["uuid"]
    until(lambda: server("GET", f"/v1/runs/{uuid}").json()["status"] != "pending")
    return server("GET", f"/v1/runs/{uuid}").json()["status"]


def test_a_driver_that_is_uninstalled_lets_go_of_its_devices_until_it_is_installed_again(server):
    uuid = found(server, "dummy")[1]["uuid"]
    want(server, uuid, "ready")
    until(lambda: show(server, uuid)["state"] == "ready")
    assert run_of(server, "uninstall") == "applied"
    until(lambda: show(server, uuid)["acc_status"]["setup_required"])
    assert (show(server, uuid)["state"], show(server, uuid)["desired_state"]) == ("inactive", "ready")
    assert run_of(server, "install") == "applied"
    until(lambda: show(server, uuid)["state"] == "ready")


def test_a_driver_of_the_catalogue_that_is_uninstalled_takes_its_ready_device_along_and_stops_nothing_else(server):
    path = f"/v1/accelerators?host={HOST}&driver=generic-pci&device_type=NVME"
    until(lambda: server("GET", path).json()["accelerator"])
    (uuid,) = (one["uuid"] for one in server("GET", path).json()["accelerator"] if "c2:00" in one["name"])
    want(server, uuid, "ready")
    until(lambda: show(server, uuid)["state"] == "ready")
    assert run_of(server, "uninstall", "generic-pci") == "applied"
    until(lambda: show(server, uuid)["state"] == "inactive")
    assert (show(server, uuid)["desired_state"], show(server, uuid)["acc_status"]["setup_required"]) == ("ready", True)
    host = server("GET", f"/v1/hosts/{HOST}").json()
    assert host["reason"] == "", "two wishes of operators are no conflict that stops a host"
    assert run_of(server, "install", "generic-pci") == "applied"
    until(lambda: show(server, uuid)["state"] == "ready")


def test_a_driver_behind_a_port_of_its_own_is_told_and_believed_alike(server):
    with HttpDriver() as driver:
        headers = {"Content-Type": "application/json"}
        said = server.agent.ask("POST", "/hello", credential=None, body=json.dumps(driver.hello), headers=headers)
        assert said.status == 200
        (one,) = found(server, "outside")
        assert (one["state"], one["acc_specs"]["acc_type"], one["host"]) == ("inactive", "VIRTUAL", HOST)
        hardware = server("GET", f"/v1/hosts/{HOST}/hardware?limit=1000").json()["hardware"]
        assert one["uuid"] in {each["uuid"] for each in hardware}
        want(server, one["uuid"], "ready")
        until(lambda: show(server, one["uuid"])["state"] == "ready")
        assert driver.told[-1] == {"ready": [one["uuid"]]}

        server.agent.kill()  # what is wanted is known after a restart too
        driver.driver.set_up([])
        driver.told.clear()
        server.agent.lines.clear()
        server.agent.start()
        until(lambda: driver.told and driver.driver.discover({})[0].setup_required is False)
        until(lambda: server.agent.ask("GET", "/hardware").status == 200)
        assert driver.told[0] == {"ready": [one["uuid"]]}
    sent = server.agent.ask("GET", "/hardware").json["unread"]
    assert any(line.startswith("driver outside") for line in sent)
    assert show(server, one["uuid"])["state"] == "ready"  # it is silent, and nobody says that it is gone
