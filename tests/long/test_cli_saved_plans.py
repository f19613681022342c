# SPDX-License-Identifier: Apache-2.0
"""Plans that are saved: applied as shown, or not at all; with and without the controller; never taken for templates."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cyborg_reconciler.simulation import qat_1
from tests.integration.console import open_console, snapshot

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
QAT = "0000:6b:00.0"
COUNT = f"/sys/bus/pci/devices/{QAT}/sriov_numvfs"
CONF = "/etc/modprobe.d/cyborg-vfio_pci.conf"
PLACES = ("/etc", "/usr", "/var/lib")


@pytest.fixture
def pwned(tmp_path_factory):
    """The file that is there once a host's text was run. Its path is short: a serial number has room for 128 signs."""
    return tmp_path_factory.mktemp("p") / "pwned"


@pytest.fixture
def hostile(pwned):
    """What a host may report, and an operator copy into a policy: a command, if anybody takes it for a template."""
    return f"{{{{ lookup('ansible.builtin.pipe', 'touch {pwned}') }}}}"


@pytest.fixture
def console(tmp_path, hostile):
    machine = qat_1()
    card = machine.function(QAT)
    others = [function for function in machine.functions if function is not card]
    with open_console(tmp_path, replace(machine, functions=(*others, replace(card, serial=hostile)))) as opened:
        yield opened


def declare(console, hostile, num_vfs):
    options = {"vfio-pci": {"ids": "{{1+1}}"}}
    which = {"device_selector": {"serials": [hostile]}}
    sriov = {"num_vfs": num_vfs, "vf_driver": "vfio-pci"}
    console.declare("qat", **which, sriov=sriov, kernel_modules={"options": options})


def playbook(console, plan):
    """Apply a saved plan with Ansible alone."""
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", console.inventory]
    return subprocess.run(
        [*command, ROOT / "playbooks/apply.yml", "-e", f"plan_file={plan}"],
        cwd=console.folder,
        env=os.environ | {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_saved_plan_is_applied_as_shown_or_refused_and_never_templated(console, hostile, pwned, tmp_path):
    host, one, two = console["qat-1"], tmp_path / "one.json", tmp_path / "two.json"
    declare(console, hostile, 4)
    assert console.plan("--out", one).code == 2
    assert stat.S_IMODE(one.stat().st_mode) == 0o600, "it holds what hosts report"
    clean = snapshot(host, *PLACES)

    host.write(COUNT, 2)
    refused = console.apply(one)
    assert (refused.code, refused.data["error"]) == (1, "PlanOutdatedError")
    assert "make it anew with `cyborg-reconciler plan --out FILE`" in refused.last_error
    assert (host.read(COUNT), snapshot(host, *PLACES)) == ("2", clean), "nothing was touched"
    assert console.memory("history") == []

    host.write(COUNT, 0)
    assert console.must_apply(one).host("qat-1")["outcome"]["status"] == "applied"
    assert host.read(COUNT) == "4"
    assert "{{1+1}}" in host.read(CONF)

    told = playbook(console, one)
    assert told.returncode != 0
    assert "Stale" in told.stdout, "the host has seen a later start of the controller than the plan's"

    declare(console, hostile, 5)
    refused = console.type("apply", "--yes", one)
    assert refused.code == 1
    assert "qat-1: generation 1: generation 2 is declared now; make it anew" in refused.last_error
    assert host.read(COUNT) == "4"

    assert console.plan("--out", two).code == 2
    told = playbook(console, two)
    assert told.returncode == 0, told.stdout
    assert host.read(COUNT) == "5"
    assert json.loads(host.read("/var/lib/cyborg-reconciler/ownership.json"))["fencing_token"] == 4
    assert not pwned.exists()
