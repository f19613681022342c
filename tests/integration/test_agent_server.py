# SPDX-License-Identifier: Apache-2.0
"""An agent's own port, as a process: the conductor's calls, drivers of the same host, TLS, hostile bytes, privileges.

Certificates are made here; the events are real ones of the kernel, in a network namespace of their own.
"""

import ipaddress
import json
import os
import pwd
import signal
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cyborg_reconciler.agent.server import HEADER_BYTES
from cyborg_reconciler.simulation import qat_1, write_tree
from tests.integration.agent_support import ITEM, AgentProcess, FakeDriver
from tests.integration.api_support import until
from tests.integration.fake_conductor import PATIENCE_S, FakeConductor
from tests.needs import missing

HELLO = {"status": "READY", "type": "CRYPTO"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("hosts") / "qat-1"
    write_tree(qat_1(), root)
    return root


@pytest.fixture(scope="module")
def conductor():
    with FakeConductor(host="qat-1", interval_s=3600) as conductor:
        yield conductor


@pytest.fixture(scope="module")
def agent(tmp_path_factory, conductor, root):
    with AgentProcess.make(tmp_path_factory.mktemp("agent") / "agent", conductor, root, dummy_devices=2) as agent:
        conductor.wait_for(conductor.check_ins)
        yield agent


def hello(agent, endpoint):
    body = json.dumps({**HELLO, "endpoint": endpoint}).encode()
    return agent.ask("POST", "/hello", credential=None, body=body, headers={"Content-Type": "application/json"})


# ----------------------------------------------------------------------------------------- conductor → agent → driver
def test_the_conductor_sees_the_hardware_of_the_host_and_of_the_dummy_driver(agent):
    answer = agent.ask("GET", "/drivers/generic-pci/hardware")
    assert answer.status == 200
    kinds = [item["acc_specs"]["device_type"] for item in answer.json["hardware"]]
    assert sorted(kinds) == ["CRYPTO", "GENERIC", "GENERIC", "GENERIC", "NIC", "NVME"], "bridges are hardware too"
    dummies = agent.ask("GET", "/drivers/dummy/hardware").json["hardware"]
    assert [item["acc_specs"]["acc_type"] for item in dummies] == ["VIRTUAL", "VIRTUAL"]
    everything = agent.ask("GET", "/hardware").json["hardware"]
    assert len({item["uuid"] for item in everything}) == len(everything) >= 5
    assert agent.ask("GET", "/hardware", credential="wrong").status == 401


def test_what_cannot_be_read_is_told_at_the_port_and_to_the_conductor_and_the_rest_is_read(agent, conductor, root):
    before = len(agent.ask("GET", "/hardware").json["hardware"])
    (root / "etc/modprobe.d/closed.conf").mkdir(parents=True)  # root reads every file; a folder in its place nobody
    until(lambda: [one for one in agent.ask("GET", "/hardware").json["unread"] if "closed.conf" in one])
    conductor.wait_for(lambda: [one for one in conductor.check_ins()[-1]["unread"] if "closed.conf" in one])
    assert len(agent.ask("GET", "/hardware").json["hardware"]) == before > 0
    (root / "etc/modprobe.d/closed.conf").rmdir()


def test_the_conductor_has_a_driver_of_the_same_host_discover(agent):
    with FakeDriver() as driver:
        assert hello(agent, driver.endpoint).status == 200
        driver.wait_for("POST", "/discovery")
        item = {**ITEM, "address": ITEM["uuid"]}  # it does not say what it calls it
        assert item in agent.ask("GET", "/hardware").json["hardware"]
        assert agent.ask("GET", "/drivers/crypto/hardware").json["hardware"] == [item]
        while agent.ask("POST", "/drivers/crypto/discovery").status == 409:
            pass  # that of the hello comes to its end
        driver.wait_for("POST", "/discovery", times=2)
    assert hello(agent, "192.0.2.1:80").status == 400


POST = b"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b""),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /hardware HTTP/9.9\r\n\r\n", b"HTTP/1.1 505"),
        (POST + b"Content-Length: 99999999999\r\n\r\n", b"HTTP/1.1 413"),
        (POST + b"Content-Length: -1\r\n\r\n", b"HTTP/1.1 4"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /hardware HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", b"HTTP/1.1 4"),
        (b"GET /%00%1b[2J HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 401"),
    ],
)
def test_hostile_bytes_are_answered_or_cut_off_and_the_agent_goes_on(agent, sent, answer):
    with socket.create_connection(("127.0.0.1", agent.port), timeout=PATIENCE_S) as client:
        got, is_cut_off = b"", False
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            got = client.recv(65536)
        except OSError:  # before all of it was sent, or taken in
            is_cut_off = True
    assert got.startswith(answer) or (is_cut_off and len(sent) > HEADER_BYTES)
    assert b"Traceback" not in got
    assert agent.ask("GET", "/hardware").status == 200
    assert not [line for line in agent.lines if "Traceback" in line]


# ------------------------------------------------------------------------------------------------------- certificates
class Authority:
    """Signs certificates for 127.0.0.1, as files in *folder*."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._sign(self.name, self._key.public_key(), is_authority=True))

    def _sign(self, name, public_key, *, is_authority):
        now = datetime.now(UTC)
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        until = now + timedelta(days=1)
        builder = x509.CertificateBuilder(self.name, name, public_key, x509.random_serial_number(), now, until)
        builder = builder.add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        builder = builder.add_extension(addresses, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a new certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, private = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(self._sign(subject, key.public_key(), is_authority=False))
        plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        private.write_bytes(key.private_bytes(*plain))
        private.chmod(0o600)
        return certificate, private


def context(authority, pair=None, *, server=False):
    """How one side of a connection knows the other, and is known."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(authority.file)
    tls.verify_mode = ssl.CERT_REQUIRED
    if pair:
        tls.load_cert_chain(*pair)
    return tls


def test_both_ways_are_kept_by_certificates_of_both_sides(tmp_path, root):
    ours, strangers = Authority(tmp_path, "ours"), Authority(tmp_path, "strangers")
    own, key = ours.issue("agent")
    served = context(ours, ours.issue("conductor"), server=True)
    with FakeConductor(host="qat-1", interval_s=3600, tls=served) as conductor:
        files = {"ca_file": ours.file, "client_cert_file": own, "client_key_file": key}
        files |= {"tls_cert_file": own, "tls_key_file": key, "tls_client_ca_file": ours.file}
        with AgentProcess.make(tmp_path / "agent", conductor, root, **files) as agent:
            conductor.wait_for(conductor.check_ins)
            assert agent.ask("GET", "/hardware", tls=context(ours, ours.issue("caller"))).status == 200
            for stranger in (context(ours), context(ours, strangers.issue("stranger"))):
                with pytest.raises(urllib3.exceptions.HTTPError):
                    agent.ask("GET", "/hardware", tls=stranger)
            with pytest.raises(urllib3.exceptions.SSLError):
                agent.ask("GET", "/hardware", tls=context(strangers))
        with AgentProcess.make(tmp_path / "other", conductor, root, **files | {"ca_file": strangers.file}) as misled:
            misled.wait_for_line(r"warning: the look-up: .*CERTIFICATE_VERIFY_FAILED")
        assert [said.path for said in conductor.said].count("/v1/lookup") == 1


def shown_to(agent, authority):
    """The certificate that the agent's port shows to whoever trusts *authority*."""
    port = agent.wait_for_line(r"answers on 127\.0\.0\.1 port (\d+)")[1]
    with (
        socket.create_connection(("127.0.0.1", int(port)), timeout=60) as plain,
        context(authority).wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        return wrapped.getpeercert()["serialNumber"]


def test_a_renewed_certificate_is_shown_to_the_next_caller_and_one_that_is_none_to_nobody(tmp_path, root):
    ours = Authority(tmp_path, "ours")
    own, key = ours.issue("agent")
    with FakeConductor(host="qat-1", interval_s=3600) as conductor:
        files = {"tls_cert_file": own, "tls_key_file": key}
        with AgentProcess.make(tmp_path / "agent", conductor, root, **files) as agent:
            first = shown_to(agent, ours)
            renewed, renewed_key = ours.issue("renewed")
            renewed.replace(own)  # half of the pair
            assert shown_to(agent, ours) == first
            agent.wait_for_line("error: the certificate cannot be used, and the one before serves on: .*")
            renewed_key.replace(key)
            second = shown_to(agent, ours)
            assert second != first
            agent.signal(signal.SIGHUP)
            until(lambda: sum(line == "info: the certificate was read anew" for line in agent.lines) == 2)
            assert shown_to(agent, ours) == second


# --------------------------------------------------------------------------------------------- privileges and events
def fields_of(pid):
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.fixture
def as_root():
    if os.geteuid() != 0:
        missing("root", "only root can become somebody else")


@pytest.mark.usefixtures("as_root")
def test_an_agent_that_root_starts_becomes_nobody_and_reads_all_the_same(tmp_path, root):
    rights = 1 << 2 | 1 << 19  # CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE
    if int(fields_of("self")["CapPrm"], 16) & rights != rights:
        missing("root", "root has few rights here, and none to read what is others'")
    nobody = pwd.getpwnam("nobody")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, nobody.pw_uid, nobody.pw_gid)
    hidden = root / "sys/class/dmi/id/product_uuid"
    hidden.chmod(0o400)
    with (
        FakeConductor(host="qat-1", interval_s=3600) as conductor,
        AgentProcess.make(tmp_path / "agent", conductor, root, user="nobody", state_dir=state) as agent,
    ):
        [body] = conductor.wait_for(conductor.check_ins)
        fields = fields_of(agent.process.pid)
        assert set(fields["Uid"].split()) == {str(nobody.pw_uid)}
        assert fields["Groups"] == ""
        assert {int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {rights}
        assert fields["NoNewPrivs"] == "1"
        assert body["facts"]["system_uuid"] == hidden.read_text().strip()
        assert (state / "identity.json").stat().st_uid == nobody.pw_uid


BLIND = """
import os
from ansible_collections.openstack.cyborg.plugins.module_utils.holders import require_sight
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree, Unreadable, clean
tree = Tree("/")
require_sight(tree)
os.setresuid(65534, 65534, 65534)
try:
    require_sight(tree)
except Unreadable as exc:
    print(exc.reason)
"""


@pytest.mark.usefixtures("as_root")
def test_who_may_not_see_what_others_have_open_does_not_take_it_for_nothing():
    done = subprocess.run([sys.executable, "-c", BLIND], check=True, capture_output=True, text=True)
    assert "CAP_SYS_PTRACE" in done.stdout


#: Prints whether the agent heard of the rename, and what it heard of one device, in order; each event wakes it.
LISTEN = """
import logging, queue, subprocess, threading
from cyborg_reconciler.agent.events import LOG, listen
from tests.uevents import send_uevent

DEVICE = "/devices/pci0000:00/0000:00:1f.7"
heard, woken = queue.SimpleQueue(), queue.SimpleQueue()
LOG.setLevel(logging.DEBUG)
LOG.addFilter(lambda record: heard.put(record.getMessage()))
assert listen(lambda: woken.put("woken"), threading.Event())
subprocess.run(["ip", "link", "set", "dev", "lo", "name", "renamed"], check=True)
for action in ("add", "remove", "bind", "unbind", "change"):
    send_uevent(action, DEVICE)
send_uevent("add", DEVICE + "/usb9", subsystem="usb")
send_uevent("bind", DEVICE)
told = []
while told.count(f"bind {DEVICE}") < 2:  # other events of the kernel's may come between
    told.append(heard.get(timeout=60))
    woken.get(timeout=60)
print(any(line.endswith("/net/renamed") for line in told))
print([line.partition(" ")[0] for line in told if DEVICE in line])
"""

TOLD = """\
True
['add', 'remove', 'bind', 'unbind', 'change', 'bind']
"""


def test_the_kernel_tells_of_what_comes_goes_is_bound_unbound_and_changed_and_of_nothing_that_is_no_matter():
    if subprocess.run(["unshare", "-rn", "true"], check=False).returncode:  # noqa: S607 - on PATH
        missing("namespaces", "network namespaces cannot be made here")
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", LISTEN],  # noqa: S607 - on PATH
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout == TOLD, done.stderr
