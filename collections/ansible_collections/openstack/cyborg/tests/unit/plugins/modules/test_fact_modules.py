# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
import os
import subprocess
import sys

import pytest

from ansible_collections.openstack.cyborg.tests.unit.host_tree import NIC, HostTree

MODULES = "ansible_collections.openstack.cyborg.plugins.modules"


@pytest.fixture
def host(tmp_path):
    host = HostTree(tmp_path / "host")
    host.function("0000:3b:00.0", NIC, driver="igb")
    return host


def run(name, **options):
    """Run a module as Ansible does: a process of its own that prints JSON. Return its exit status and its result."""
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": options})
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run(
        [sys.executable, "-m", f"{MODULES}.{name}"],
        input=arguments,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "fact", "sections"),
    [
        ("accelerator_facts", "cyborg_accelerators", {"facts_version", "devices"}),
        ("driver_facts", "cyborg_drivers", {"modules", "dkms", "blacklisted", "options", "load"}),
        ("kernel_facts", "cyborg_kernel", {"release", "boot_id", "args_running", "kernels"}),
        ("host_facts", "cyborg_facts", {"devices", "drivers", "kernel", "ownership", "fingerprint"}),
    ],
)
def test_each_module_returns_facts_and_nothing_else(host, name, fact, sections):
    status, result = run(name, root=host.root, _ansible_check_mode=True)
    assert status == 0
    assert set(result) - {"invocation"} == {"ansible_facts"}
    assert set(result["ansible_facts"]) == {fact}
    assert sections <= set(result["ansible_facts"][fact])


def test_a_device_that_is_read_alone_has_every_field(host):
    _status, result = run("accelerator_facts", root=host.root)
    device = result["ansible_facts"]["cyborg_accelerators"]["devices"][0]
    assert device["driver"] == "igb"
    assert (device["physfn"], device["vfs"], device["holders"]) == (None, [], [])


def test_a_root_that_does_not_exist_is_said(tmp_path):
    status, result = run("host_facts", root=str(tmp_path / "nowhere"))
    assert (status, result["failed"]) == (1, True)
    assert result["msg"].endswith("nowhere: there is no such folder")
