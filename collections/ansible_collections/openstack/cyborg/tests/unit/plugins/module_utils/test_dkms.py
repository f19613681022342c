# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import dkms_package
from ansible_collections.openstack.cyborg.plugins.module_utils.dkms import parse_status, read_dkms
from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather_drivers
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree, Unreadable
from ansible_collections.openstack.cyborg.tests.unit.host_tree import HostTree, simulate

KERNEL = "6.1.0-28-amd64"


@pytest.fixture
def host(tmp_path):
    return HostTree(tmp_path)


def build(host, name, version, *kernels):
    host.folder(f"/usr/src/{name}-{version}")
    host.link(f"/var/lib/dkms/{name}/{version}/source", f"/usr/src/{name}-{version}")
    for kernel in kernels:
        host.folder(f"/var/lib/dkms/{name}/{version}/{kernel}/x86_64/module")


def install(host, name, version, kernel):
    os.symlink(f"{version}/{kernel}/x86_64", host.real(f"/var/lib/dkms/{name}/kernel-{kernel}-x86_64"))


def program(host, script):
    host.file("/usr/sbin/dkms", f"#!/bin/sh\n{script}\n")
    os.chmod(host.real("/usr/sbin/dkms"), 0o700)


def test_a_host_without_dkms_has_no_builds(host):
    found = gather_drivers(host.tree)
    assert (found["dkms_present"], found["dkms"]) == (False, [])


def test_added_built_and_installed_are_told_apart(host):
    program(host, "exit 1  # not asked, since the tree says it")
    build(host, "edu", "1.0")
    build(host, "nvidia", "535.1", KERNEL, "6.1.0-29-amd64")
    install(host, "nvidia", "535.1", KERNEL)
    found = gather_drivers(host.tree)
    assert found["dkms_present"] is True
    assert found["dkms"] == [
        {"name": "edu", "version": "1.0", "kernel": None, "state": "added"},
        {"name": "nvidia", "version": "535.1", "kernel": KERNEL, "state": "installed"},
        {"name": "nvidia", "version": "535.1", "kernel": "6.1.0-29-amd64", "state": "built"},
    ]


def test_a_build_is_not_installed_when_another_version_is(host):
    build(host, "nvidia", "535.1", KERNEL)
    build(host, "nvidia", "550.2", KERNEL)
    install(host, "nvidia", "550.2", KERNEL)
    states = {entry["version"]: entry["state"] for entry in gather_drivers(host.tree)["dkms"]}
    assert states == {"535.1": "built", "550.2": "installed"}


def test_a_package_whose_source_is_gone_is_broken_with_what_was_built_of_it(host):
    build(host, "edu", "1.0", KERNEL)
    install(host, "edu", "1.0", KERNEL)
    host.folder("/var/lib/dkms/edu/original_module")
    os.rmdir(host.real("/usr/src/edu-1.0"))
    assert gather_drivers(host.tree)["dkms"] == [
        {"name": "edu", "version": "1.0", "kernel": None, "state": "broken"},
        {"name": "edu", "version": "1.0", "kernel": KERNEL, "state": "installed"},
    ]


class Failing(Tree):
    """The tree of a host that has a disk error at *place*."""

    def __init__(self, root, place):
        super().__init__(root)
        self._place = place

    def listdir(self, name):
        if name == self._place:
            raise Unreadable(f"{name}: Input/output error")
        return super().listdir(name)


@pytest.mark.parametrize(("place", "version"), [("/var/lib/dkms/edu", None), ("/var/lib/dkms/edu/1.0", "1.0")])
def test_a_package_that_cannot_be_read_is_told_and_the_others_too(host, place, version):
    build(host, "edu", "1.0", KERNEL)
    build(host, "nvidia", "535.1")
    tree = Failing(host.root, place)
    why = {"unknown": f"{place}: Input/output error"}
    assert read_dkms(tree, present=True) == [
        {"name": "edu", "version": version, "kernel": None, "state": why},
        {"name": "nvidia", "version": "535.1", "kernel": None, "state": "added"},
    ]
    args = {"name": "edu", "version": "1.0"}
    with pytest.raises(Failure, match="what DKMS has built of edu cannot be read"):
        dkms_package.read(tree, args)
    assert dkms_package.read(tree, dict(args, name="nvidia"))["builds"][0]["state"] == "added"


def test_a_dkms_whose_tree_lies_elsewhere_is_asked(host):
    simulate(host.root)
    program(host, f"echo 'edu/1.0, {KERNEL}, x86_64: installed'")
    assert gather_drivers(host.tree)["dkms"][0]["state"] == "installed"


def test_a_dkms_that_fails_is_unknown(host):
    simulate(host.root)
    program(host, "echo broken >&2; exit 4")
    assert "broken" in gather_drivers(host.tree)["dkms"]["unknown"]


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("edu, 1.0, 6.1.0, x86_64: installed", ("edu", "1.0", "6.1.0", "installed")),
        ("edu/1.0, 6.1.0, x86_64: built", ("edu", "1.0", "6.1.0", "built")),
        ("edu, 1.0: added", ("edu", "1.0", None, "added")),
        ("edu/1.0: added", ("edu", "1.0", None, "added")),
        ("edu/1.0: broken", ("edu", "1.0", None, "broken")),
        ("edu/1.0, 6.1.0, x86_64: installed (WARNING! Diff between built and installed module!)",
         ("edu", "1.0", "6.1.0", "installed")),
    ],
)  # fmt: skip
def test_both_ways_of_telling_the_status_are_understood(line, state):
    assert parse_status(f"Warning: something\n{line}\n") == [dict(zip(("name", "version", "kernel", "state"), state))]
