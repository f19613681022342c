# SPDX-License-Identifier: Apache-2.0
"""The conductor calls agents at their own port: only where the inventory says, and whatever is answered there."""

import json
import os
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cyborg_reconciler.adapters.agent_port import HttpAgentPort, Terms
from cyborg_reconciler.adapters.ansible.inventory import parse_inventory
from cyborg_reconciler.bootstrap import SystemClock, open_admission, open_stores
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.discovery import Discovery
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.errors import (
    AgentUnreachableError,
    ConflictError,
    InventoryUnreadableError,
    NotFoundError,
    SettingsInvalidError,
)
from cyborg_reconciler.limits import HARDWARE_BYTES
from cyborg_reconciler.port_credentials import port_credential, port_digest
from cyborg_reconciler.ports import Event
from cyborg_reconciler.settings import PREFIX, Settings
from cyborg_reconciler.simulation import nic_1, write_tree
from cyborg_reconciler.stores.agents import Agent, AgentAddress, DesiredDevice, Enrolment, Inventory
from tests.integration.agent_support import CREDENTIAL, ITEM, OBEDIENT, SECRET, AgentProcess, FakeDriver
from tests.integration.api_support import problem, serving, until
from tests.integration.certificates import Authority
from tests.integration.fake_conductor import FakeConductor
from tests.integration.http_driver import HttpDriver

HOST = "nic-1"
DISCOVERY, HARDWARE = ("POST", "/discovery"), ("GET", "/hardware")
WISH = DesiredDevice("dummy", "dummy:0", ITEM["uuid"])


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    path = tmp_path_factory.mktemp("secret") / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def port(secret):
    return HttpAgentPort(Terms(secret))


def at(endpoint, host=HOST, scheme="http"):
    return AgentAddress(host, f"{scheme}://{endpoint}")


# ------------------------------------------------------------------------------------------- whatever is answered there
def test_who_answers_as_an_agent_does_is_asked_once_with_its_own_credential(port):
    with FakeDriver(OBEDIENT) as agent:
        port.discover(at(agent.endpoint), None, [WISH])
        assert port.hardware(at(agent.endpoint))["hardware"][0]["uuid"] == ITEM["uuid"]
        assert agent.asked == [(*DISCOVERY, f"Bearer {CREDENTIAL}"), (*HARDWARE, f"Bearer {CREDENTIAL}")]


def test_a_redirect_is_followed_nowhere(port):
    with FakeDriver(OBEDIENT) as other:
        headers = {"Location": f"http://{other.endpoint}/hardware"}
        for status in (301, 302, 303, 307, 308):
            with FakeDriver({DISCOVERY: (status, headers, b""), HARDWARE: (status, headers, b"")}) as agent:
                with pytest.raises(AgentUnreachableError, match=str(status)):
                    port.discover(at(agent.endpoint), None, [])
                with pytest.raises(AgentUnreachableError, match=str(status)):
                    port.hardware(at(agent.endpoint))
        assert other.asked == []


LIES = {
    "no JSON": b"<html>",
    "no object": b"[]",
    "something else": b'{"status": "DONE", "hardware": "none"}',
    "nothing": b"",
    "no text": b"\xff\xfe",
    "nested without end": b'{"hardware": ' + b"[" * 100_000,
    "no uuid": json.dumps({"hardware": [ITEM | {"uuid": "../x"}]}).encode(),
    "too many": json.dumps({"hardware": [], "unread": ["x"] * 2000}).encode(),
    "too long": b'{"hardware": [], "more": "' + b"x" * HARDWARE_BYTES + b'"}',
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_an_answer_that_is_none_is_as_if_nobody_had_answered(port, lie):
    with FakeDriver({DISCOVERY: (202, {}, lie), HARDWARE: (200, {}, lie)}) as agent:
        with pytest.raises(AgentUnreachableError):
            port.discover(at(agent.endpoint), None, [])
        with pytest.raises(AgentUnreachableError):
            port.hardware(at(agent.endpoint))


def test_what_an_agent_refuses_has_its_cause(port):
    paths = {("POST", "/drivers/a%2Fb/discovery"): (404, {}, b""), DISCOVERY: (409, {}, b"")}
    with FakeDriver(paths) as agent:
        with pytest.raises(NotFoundError, match="a/b"):
            port.discover(at(agent.endpoint), "a/b", [])
        with pytest.raises(ConflictError, match="at one already"):
            port.discover(at(agent.endpoint), None, [])
        endpoint = agent.endpoint
    with pytest.raises(AgentUnreachableError):
        port.hardware(at(endpoint))  # it has gone


@pytest.mark.parametrize(("text", "mode", "why"), [(SECRET, 0o644, "others may read it"), ("s3cret", 0o600, "guess")])
def test_of_a_secret_that_others_may_know_nothing_is_shown_to_anybody(tmp_path, text, mode, why):
    file = tmp_path / "secret"
    file.write_text(text)
    file.chmod(mode)
    with FakeDriver(OBEDIENT) as agent:
        with pytest.raises(AgentUnreachableError, match=why):
            HttpAgentPort(Terms(file)).hardware(at(agent.endpoint))
        assert agent.asked == []


def test_with_certificates_each_side_knows_the_other(tmp_path, secret):
    ours, strangers = Authority(tmp_path, "ours"), Authority(tmp_path, "strangers")
    own, key, _ = ours.issue("agent")
    write_tree(nic_1(), tmp_path / "host")
    files = {"tls_cert_file": own, "tls_key_file": key, "tls_client_ca_file": ours.file, "dummy_devices": 1}
    with FakeConductor(host=HOST, interval_s=3600) as conductor:
        agent = AgentProcess.make(tmp_path / "agent", conductor, tmp_path / "host", **files)
        with agent:
            conductor.wait_for(conductor.check_ins)
            there = at(f"127.0.0.1:{agent.port}", scheme="https")
            cert, cert_key, _ = ours.issue("conductor")
            found = HttpAgentPort(Terms(secret, ours.file, cert, cert_key)).hardware(there, "dummy")
            assert [one["acc_specs"]["acc_type"] for one in found["hardware"]] == ["VIRTUAL"]
            for terms in (
                Terms(secret, ours.file),
                Terms(secret, strangers.file, cert, cert_key),
                Terms(secret, ours.file, *strangers.issue("stranger")[:2]),
            ):
                with pytest.raises(AgentUnreachableError):
                    HttpAgentPort(terms).hardware(there)


# --------------------------------------------------------------------------------------------- where the inventory says
@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", ""),
        ("compute-7:1338", "https://compute-7:1338"),
        ("https://compute-7", "https://compute-7:1337"),
        ("http://127.0.0.1:4711", "http://127.0.0.1:4711"),
        ("http://compute-7:1337", None),
        ("https://user@compute-7", None),
        ("https://compute-7/elsewhere", None),
        ("ftp://compute-7", None),
        ("{{ ansible_host }}:1337", None),
        ("compute-7:port", None),
        (4711, None),
    ],
)
def test_an_endpoint_is_a_name_and_a_port_and_the_credential_does_not_travel_in_the_clear(given, url):
    inventory = {
        "_meta": {"hostvars": {HOST: {"cyborg_agent_endpoint": given}}},
        "all": {"children": ["ungrouped"]},
        "ungrouped": {"hosts": [HOST]},
    }
    if url is None:
        with pytest.raises(InventoryUnreadableError, match="cyborg_agent_endpoint"):
            parse_inventory(json.dumps(inventory).encode())
    else:
        (host,) = parse_inventory(json.dumps(inventory).encode())
        assert host.agent_endpoint == url


@pytest.fixture(scope="module")
def site(tmp_path_factory, secret):
    """A server whose agent checks in once an hour: what happens sooner, the conductor has asked for."""
    folder = tmp_path_factory.mktemp("agent_port")
    write_tree(nic_1(), folder / "host")
    state = folder / "state"
    settings = {"heartbeat_interval_s": 3600, "agent_secret_file": secret}
    with (
        serving(state, "--auth", "none", "--workers", "1", **settings) as server,
        open_admission(Settings(state)) as operators,
    ):
        enrolment = operators.enrol(Caller("operator", Role.ADMIN), HOST, timedelta(hours=1))
        agent = AgentProcess.make(folder / "agent", server, folder / "host", dummy_devices=1)
        agent.secret("enrolment", enrolment)
        with agent:
            server.agent, server.state, server.operators, server.secret = agent, state, operators, secret
            until(lambda: server("GET", f"/v1/accelerators?host={HOST}&driver=dummy").json()["accelerator"])
            yield server


def put_endpoint(site, host, endpoint):
    """What the worker does with what the inventory says."""
    with open_stores(Settings(site.state)) as stores:
        stores.journal.record_inventory([Host(host, agent_endpoint=endpoint)])


def waiting(site, host):
    return site.operators.store.commands(host)


def test_a_host_without_an_endpoint_is_not_called_whatever_its_hello_said(site):
    assert site("POST", f"/v1/hosts/{HOST}/discovery").json() == {"status": "IN-PROGRESS"}
    assert [one.command for one in waiting(site, HOST)] == ["discover"]  # it would have been asked at its hello's
    site.operators.store.done(HOST, [one.id for one in waiting(site, HOST)])


def test_the_agent_is_asked_at_its_own_port_and_has_its_driver_set_up_what_is_wanted(site):
    put_endpoint(site, HOST, f"http://127.0.0.1:{site.agent.port}")
    (one,) = site("GET", f"/v1/accelerators?host={HOST}&driver=dummy").json()["accelerator"]
    step = {"op": "replace", "path": "/state", "value": "ready"}
    path = f"/v1/accelerators/{one['uuid']}"
    assert site("PATCH", path, [step], content_type="application/json-patch+json").status == 200
    until(lambda: site("GET", path).json()["state"] == "ready")
    until(lambda: site("POST", f"/v1/hosts/{HOST}/discovery").status == 202)
    assert waiting(site, HOST) == []
    assert problem(site("POST", f"/v1/hosts/{HOST}/drivers/nobody/discovery"), 404)

    environ = {**os.environ, f"{PREFIX}AGENT_SECRET_FILE": str(site.secret)}
    program = Path(sys.executable).parent / "cyborg-reconciler"
    words = [program, "agents", "hardware", HOST, "--driver", "dummy", "--state", site.state, "--output", "json"]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    assert [each["uuid"] for each in json.loads(done.stdout)["hardware"]] == [one["uuid"]]
    shown = subprocess.run([*words[:4], "--state", site.state], env=environ, capture_output=True, text=True, check=True)
    assert {"dummy:0", one["uuid"]} <= set(shown.stdout.split())
    assert re.search(r"0000:ca:00\.1 +[0-9a-f]{4}:[0-9a-f]{4} +NIC", shown.stdout)


def test_what_opens_the_port_of_one_host_opens_no_others_and_nor_does_what_a_host_holds(site, port):
    here = f"127.0.0.1:{site.agent.port}"
    assert port.hardware(at(here), "dummy")["hardware"]
    for other in ("nic-2", "Nic-1", "nic-1.example.com"):
        assert site.agent.ask("GET", "/hardware", credential=port_credential(SECRET, other)).status == 401
        with pytest.raises(AgentUnreachableError, match="401"):
            port.hardware(at(here, other))
    held = (site.agent.folder / "digest").read_text().strip()
    assert [site.agent.ask("GET", "/hardware", credential=one).status for one in (held, SECRET)] == [401, 401]


def test_while_the_secret_is_renewed_the_agent_knows_the_conductor_by_both(site, port):
    here, renewed = f"127.0.0.1:{site.agent.port}", port_credential(SECRET[::-1], HOST)
    try:
        site.agent.secret("digest", "\n".join(map(port_digest, (renewed, CREDENTIAL))))
        assert site.agent.ask("GET", "/hardware", credential=renewed).status == 200
        assert port.hardware(at(here), "dummy")["hardware"]
        site.agent.secret("digest", port_digest(renewed))
        with pytest.raises(AgentUnreachableError, match="401"):
            port.hardware(at(here))
    finally:
        site.agent.secret("digest", port_digest(CREDENTIAL))


def test_who_cannot_be_asked_for_its_hardware_is_told_from_others_with_the_remedy(site):
    store, at = site.operators.store, datetime.now(UTC)
    for host, approved, token in (("revoked-1", True, ""), ("waits-1", False, "token of waits-1")):
        store.mint(host, Enrolment(host, at + timedelta(hours=1)), Event(at, "Minted", host))
        agent = Agent(host=host, uuid="", token_hash=token, approved=approved)
        assert store.enrol(agent, host, Inventory(host), Event(at, "AgentEnrolled", host))
    store.mint("no-agent-1", Enrolment("no-agent-1", at), Event(at, "Minted", "no-agent-1"))
    discovery = Discovery(store, SystemClock())
    for host, found, remedy in (
        ("nowhere-1", "there is none", "status"),
        ("no-agent-1", "it has none", "agents enrol no-agent-1"),
        ("revoked-1", "it was revoked", "agents enrol revoked-1"),
        ("waits-1", "it waits for approval", "agents approve waits-1"),
    ):
        with pytest.raises(NotFoundError, match=found) as refused:
            discovery.hardware(host)
        assert remedy in str(refused.value)


def test_an_agent_that_is_looking_already_is_a_conflict(site):
    put_endpoint(site, HOST, f"http://127.0.0.1:{site.agent.port}")
    begun, go_on = threading.Event(), threading.Event()

    class Slow(HttpDriver):
        def discover(self, body):
            super().discover(body)
            begun.set()
            go_on.wait(60)

    with Slow() as driver:
        headers = {"Content-Type": "application/json"}
        site.agent.ask("POST", "/hello", credential=None, body=json.dumps(driver.hello), headers=headers)
        assert begun.wait(60)
        try:
            for tail in ("", "/drivers/outside"):
                told = problem(site("POST", f"/v1/hosts/{HOST}{tail}/discovery"), 409)
                assert "at one already" in told.detail
        finally:
            go_on.set()


def test_where_nobody_answers_it_is_told_when_it_checks_in(site):
    with FakeDriver({DISCOVERY: (401, {}, b"")}) as stranger:
        put_endpoint(site, HOST, f"http://{stranger.endpoint}")
        assert site("POST", f"/v1/hosts/{HOST}/discovery").json() == {"status": "IN-PROGRESS"}
        assert [one.command for one in waiting(site, HOST)] == ["discover"]
        assert len(stranger.asked) == 1


def test_a_secret_that_is_none_ends_the_server_at_once(tmp_path):
    from cyborg_reconciler.bootstrap import agent_port  # noqa: PLC0415 - beside what it is about

    with pytest.raises(SettingsInvalidError, match="the secret of agents' ports"):
        agent_port(Settings(tmp_path, agent_secret_file=str(tmp_path / "nowhere")))
