# SPDX-License-Identifier: Apache-2.0
"""TLS over real sockets: who is let in, and that a renewed certificate is served without losing a request."""

import json
import signal
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import urllib3
from cryptography import x509

from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.cli.remote import find_remote
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import nic_1, write_tree
from tests.integration.agent_support import AgentProcess
from tests.integration.api_support import running, serving
from tests.integration.certificates import Authority
from tests.integration.console import PROGRAM, QUIET, call
from tests.needs import missing

#: Nobody waits for this: a wait ends when what it is for has come.
PATIENCE_S = 120


class Place:
    """A server with TLS that asks for certificates, and what issues them."""

    def __init__(self, server, state, authority):
        self.server, self.authority = server, authority
        self.log, self.config = state.with_suffix(".log"), state.parent / "config/cyborg-reconciler/config.toml"
        self.file, self.key, _ = authority.issue("client")
        server.pool = self.pool(cert_file=str(self.file), key_file=str(self.key))

    def pool(self, **more):
        return urllib3.PoolManager(maxsize=8, retries=False, ca_certs=str(self.authority.file), **more)

    def context(self):
        context = ssl.create_default_context(cafile=self.authority.file)
        context.load_cert_chain(self.file, self.key)
        return context

    def connect(self, context):
        """Shake hands, ask for something, and return the server's certificate; with TLS 1.3 a refusal comes with it."""
        parts = urlsplit(self.server.url)
        with (
            socket.create_connection((parts.hostname, parts.port), timeout=60) as raw,
            context.wrap_socket(raw, server_hostname=parts.hostname) as connection,
        ):
            connection.sendall(b"GET /v1/accelerators HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(8) == b"HTTP/1.1"
            return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))

    def serial(self):
        return self.connect(self.context()).serial_number

    def reload(self):
        """Tell the server to read all anew, and return what it says of that."""
        before = self.log.stat().st_size
        self.server.process.send_signal(signal.SIGHUP)
        return wait_for(lambda: self.said_since(before))

    def said_since(self, position):
        """What the log says of reading anew after *position*, once the workers that had begun before have ended."""
        lines = self.log.read_text(encoding="utf-8")[position:].splitlines()
        said = [line for line in lines if "read anew" in line or "Not reloaded" in line]
        ended = [line for line in lines if "Worker exiting" in line]
        return said[0] if said and len(ended) >= 2 else None


def wait_for(look):
    """Return what *look* does once it is something."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder / "certificates")
    file, key, _ = authority.issue("server")
    files = ("--tls-cert", str(file), "--tls-key", str(key), "--tls-client-ca", str(authority.file))
    with serving(folder / "state", "--auth", "none", *files) as server:
        yield Place(server, folder / "state", authority)


def test_who_has_a_certificate_of_the_ca_is_served(place):
    assert place.server.url.startswith("https://")
    assert place.server("GET", "/v1/accelerators").status == 200


def test_who_has_none_or_one_of_another_ca_is_not(place, tmp_path):
    file, key, _ = Authority(tmp_path, "others").issue("client")
    for pool in (place.pool(), place.pool(cert_file=str(file), key_file=str(key))):
        with pytest.raises((urllib3.exceptions.SSLError, urllib3.exceptions.ProtocolError)):
            pool.request("GET", f"{place.server.url}/v1/accelerators", timeout=60)


def test_our_own_commands_show_a_certificate_as_well(place):
    clouds = place.authority.folder / "clouds.yaml"
    files = f"ca: {place.authority.file.name}, cert: {place.file.name}, key: {place.key.name}"
    clouds.write_text(f"clouds: {{here: {{server: '{place.server.url}', {files}}}}}")
    remote = find_remote(None, None, {"CYBORG_RECONCILER_CLOUDS": str(clouds)})
    assert remote("GET", "/v1/accelerators").document["accelerator"] == []
    given = {"SERVER": place.server.url, "CA": place.authority.file, "CERT": place.file, "KEY": place.key}
    remote = find_remote(None, None, {f"CYBORG_RECONCILER_{name}": str(value) for name, value in given.items()})
    assert remote("GET", "/v1/accelerators").document["accelerator"] == []
    with pytest.raises(SettingsInvalidError, match=r"gone\.pem"):
        find_remote(place.server.url, None, {"CYBORG_RECONCILER_CERT": str(place.authority.folder / "gone.pem")})


def test_what_is_older_than_tls_1_2_is_refused_by_the_server(place):
    context = place.context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.*version"):
        place.connect(context)


def test_a_renewed_certificate_is_served_after_sighup_and_no_request_is_lost(place):
    done, before, statuses = threading.Event(), place.serial(), []

    def ask_on_and_on():
        while not done.is_set():
            statuses.append(place.server("GET", "/v1/accelerators").status)

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on_and_on) for _ in range(4)]
        try:
            wait_for(lambda: len(statuses) > 20)
            _, _, renewed = place.authority.issue("server")
            assert "read anew" in place.reload()
            assert place.serial() == renewed != before
            answered = len(statuses)
            wait_for(lambda: len(statuses) > answered + 20 or any(one.done() for one in asking))
        finally:
            done.set()
        for one in asking:
            one.result()
    assert set(statuses) == {200}


def test_what_cannot_be_used_is_said_and_what_was_read_before_serves_on(place):
    before = place.serial()
    key = place.authority.folder / "server.key"
    whole = key.read_bytes()
    place.authority.issue("another")[1].replace(key)
    assert "KEY_VALUES_MISMATCH" in place.reload()
    assert place.serial() == before
    key.write_bytes(whole)
    place.config.parent.mkdir(parents=True)
    place.config.write_text("forks = 0\n")
    assert "forks" in place.reload()
    assert place.server("GET", "/v1/accelerators").status == 200
    place.config.unlink()


def test_gunicorn_alone_takes_settings_or_options_of_its_own(place, tmp_path):
    authority = Authority(tmp_path / "certificates")
    file, key, serial = authority.issue("server")
    gunicorn = ["gunicorn", "-c", "python:cyborg_reconciler_api.gunicorn_conf", "--bind", "127.0.0.1:0", "--workers=1"]
    options = ["--ca-certs", str(place.authority.file), "--cert-reqs", "2"]
    state, settings = tmp_path / "state", {"auth": "none", "tls_cert": file, "tls_key": key}
    with running([*gunicorn, *options], state, state_dir=state, **settings) as server:
        alone = Place(server, state, authority)
        with pytest.raises(ssl.SSLError):
            alone.serial()
        alone.file, alone.key = place.file, place.key
        assert alone.serial() == serial


def test_an_agent_and_its_conductor_know_each_other_by_certificates_and_by_renewed_ones(place, tmp_path):
    root, state = tmp_path / "host", tmp_path / "state"
    write_tree(nic_1(), root)
    authority = Authority(tmp_path / "certificates")
    file, key, _ = authority.issue("server")
    files = ("--tls-cert", str(file), "--tls-key", str(key), "--tls-client-ca", str(authority.file))
    command = ["cyborg-reconciler", "conductor", "--bind", "127.0.0.1:0", "--state", str(state), *files]
    with running(command, state, heartbeat_interval_s=1) as server, open_admission(Settings(state)) as operators:
        conductor = Place(server, state, authority)
        for pool in (conductor.pool(), conductor.pool(cert_file=str(place.file), key_file=str(place.key))):
            with pytest.raises((urllib3.exceptions.SSLError, urllib3.exceptions.ProtocolError)):
                pool.request("POST", f"{server.url}/v1/lookup", json={}, timeout=60)
        shown = {"ca_file": authority.file, "client_cert_file": conductor.file, "client_key_file": conductor.key}
        agent = AgentProcess.make(tmp_path / "agent", server, root, **shown)
        agent.secret("enrolment", operators.enrol(Caller("operator", Role.ADMIN), "nic-1", timedelta(hours=1)))

        def told():
            one = operators.store.agent("nic-1")
            return one.fingerprint if one is not None else ""

        with agent:
            before = wait_for(told)
            _, _, renewed = authority.issue("server")
            assert "read anew" in conductor.reload()
            assert conductor.serial() == renewed
            place_of_vfs = root / "sys/bus/pci/devices/0000:ca:00.1/sriov_numvfs"
            place_of_vfs.chmod(0o644)
            place_of_vfs.write_text("2\n")
            wait_for(lambda: told() != before)


class TestStart:
    @pytest.mark.parametrize(
        "bind",
        ["0.0.0.0:0", "[::]:0", ":0", "0", "192.0.2.7:0", "unix:/tmp/x,0.0.0.0:0", "localhost.example.com:0", "fd://3"],
    )
    def test_without_authentication_it_listens_on_loopback_alone(self, tmp_path, bind):
        answer = call("serve", "--auth", "none", "--bind", bind, "--state", tmp_path / "state")
        assert answer.code == 1
        assert f"--auth none is for loopback alone, and --bind is {bind}" in answer.last_error

    @pytest.mark.parametrize("given", ["another key", "no certificate", "no PEM"])
    def test_files_that_cannot_be_used_are_said_in_one_line(self, tmp_path, given):
        authority = Authority(tmp_path / "certificates")
        file, key, _ = authority.issue("server")
        files = {
            "another key": ("--tls-cert", file, "--tls-key", authority.issue("another")[1]),
            "no certificate": ("--tls-client-ca", authority.file),
            "no PEM": ("--tls-cert", key, "--tls-key", key),
        }[given]
        command = [PROGRAM, "serve", "--auth", "none", "--no-worker", "--bind", "127.0.0.1:0", *files]
        command += ["--state", tmp_path / "state"]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, env=QUIET)
        assert done.returncode == 1
        said = [line for line in done.stderr.splitlines() if " INFO " not in line]
        assert len(said) == 1
        assert said[0].startswith("error: ")
        assert "certificate" in said[0]

    def test_on_the_loopback_of_version_6_it_serves_and_says_how_to_make_the_first_token(self, tmp_path):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError as exc:
            missing("ipv6", f"there is no IPv6 here: {exc}")
        state = tmp_path / "state"
        with serving(state, "--bind", "[::1]:0", "--workers", "1", log_format="json") as server:
            answer = server("GET", "/v1/accelerators")
            assert (answer.status, server.url.startswith("http://[::1]:")) == (401, True)
        lines = [json.loads(line) for line in state.with_suffix(".log").read_text().splitlines()]
        (said,) = [line for line in lines if "no valid token" in line["message"]]
        assert f"cyborg-reconciler token create NAME --role admin --state {state}" in said["message"]
