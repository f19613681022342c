# SPDX-License-Identifier: Apache-2.0
"""A server with its worker, over simulated hosts and real Ansible: what is enqueued is done at once, whatever dies.

All hosts are looked at once, when the worker starts, and then not for a day: what happens comes of the queue.
"""

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.adapters.ansible import processes
from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import guest_1, qat_1
from tests.integration.ansible_support import wait_until
from tests.integration.api_support import problem, serving
from tests.integration.console import open_console
from tests.queueing import enqueue

pytestmark = pytest.mark.slow

QAT = "/sys/bus/pci/devices/0000:6b:00.0/sriov_numvfs"
NIC = "/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs"
DAY_S = "86400"
#: A card whose module and driver have two names.
CARD = "0000:6b:00.0"
CARD_DRIVER = """\
api_version: cyborg/v1
kind: Driver
metadata: {name: qat}
spec: {device_type: CRYPTO, kernel_module: qat_4xxx, match: [{vendor_id: "8086", product_id: ["4940"]}]}
"""
#: A look takes seconds, and on a busy machine a minute.
LOOKS_S = 300.0


class Place:
    """A console with three hosts, and the server over its state. `guest-1` needs somebody's consent."""

    def __init__(self, console, server):
        self.console, self.server = console, server

    def enqueue(self, *hosts):
        with open_journal(self.console.state, exclusive=False) as journal:
            enqueue(journal.work(), hosts, "CheckedIn", datetime.now(UTC))

    def queued(self):
        with open_journal(self.console.state, exclusive=False) as journal:
            return [item.host for item in journal.work().take(9, datetime.max.replace(tzinfo=UTC))]

    def wait_for(self, host, *wanted):
        def standing():
            record = self.console.status(host)
            return record["sync"], record["phase"]

        wait_until(lambda: standing() == wanted and not self.queued(), LOOKS_S)

    def run(self, uuid):
        return self.server("GET", f"/v1/runs/{uuid}").json()

    def ask(self, wish, host="qat-1", driver="virtio-crypto", **headers):
        return self.server("POST", f"/v1/hosts/{host}/drivers/{driver}/{wish}", **headers)

    def hardware(self, host):
        """The hardware of a host by its address, without what says which host it is."""
        found = self.server("GET", f"/v1/hosts/{host}/hardware?limit=1000").json()["hardware"]
        return {one["address"]: {**one, "uuid": "", "host": ""} for one in found}

    def children(self):
        """Return the processes of the server's own, by whether they are the worker."""
        found = [pid for pid, parent in processes.read_parents().items() if parent == self.server.process.pid]
        return {"worker" if " worker " in processes.read_command(pid) else "server": pid for pid in found}

    def log(self):
        return (self.console.folder / "state.log").read_text()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with open_console(tmp_path_factory.mktemp("worker"), qat_1(), guest_1(), qat_1("qat-2")) as console:
        (console.policies / "drivers.yml").write_text(CARD_DRIVER)
        console.declare(
            "qat", host_selector={"names": ["qat-1"]}, device_selector={"product_id": "4940"}, sriov={"num_vfs": 4}
        )
        console.declare("nic", device_selector={"product_id": "10c9"}, sriov={"num_vfs": 0})
        console.declare("crypto", host_selector={"names": ["guest-1"]}, driver={"name": "virtio-crypto"})
        console.declare_pool(host_selector={"names": ["qat-*"]}, approval="automatic")
        words = ["--auth", "none", "--workers", "1", "--interval", DAY_S]
        words += ["--inventory", str(console.inventory), "--policies", str(console.policies)]
        with serving(console.state, *words) as server:
            place = Place(console, server)
            assert server("GET", "/v1/accelerators").status == 200  # there is a journal now
            wait_until(lambda: len(console.memory("status")) == 3, LOOKS_S)
            place.wait_for("qat-1", "Synced", "Idle")
            yield place


def test_the_worker_is_a_service_that_is_up(place):
    def shown():
        found = place.server("GET", "/v1/services").json()["services"]
        return {(one["type"], one["status"], one["message"]) for one in found}

    wait_until(lambda: shown() == {("api", "up", ""), ("conductor", "up", ""), ("worker", "up", "at work")}, LOOKS_S)


def test_drift_of_a_host_that_is_enqueued_shows_and_waits_for_consent(place):
    guest = place.console["guest-1"]
    before = place.console.status("guest-1")
    guest.write(NIC, 2)
    place.enqueue("guest-1")
    place.wait_for("guest-1", "OutOfSync", "PendingApproval")
    assert before["sync"] != "OutOfSync"
    assert place.server("GET", "/v1/hosts/guest-1").json()["groups"] == ["all", "guests"]
    assert guest.read(NIC) == "2"
    guest.write(NIC, 0)


def test_what_the_worker_does_is_told_by_the_server(place):
    lines = place.server("GET", "/metrics").data.decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("cyborg_reconciler_"))
    assert float(found['cyborg_reconciler_passes_total{kind="all",result="ok"}']) >= 1
    assert float(found['cyborg_reconciler_pass_seconds_total{kind="all",result="ok"}']) > 0
    assert float(found['cyborg_reconciler_last_pass_timestamp_seconds{kind="all",result="ok"}']) > 0
    assert float(found['cyborg_reconciler_lease_held{name="worker"}']) == 1
    assert "cyborg_reconciler_queue_age_seconds" in found
    assert "# TYPE cyborg_reconciler_passes_total counter" in lines


def test_drift_of_a_host_that_needs_no_consent_is_corrected_at_once(place):
    host = place.console["qat-1"]
    host.write(QAT, 0)
    place.enqueue("qat-1", "nobody-knows-me")
    wait_until(lambda: host.read(QAT) == "4", LOOKS_S)
    place.wait_for("qat-1", "Synced", "Idle")
    assert "nobody-knows-me: CheckedIn: there is no such host; it is forgotten" in place.log()


def test_a_driver_is_installed_over_http_and_its_run_comes_out(place):
    request = f"req-{uuid4()}"
    answer = place.ask("install", x_openstack_request_id=request)
    asked = answer.json()
    assert (answer.status, answer.headers["Location"]) == (202, f"/v1/runs/{asked['uuid']}")
    assert (asked["status"], asked["state"], asked["host"]) == ("pending", "present", "qat-1")
    wait_until(lambda: place.run(asked["uuid"])["ended_at"], LOOKS_S)
    run = place.run(asked["uuid"])
    assert run["request_id"] == request
    of_host = place.server("GET", "/v1/runs?host=qat-1").json()["runs"]
    assert [one["uuid"] for one in of_host if one["plan_uuid"] == run["plan_uuid"]] == [asked["uuid"]], (
        "one run, one row"
    )
    told = place.server("GET", f"/v1/runs/{asked['uuid']}/events").json()["events"]
    assert {one["kind"] for one in told} == {"RunStarted", "ApplyStarted", "ApplyEnded", "RunEnded"}
    assert {one["data"]["request_id"] for one in told} == {request}
    lines = [line for line in place.log().splitlines() if f"[{request}]" in line and "cyborg_reconciler.worker" in line]
    assert any("host=qat-1" in line for line in lines), place.log()
    assert (run["status"], run["message"], [of["status"] for of in run["hosts"]]) == ("applied", "", ["applied"])
    assert (place.console["qat-1"].root / "sys/module/virtio_crypto").exists()
    place.wait_for("qat-1", "Synced", "Idle")
    planned = place.server("POST", "/v1/plans", {"hosts": ["qat-1"]}).json()
    assert [host["sync"] for host in planned["hosts"]] == ["Synced"], (
        "whoever plans knows what is declared over the API"
    )
    assert problem(place.server("POST", f"/v1/runs/{asked['uuid']}/cancel"), 409).detail


def test_a_driver_that_a_policy_declares_is_the_policys_and_what_is_not_there_is_not_found(place):
    for wish in ("install", "update", "uninstall"):
        assert "policy crypto (" in problem(place.ask(wish, host="guest-1"), 409).detail
        problem(place.ask(wish, host="nowhere"), 404)
        problem(place.ask(wish, driver="none-such"), 404)
    problem(place.server("POST", "/v1/hosts/qat-1/drivers/virtio-crypto/install?version=a+b"), 400)


def test_an_accelerator_that_is_set_ready_is_offered_once_verified_and_attached_to_its_host(place):
    server = place.server
    (card,) = server("GET", "/v1/accelerators?host=guest-1&driver=virtio-crypto").json()["accelerator"]
    path = f"/v1/accelerators/{card['uuid']}"
    assert card["state"] == "inactive"
    wanted = [{"op": "replace", "path": "/desired_state", "value": "ready"}]
    assert server("PATCH", path, wanted).status == 200
    wait_until(lambda: server("GET", path).json()["state"] == "ready", LOOKS_S)
    assert server("GET", path).json()["acc_status"]["health"] == "Healthy"
    attached = server("PUT", path, {"host": "guest-1"})
    assert (attached.status, attached.json()["attachment"]["status"]) == (200, "pending")
    wait_until(lambda: server("GET", path).json()["attachment"]["status"] == "done", LOOKS_S)
    assert server("DELETE", path).status == 204


def test_a_card_is_attached_to_its_host_with_the_driver_of_the_module_whatever_that_is_called(place):
    host, server = place.console["qat-2"], place.server
    host.run("modprobe", "vfio-pci")
    host.write(f"/sys/bus/pci/devices/{CARD}/driver_override", "vfio-pci")
    host.write("/sys/bus/pci/drivers/4xxx/unbind", CARD)
    host.write("/sys/bus/pci/drivers_probe", CARD)
    (card,) = server("GET", "/v1/accelerators?host=qat-2&driver=qat").json()["accelerator"]
    path = f"/v1/accelerators/{card['uuid']}"
    assert server("PATCH", path, [{"op": "replace", "path": "/desired_state", "value": "ready"}]).status == 200
    wait_until(lambda: server("GET", path).json()["state"] == "ready", LOOKS_S)
    assert host.link_name(f"/sys/bus/pci/devices/{CARD}/driver") == "vfio-pci"
    assert server("PUT", path, {"host": "qat-2"}).status == 200
    wait_until(lambda: server("GET", path).json()["attachment"]["status"] == "done", LOOKS_S)
    assert host.link_name(f"/sys/bus/pci/devices/{CARD}/driver") == "4xxx"
    place.wait_for("qat-2", "Synced", "Idle")
    assert server("DELETE", path).status == 204
    wait_until(lambda: host.link_name(f"/sys/bus/pci/devices/{CARD}/driver") == "vfio-pci", LOOKS_S)


def test_a_host_that_only_its_agent_knows_is_looked_at_when_it_checks_in_and_asked_nothing(place):
    guest = place.console["guest-1"]
    guest.write(NIC, 2)
    assert place.server("POST", "/v1/hosts/guest-1/discovery").status == 202  # it has no agent: Ansible looks
    place.wait_for("guest-1", "OutOfSync", "PendingApproval")
    by_ansible = place.hardware("guest-1")
    facts = json.loads(json.dumps(gather(Tree(str(guest.root)), connection="local")))
    guest.write(NIC, 0)
    with open_admission(Settings(place.console.state)) as operators:
        minted = operators.enrol(Caller("operator", Role.ADMIN), "stray", timedelta(hours=1))
    inventory = {"agent_version": "0.1.0", "inventory": {"hostname": "stray"}}
    token = place.server("POST", "/v1/lookup", inventory, authorization=f"Bearer {minted}").json()["token"]
    told = {"agent_version": "0.1.0", "boot_id": "b", "epoch": 1, "sequence": 1, "fingerprint": facts["fingerprint"]}
    answer = place.server("POST", "/v1/heartbeat/stray", {**told, "facts": facts}, authorization=f"Bearer {token}")
    assert answer.status == 202, answer.data
    assert place.hardware("stray") == by_ansible, "whoever looked, it is the same"
    assert len([one for one in by_ansible.values() if one["acc_specs"]["acc_type"] == "VF"]) == 2
    wait_until(lambda: place.server("GET", "/v1/hosts/stray").json()["sync"] == "OutOfSync", LOOKS_S)
    shown = place.server("GET", "/v1/hosts/stray").json()
    assert (shown["reason"], shown["phase"]) == ("NoConnection", "Idle")
    assert place.console.status("stray")["observed_at"] is not None


def test_server_and_worker_end_with_the_process_that_started_them_however_that_ends(place):
    both = place.children()
    assert set(both) == {"server", "worker"}
    place.server.process.kill()
    wait_until(lambda: not set(both.values()) & processes.read_parents().keys(), 120)
