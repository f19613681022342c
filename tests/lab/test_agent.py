# SPDX-License-Identifier: Apache-2.0
"""The agent on a real host: its role installs it, it sees what Ansible sees, tells of drift, outlives a reboot."""

import json
import time

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.fingerprint import FLEETING
from cyborg_reconciler.port_credentials import port_credential
from tests.integration.api_support import until
from tests.lab.console import Console
from tests.lab.control import SECRET, Control
from tests.lab.test_main_job import IGB, PCI, PF, vf_count, vf_drivers
from tests.wheels import build_wheel, download_agent_libraries

#: A guest on a busy machine; what is asserted is said where it is.
CRAWLS_S = 600.0
#: From the kernel's event to what the API tells, at most, for guests crawl.
DRIFT_S = 60.0
SPOOL = "/var/lib/cyborg-agent/spool"
#: What is found by looking is not what is to be shown here: nothing is looked at but for an event.
SETTINGS = {"poll_interval_s": 86400, "facts_interval_s": 86400, "spread_s": 1}

#: Runs in the guest: asks the agent's own port what it has found, with a credential, and prints status and answer.
ASK_HARDWARE = """
import urllib.error, urllib.request
shown = {{"Authorization": "Bearer {credential}"}}
try:
    request = urllib.request.Request("http://127.0.0.1:1337/hardware", headers=shown)
    answer = urllib.request.urlopen(request, timeout=120)
except urllib.error.HTTPError as exc:
    answer = exc
print(answer.status, answer.read().decode())
"""

#: Who the agent runs as, what it may do, and what its limits are, as the kernel has them.
STANDING = """
set -eu
pid=$(systemctl show --property MainPID --value cyborg-agent)
stat -c %U /proc/$pid
sed -n 's/^\\(CapEff\\|CapBnd\\|NoNewPrivs\\|Seccomp\\):[[:space:]]*//p' /proc/$pid/status
"""
#: CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE. Source: Linux, include/uapi/linux/capability.h.
READS_ALONE = f"{(1 << 2) | (1 << 19):016x}"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The project's wheel, and what the guest needs beside it: it has Debian's Python, no index, and no pip."""
    folder = tmp_path_factory.mktemp("wheels")
    download_agent_libraries(folder / "libraries", "3.11")
    build_wheel(folder)
    return folder


def stands(server, *wanted):
    host = server("GET", "/v1/hosts/node1").json()
    return (host.get("sync"), host.get("phase")) == wanted


def approve(server):
    plan = server("POST", "/v1/plans", {"hosts": ["node1"]}).json()
    answer = server("POST", f"/v1/plans/{plan['uuid']}/approve")
    assert answer.status == 200, answer.data


def comparable(facts):
    """What is stable in *facts*, but for what follows from who asks: over which connection, and after which modules."""

    def stable(thing):
        """Leave out what comes and goes, and the protection of the asker's own connection."""
        kept = {name: fact for name, fact in thing.items() if name not in FLEETING}
        protections = [one for one in kept.pop("protected", ()) if one["reason"] != "connection"]
        return {**kept, "protected": protections}

    asked_for = {"virtio_crypto"}  # the shipped catalogue has a driver for it; the guest has no such device
    modules = [stable(one) for one in facts["drivers"]["modules"] if one["name"] not in asked_for]
    drivers = {**facts["drivers"], "modules": modules}
    return {**facts, "fingerprint": None, "devices": list(map(stable, facts["devices"])), "drivers": drivers}


@pytest.mark.slow
def test_an_agent_is_installed_tells_of_drift_outlives_a_reboot_and_goes(guest, tmp_path, wheels, record_property):
    at = Console(tmp_path / "operator", [guest])
    at.declare("vfs", **PF, sriov={"num_vfs": 2, "vf_driver": "vfio-pci"})
    control = Control(at, guest, wheels)
    with control.serving() as server:
        until(lambda: stands(server, "OutOfSync", "PendingApproval"), CRAWLS_S)
        over_ssh = control.facts()
        _install(control, guest)
        until(lambda: server("GET", "/v1/hosts/node1").json()["agent_seen_at"], CRAWLS_S)
        _compare(control, guest, server, over_ssh)
        approve(server)
        until(lambda: stands(server, "Synced", "Idle"), CRAWLS_S)
        assert vf_drivers(guest) == ["vfio-pci"] * 2

        record_property("drift_s", _drift(guest, server))
        approve(server)
        until(lambda: stands(server, "Synced", "Idle"), CRAWLS_S)
        assert vf_drivers(guest) == ["vfio-pci"] * 2
    _reboot(control, guest)

    assert "changed=0" not in control.run_role(agent_state="absent")
    left = guest.ssh("sudo find /etc /opt /var/lib -path '*cyborg-agent*'; getent passwd cyborg-agent || true")
    assert left.split() == []


def ask_hardware(guest, credential, status):
    """What the agent answers, with this *status*, to who shows *credential*."""
    told, _, answer = guest.ssh("python3 -", stdin=ASK_HARDWARE.format(credential=credential)).partition(" ")
    assert told == status
    return answer


def _install(control, guest):
    """Install the agent, and see that nobody need do so again, and that it may do no more than read."""
    token = control.enrolment()
    assert "failed=0" in control.run_role(agent_enrolment_token=token, agent_settings=SETTINGS)
    user, effective, bounding, *rest = guest.ssh("sudo sh", stdin=STANDING).split()
    assert (user, effective, bounding) == ("cyborg-agent", READS_ALONE, READS_ALONE)
    assert rest == ["1", "2"], "no new privileges, and a filter of system calls"
    again = control.run_role(agent_enrolment_token=token, agent_settings=SETTINGS)
    assert "changed=0" in again, again


def _compare(control, guest, server, over_ssh):
    """The agent sees what the fact modules saw over SSH, and what it and the conductor call it is the same."""
    assert comparable(control.facts()) == comparable(over_ssh)
    told = json.loads(ask_hardware(guest, port_credential(SECRET, "node1"), "200"))
    held = guest.ssh("sudo cat /etc/cyborg-agent/conductor_digest").strip()
    for shown in (port_credential(SECRET, "node2"), SECRET, held):
        ask_hardware(guest, shown, "401")
    assert told["unread"] == []
    known = {one["uuid"]: one for one in server("GET", "/v1/hosts/node1/hardware?limit=1000").json()["hardware"]}
    assert {one["uuid"] for one in told["hardware"]} == set(known)
    assert IGB in {one["address"] for one in known.values()}
    assert len(known) == len(guest.ssh(f"ls {PCI}").split())


def _drift(guest, server):
    """Take the VFs away by hand, and return how many seconds it took from there until the API told of it."""
    guest.ssh("true")  # the connection is there
    began = time.monotonic()
    guest.ssh(f"echo 0 | sudo tee {PCI}/{IGB}/sriov_numvfs")
    until(lambda: stands(server, "OutOfSync", "PendingApproval"), CRAWLS_S)
    took = time.monotonic() - began
    assert took < DRIFT_S
    print(f"from the kernel's event to OutOfSync: {took:.1f} s")  # noqa: T201 - the figure is a result
    return round(took, 1)


def _reboot(control, guest):
    """While the conductor is away a host changes and reboots: the conductor hears of both, the newest last."""
    spooled = f"sudo ls {SPOOL}"
    before = guest.boot_id()
    guest.ssh(f"echo 0 | sudo tee {PCI}/{IGB}/sriov_numvfs")
    until(lambda: guest.ssh(spooled).split(), CRAWLS_S)
    guest.reboot()
    until(lambda: guest.ssh("sudo systemctl is-active cyborg-agent || true").strip() == "active", CRAWLS_S)
    until(lambda: len(guest.ssh(spooled).split()) > 1, CRAWLS_S)
    with control.serving() as server:
        until(lambda: not guest.ssh(spooled).split(), CRAWLS_S)
        until(lambda: stands(server, "Synced", "Idle"), CRAWLS_S)
        assert control.facts()["kernel"]["boot_id"] == guest.boot_id() != before
        assert vf_count(guest) == 2
