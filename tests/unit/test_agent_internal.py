# SPDX-License-Identifier: Apache-2.0
"""What the internal API answers, to whom, and what it makes of hostile bodies. WSGI in this process, without a port."""

import json

import pytest
from falcon.testing import TestClient

from cyborg_reconciler.agent.drivers.dummy import DummyDriver
from cyborg_reconciler.agent.drivers.registry import Registry
from cyborg_reconciler.agent.internal import BODY_BYTES, ROUTES, Gate, Resources, make_app
from cyborg_reconciler.agent.observer import Observer
from cyborg_reconciler.agent.settings import AgentSettings
from cyborg_reconciler.agent.state import StateFolder
from cyborg_reconciler.limits import HARDWARE_BYTES, HARDWARE_DEVICES, HOST_DEVICES
from cyborg_reconciler.port_credentials import port_digest
from tests.unit.test_agent_observer import Host

UUID = "6d1c3a52-0df8-4c3d-9f6e-0a4b7f3d8a11"
HELLO = {"status": "READY", "endpoint": "localhost:4711", "type": "CRYPTO"}
PROBLEM_KEYS = {"type", "title", "status", "detail", "instance", "errors", "request_id"}
CREDENTIAL = {"Authorization": "Bearer conductors"}


class World:
    """An agent's API, on its observer and its drivers."""

    def __init__(self, path, *, drivers_credential=None, devices=1):
        self.path, self.uuid = path, UUID
        file = self.secret("drivers", drivers_credential) if drivers_credential else None
        self.folder = StateFolder(path / "state")
        self.registry = Registry([DummyDriver(devices)], self.folder, file)
        settings = AgentSettings(conductor="https://cloud.example")
        self.observer = Observer(Host(), self.registry, settings, lambda: None)
        resources = Resources(self.observer, self.registry, self.folder, lambda: self.uuid)
        resources.own_port = 1337
        self.gate = Gate(self.registry, self.secret("conductor", port_digest("conductors")))
        self.client = TestClient(make_app(self.gate, resources))

    def secret(self, name, text):
        file = self.path / name
        file.write_text(text)
        file.chmod(0o600)
        return file

    def ask(self, method, path, headers=CREDENTIAL, **more):
        return self.client.simulate_request(method, path, headers=headers, **more)

    def hello(self, body=HELLO, *, headers=None, remote_addr="127.0.0.1"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        return self.ask("POST", "/hello", headers, body=data, remote_addr=remote_addr)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def refused(answer, status):
    """The problem of an answer that is one, and is one of RFC 9457."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem.keys() == PROBLEM_KEYS
    assert (problem["status"], problem["request_id"]) == (status, answer.headers["x-openstack-request-id"])
    return problem


# ---------------------------------------------------------------------------------------------------------- who may ask
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic conductors"}])
@pytest.mark.parametrize("route", [route for route in ROUTES if route.path != "/hello"], ids=lambda route: route.path)
def test_only_the_conductors_credential_opens_the_api(world, route, headers):
    answer = world.ask(route.method, route.path.format(name="dummy"), headers)
    assert "conductors" not in answer.text
    refused(answer, 401)
    refused(world.ask("GET", "/nowhere", headers), 401)


def test_without_a_configured_credential_nobody_is_let_in(world):
    (world.path / "conductor").unlink()
    refused(world.ask("GET", "/hardware"), 401)
    refused(world.ask("GET", "/hardware", {"Authorization": "Bearer "}), 401)


def test_a_renewed_credential_counts_at_once(world):
    renewed = {"Authorization": "bearer renewed"}
    world.secret("conductor", f"{port_digest('renewed')}\n{port_digest('conductors')}\n")
    assert [world.ask("GET", "/hardware", shown).status_code for shown in (renewed, CREDENTIAL)] == [503, 503]
    world.secret("conductor", port_digest("renewed"))
    refused(world.ask("GET", "/hardware"), 401)
    assert world.ask("GET", "/hardware", renewed).status_code == 503


def test_what_the_host_holds_opens_nothing(world):
    refused(world.ask("GET", "/hardware", {"Authorization": f"Bearer {port_digest('conductors')}"}), 401)


def test_where_the_file_holds_no_digest_nobody_is_let_in_and_the_log_says_why(world, caplog):
    for text in ("conductors", f"{port_digest('conductors')}\nconductors", port_digest("conductors")[:-1]):
        world.secret("conductor", text)
        caplog.clear()
        refused(world.ask("GET", "/hardware"), 401)
        assert "is not as `cyborg-reconciler agents digest` prints it" in caplog.text
        assert "conductors" not in caplog.text


def test_what_is_not_there_is_said_in_the_same_shape(world):
    refused(world.ask("GET", "/nowhere"), 404)
    assert refused(world.ask("GET", "/discovery"), 405)["title"] == "Method Not Allowed"
    assert "POST" in world.ask("GET", "/discovery").headers["allow"]


def test_the_callers_request_id_is_kept_where_it_is_one(world):
    mine = "req-6d1c3a52-0df8-4c3d-9f6e-0a4b7f3d8a11"
    for given, kept in ((mine, True), ("req-x\r\nSet-Cookie: a", False), ("", False)):
        answer = world.ask("GET", "/nowhere", {**CREDENTIAL, "X-Openstack-Request-Id": given})
        assert (refused(answer, 404)["request_id"] == given) is kept


# --------------------------------------------------------------------------------------------- discovery and hardware
def test_a_discovery_is_begun_once_at_a_time(world):
    refused(world.ask("POST", "/discovery"), 409)  # the first run's
    world.observer.step(0.0)
    for path in ("/discovery", "/drivers/dummy/discovery"):
        answer = world.ask("POST", path)
        assert (answer.status_code, answer.json) == (202, {"status": "IN-PROGRESS"})
        refused(world.ask("POST", "/drivers/dummy/discovery"), 409)
        world.observer.step(0.0)
    refused(world.ask("POST", "/drivers/nobody/discovery"), 404)
    refused(world.ask("POST", "/discovery", body=b'{"all": true}'), 400)


def test_a_request_to_discover_may_say_what_is_to_be_ready(world):
    world.observer.step(0.0)
    assert world.observer.latest.devices["dummy"][0].setup_required
    wish = {"driver": "dummy", "address": "dummy:0", "uuid": UUID}
    assert world.ask("POST", "/discovery", body=json.dumps({"ready": [wish]}).encode()).status_code == 202
    world.observer.step(1.0)
    assert not world.observer.latest.devices["dummy"][0].setup_required
    for bad in ("all", [1], [{**wish, "uuid": "x"}], [{**wish, "address": "a b"}], [wish] * (HOST_DEVICES + 1)):
        body = json.dumps({"ready": bad}).encode()
        assert refused(world.ask("POST", "/discovery", body=body), 400)["errors"][0]["path"] == "$.ready"
    assert world.registry.wanted.addresses("dummy") == {"dummy:0"}
    assert world.ask("POST", "/discovery", body=b'{"ready": []}').status_code == 202
    world.observer.step(2.0)
    assert world.observer.latest.devices["dummy"][0].setup_required


def test_of_more_hardware_than_the_conductor_takes_the_first_is_told_and_how_much_is_not(tmp_path):
    world = World(tmp_path, devices=HARDWARE_DEVICES + 3)
    world.observer.step(0.0)
    told = world.ask("GET", "/hardware")
    assert [one["address"] for one in told.json["hardware"]] == [
        f"dummy:{number}" for number in range(HARDWARE_DEVICES)
    ]
    assert told.json["unread"][-1] == f"3 of {HARDWARE_DEVICES + 3} devices are left out"
    assert len(told.content) < HARDWARE_BYTES


def test_hardware_is_told_with_what_could_not_be_read(world):
    assert int(world.ask("GET", "/hardware").headers["retry-after"]) > 0
    refused(world.ask("GET", "/hardware"), 503)
    world.observer.step(0.0)
    for path in ("/hardware", "/drivers/dummy/hardware"):
        answer = world.ask("GET", path).json
        assert [item["acc_specs"]["acc_type"] for item in answer["hardware"]] == ["VIRTUAL"]
        assert answer["unread"] == ["no GRUB"]
    refused(world.ask("GET", "/drivers/nobody/hardware"), 404)
    world.uuid = None
    refused(world.ask("GET", "/hardware"), 503)


def test_what_the_agent_cannot_write_stands_beside_what_it_cannot_read(world):
    world.observer.step(0.0)
    (world.folder.path / "epoch.json.new").mkdir()  # nothing can be written there
    world.folder.keep_epoch(7)
    assert world.ask("GET", "/hardware").json["unread"] == ["no GRUB", *world.folder.troubles]
    assert "epoch.json: cannot be written" in world.folder.troubles[0]
    (world.folder.path / "epoch.json.new").rmdir()
    world.folder.flush()
    assert world.ask("GET", "/hardware").json["unread"] == ["no GRUB"]


def test_a_registered_driver_that_does_not_answer_is_unread_and_hides_no_other(world):
    world.observer.step(0.0)
    assert world.hello({**HELLO, "endpoint": "127.0.0.1:9"}).status_code == 200  # the discard port: nobody is there
    answer = world.ask("GET", "/hardware").json
    assert len(answer["hardware"]) == 1
    assert any("driver crypto" in reason for reason in answer["unread"])


# ---------------------------------------------------------------------------------------------------------------- hello
def test_a_driver_registers_without_a_credential_where_none_is_agreed(world):
    world.observer.step(0.0)
    answer = world.hello()
    assert (answer.status_code, answer.json) == (200, {"status": "READY"})
    assert world.registry.names() == ("dummy", "crypto")
    assert world.observer.busy == {"crypto"}
    assert world.hello({**HELLO, "name": "qat", "endpoint": "[::1]:4712"}).status_code == 200
    assert world.registry.remote("qat")[0].registration.endpoint == "[::1]:4712"


def test_where_a_credential_is_agreed_drivers_show_it(tmp_path):
    world = World(tmp_path, drivers_credential="shared")
    refused(world.hello(), 401)
    refused(world.hello(headers=CREDENTIAL), 401)
    assert world.hello(headers={"Authorization": "Bearer shared"}).status_code == 200
    (tmp_path / "drivers").unlink()
    refused(world.hello(headers={"Authorization": "Bearer shared"}), 503)


def test_drivers_register_from_this_host_alone(world):
    refused(world.hello(remote_addr="192.0.2.1"), 403)
    world.gate.own_address = "192.0.2.7"
    refused(world.hello(remote_addr="192.0.2.1"), 403)
    assert world.hello(remote_addr="192.0.2.7").status_code == 200
    assert world.hello(remote_addr="::1").status_code == 200


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ([], ["$"]),
        ("READY", ["$"]),
        ({}, ["$.endpoint", "$.status", "$.type"]),
        ({**HELLO, "status": 1, "more": 2}, ["$.more", "$.status"]),
        ({**HELLO, "status": "BUSY"}, ["$.status"]),
        ({**HELLO, "endpoint": None, "name": []}, ["$.endpoint", "$.name"]),
        ({**HELLO, "\x1b[2J": 1}, ["$.\\x1b[2J"]),
    ],
)
def test_all_that_is_wrong_with_a_hello_is_said_at_once(world, body, paths):
    assert [error["path"] for error in refused(world.hello(body), 400)["errors"]] == paths


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "192.0.2.1:80"},
        {"endpoint": "localhost:1337"},
        {"endpoint": "\ud800:1"},
        {"type": "crypto"},
        {"type": ""},
        {"name": "dummy"},
        {"name": "../../etc"},
        {"name": "A" * 100},
    ],
)
def test_a_hello_that_leads_elsewhere_is_refused(world, change):
    refused(world.hello({**HELLO, **change}), 400)
    assert world.registry.names() == ("dummy",)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 60_000, b'{"status": ' + b"9" * 5000 + b"}", b"nul"])
def test_what_is_no_json_is_refused(world, body):
    refused(world.hello(body), 400)


def test_a_body_is_bounded_and_of_its_type(world):
    refused(world.hello(b" " * (BODY_BYTES + 1)), 413)
    refused(world.hello(headers={"Content-Type": "text/plain"}), 415)
    assert world.hello(headers={"Content-Type": "Application/JSON; charset=utf-8"}).status_code == 200


def test_every_route_has_its_method_and_its_causes():
    for route in ROUTES:
        assert hasattr(Resources, f"on_{route.method.lower()}_{route.noun}")
        assert set(route.causes) >= ({400} if route.path == "/hello" else {401})
