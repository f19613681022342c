# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which package installed the file of a kernel module?"""

import os

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.packages import add_packages
from ansible_collections.openstack.cyborg.tests.unit.host_tree import RELEASE, HostTree, simulate

MODULES = f"/lib/modules/{RELEASE}"
IGB, NVIDIA = f"{MODULES}/kernel/igb.ko", f"{MODULES}/updates/dkms/nvidia.ko"
IMAGE = f"linux-image-{RELEASE}"
STATUS = f"""Package: adduser
Status: install ok installed
Version: 3.134

Package: {IMAGE}
Status: install ok installed
Maintainer: Debian Kernel Team
Version: 6.1.119-1
Depends: kmod

Package: nvidia-kernel
Version: 535.1-2
"""


@pytest.fixture
def host(tmp_path):
    host = HostTree(tmp_path)
    host.file(IGB)
    host.file("/var/lib/dpkg/status", STATUS)
    host.file(f"/var/lib/dpkg/info/{IMAGE}.list", f"/.\n/boot\n{IGB}\n")
    return host


def installed(host, paths, dkms=()):
    modules = [{"name": name, "path": path} for name, path in paths.items()]
    add_packages(host.tree, RELEASE, {"modules": modules, "dkms": dkms})
    return {one["name"]: (one["package"], one["installed_version"], one["installed_by"]) for one in modules}


def test_the_kernels_package_has_what_came_with_the_kernel(host):
    found = installed(host, {"igb": IGB, "ext4": None})
    assert found == {"igb": (IMAGE, "6.1.119-1", "dpkg"), "ext4": (None, None, None)}


def test_of_a_file_that_could_not_be_looked_for_the_package_is_unknown(host):
    why = {"unknown": "modules.dep: no such file"}
    assert installed(host, {"igb": why, "ext4": None}) == {"igb": (why,) * 3, "ext4": (None,) * 3}
    modules = [{"name": "igb", "path": IGB}]
    add_packages(host.tree, why, {"modules": modules, "dkms": ()})
    assert modules[0]["package"] == why


def test_a_list_that_says_usr_lib_is_the_same(host):
    host.file(f"/var/lib/dpkg/info/{IMAGE}.list", f"/usr{IGB}")
    assert installed(host, {"igb": IGB})["igb"][0] == IMAGE


def test_a_file_whose_path_another_one_ends_with_is_not_it(host):
    host.file(f"/var/lib/dpkg/info/{IMAGE}.list", f"/opt{IGB}\n{IGB}.xz\n")
    assert installed(host, {"igb": IGB})["igb"] == (None, None, None)


def test_a_package_that_is_not_named_after_the_kernel_is_found_too(host):
    host.file("/var/lib/dpkg/info/nvidia-kernel:amd64.list", f"/.\n{NVIDIA}\n")
    assert installed(host, {"nvidia": NVIDIA})["nvidia"] == ("nvidia-kernel", "535.1-2", "dpkg")


def test_what_dkms_built_is_of_dkms(host):
    folder = f"/var/lib/dkms/nvidia/535.1/{RELEASE}/x86_64/module"
    host.file(f"{folder}/nvidia.ko")
    host.file(f"{folder}/igb.ko")
    build = {"name": "nvidia", "version": "535.1", "kernel": RELEASE, "state": "installed"}
    found = installed(host, {"nvidia": NVIDIA, "igb": IGB}, [build])
    assert found == {"nvidia": ("nvidia", "535.1", "dkms"), "igb": (IMAGE, "6.1.119-1", "dpkg")}
    assert installed(host, {"nvidia": NVIDIA}, [dict(build, state="built")])["nvidia"] == (None, None, None)


def test_what_dkms_may_have_built_is_unknown_where_its_tree_is(host):
    why = {"unknown": "/var/lib/dkms: Permission denied"}
    found = installed(host, {"nvidia": NVIDIA, "igb": IGB}, why)
    assert found == {"nvidia": (why, why, why), "igb": (IMAGE, "6.1.119-1", "dpkg")}


def test_a_list_that_cannot_be_read_makes_it_unknown(host):
    path = host.real(f"/var/lib/dpkg/info/{IMAGE}.list")
    os.unlink(path)
    os.mkdir(path)
    package, version, manager = installed(host, {"igb": IGB})["igb"]
    assert package == version == manager == {"unknown": f"/var/lib/dpkg/info/{IMAGE}.list: Is a directory"}


def test_a_package_of_which_dpkg_knows_no_version_is_unknown(host):
    host.file("/var/lib/dpkg/status", "Package: other\nVersion: 1\n")
    assert installed(host, {"igb": IGB})["igb"][0] == {"unknown": f"/var/lib/dpkg/status: {IMAGE} is not in it"}


class TestRpm:
    @pytest.fixture
    def host(self, tmp_path):
        host = HostTree(tmp_path)
        host.file(IGB)
        host.file(NVIDIA)
        simulate(host.root)
        return host

    def rpm(self, host, script):
        os.chmod(host.real(host.file("/usr/bin/rpm", f"#!/bin/sh\n{script}\n")), 0o700)

    def test_one_call_asks_for_all_files(self, host):
        self.rpm(
            host,
            'printf "%s " "$@" >>"$CYBORG_ROOT/calls"; shift 4\n'
            'printf "kernel-core\\t5.14.0-1.el9\\nfile %s is not owned by any package\\n" "$2"; exit 1',
        )
        found = installed(host, {"igb": IGB, "nvidia": NVIDIA})
        assert found == {"igb": ("kernel-core", "5.14.0-1.el9", "rpm"), "nvidia": (None, None, None)}
        with open(host.real("/calls"), encoding="utf-8") as calls:
            assert calls.read() == f"--query --queryformat %{{NAME}}\\t%{{EVR}}\\n --file {IGB} {NVIDIA} "

    def test_a_link_is_asked_about_by_where_it_leads(self, host):
        host.link(f"{MODULES}/weak-updates/igb.ko", IGB)
        self.rpm(host, '[ "$5" = %s ] && printf "kmod-igb\\t1-1\\n"' % IGB)
        assert installed(host, {"igb": f"{MODULES}/weak-updates/igb.ko"})["igb"] == ("kmod-igb", "1-1", "rpm")

    def test_answers_that_cannot_be_told_apart_are_unknown(self, host):
        self.rpm(host, 'printf "one\\t1\\ntwo\\t2\\n"')
        assert installed(host, {"igb": IGB})["igb"][0] == {"unknown": "rpm: 2 answers for 1 files: one\\t1\\ntwo\\t2"}

    def test_without_the_program_it_is_unknown(self, host):
        assert installed(host, {"igb": IGB})["igb"][0]["unknown"].startswith("rpm is not installed")

    def test_on_a_tree_of_files_no_program_is_run(self, host):
        self.rpm(host, 'touch "$CYBORG_ROOT/ran"')
        os.unlink(host.real("/run/kernel.sock"))
        assert installed(host, {"igb": IGB})["igb"][0]["unknown"].startswith("rpm is not run below ")
        assert not host.tree.exists("/ran")
