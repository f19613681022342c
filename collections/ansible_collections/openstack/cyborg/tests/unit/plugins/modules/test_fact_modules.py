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


@pytest.mark.parametrize(
    ("name", "options"), [("host_facts", {"modules": ["igb"]}), ("accelerator_facts", {}), ("driver_facts", {})]
)
def test_names_that_are_no_utf_8_are_data_and_end_no_module(host, name, options):
    function = "/sys/devices/pci0000:00/0000:3b:00.0"
    bad = "/sys/bus/pci/drivers/caf\udce9"
    os.unlink(host.real(f"{function}/driver"))
    host.link(f"{function}/driver", host.folder(bad))
    host.link(f"{bad}/module", host.folder("/sys/module/igb"))
    host.file("/sys/module/igb/parameters/mode", b"\xff\n")
    host.file("/etc/modprobe.d/a.conf", b"options igb name=\xff\nblacklist \xfe\n")
    host.net("ens\udcff", function)
    host.route("ens\udcff")
    host.file("/proc/modules", "igb 253952 0 - Live 0x0\n")
    status, result = run(name, root=host.root, **options)
    assert status == 0, result
    text = json.dumps(result["ansible_facts"], ensure_ascii=False)
    text.encode("utf-8")
    facts = next(iter(result["ansible_facts"].values()))
    for device in facts.get("devices", ()):
        assert (device["driver"], device["net_names"]) == ("caf\\xe9", ["ens\\xff"])
        assert device["protected"] == [{"reason": "default_route", "via": "ens\\xff"}]
    drivers = facts.get("drivers", facts)
    for module in drivers.get("modules", ()):
        assert (module["name"], module["devices"], module["parameters"]) == ("igb", ["0000:3b:00.0"], {"mode": "\\xff"})
        assert (drivers["options"], drivers["blacklisted"]) == ({"igb": {"name": "\\xff"}}, ["\\xfe"])


def test_a_root_that_does_not_exist_is_said(tmp_path):
    status, result = run("host_facts", root=str(tmp_path / "nowhere"))
    assert (status, result["failed"]) == (1, True)
    assert result["msg"].endswith("nowhere: there is no such folder")
