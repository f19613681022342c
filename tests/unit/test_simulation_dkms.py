# SPDX-License-Identifier: Apache-2.0
"""The simulated host builds and installs drivers with DKMS."""

from dataclasses import replace

import pytest

from cyborg_reconciler.simulation import guest_1, write_tree
from cyborg_reconciler.simulation.kernel import Kernel
from cyborg_reconciler.simulation.tools import run
from cyborg_reconciler.simulation.tree import Tree

EDU = "0000:00:06.0"
CONFIG = """PACKAGE_NAME="edu"
PACKAGE_VERSION="1.0"
BUILT_MODULE_NAME[0]="edu"
DEST_MODULE_LOCATION[0]="/updates"
AUTOINSTALL="yes"
"""
SOURCE = """
static int irq = 1;
module_param(irq, int, 0444);
static const struct pci_device_id ids[] = { { PCI_DEVICE(0x1234, 0x11e8) }, { } };
static struct pci_driver edu_driver = {
    .name = "edu",
    .id_table = ids,
};
MODULE_LICENSE("GPL");
MODULE_VERSION("1.0");
"""


@pytest.fixture
def guest(tmp_path):
    write_tree(replace(guest_1(), kernels=("6.1.0-28-amd64", "6.1.0-27-amd64")), tmp_path)
    kernel = Kernel(Tree(tmp_path))
    kernel.tree.write("/usr/src/edu-1.0/dkms.conf", CONFIG)
    kernel.tree.write("/usr/src/edu-1.0/edu.c", SOURCE)
    return kernel


def status(kernel):
    return run(kernel, ["dkms", "status"]).stdout


def test_a_driver_is_added_built_installed_loaded_and_bound(guest):
    assert status(guest) == ""
    assert run(guest, ["dkms", "add", "edu/1.0"]).rc == 0
    assert status(guest) == "edu/1.0: added\n"
    assert run(guest, ["dkms", "build", "-m", "edu", "-v", "1.0"]).rc == 0
    assert status(guest) == "edu/1.0, 6.1.0-28-amd64, x86_64: built\n"
    assert run(guest, ["modprobe", "edu"]).rc == 1
    assert run(guest, ["dkms", "install", "edu/1.0"]).rc == 0
    assert status(guest) == "edu/1.0, 6.1.0-28-amd64, x86_64: installed\n"

    assert run(guest, ["modprobe", "edu"]).rc == 0
    assert guest.pci.driver(EDU) == "edu"
    assert guest.tree.text("/sys/module/edu/version") == "1.0"
    assert guest.tree.text("/sys/module/edu/parameters/irq") == "0"
    assert guest.tree.target_name("/var/lib/dkms/edu/kernel-6.1.0-28-amd64-x86_64") == "x86_64"


def test_an_installed_driver_is_loaded_at_boot_and_gone_after_removal(guest):
    run(guest, ["dkms", "install", "-m", "edu", "-v", "1.0"])
    run(guest, ["reboot"])
    assert guest.pci.driver(EDU) == "edu"

    assert run(guest, ["dkms", "remove", "edu/1.0", "--all"]).rc == 0
    assert status(guest) == ""
    run(guest, ["reboot"])
    assert guest.pci.driver(EDU) is None
    assert not guest.tree.exists("/lib/modules/6.1.0-28-amd64/updates/dkms/edu.ko")
    assert not guest.tree.exists("/var/lib/dkms/edu")


def test_one_kernel_of_two_keeps_its_build(guest):
    for release in guest.machine.kernels:
        assert run(guest, ["dkms", "install", "edu/1.0", "-k", release]).rc == 0
    assert run(guest, ["dkms", "remove", "edu/1.0", "-k", "6.1.0-28-amd64"]).rc == 0
    assert status(guest) == "edu/1.0, 6.1.0-27-amd64, x86_64: installed\n"


def test_autoinstall_builds_for_a_kernel_what_the_store_has(guest):
    run(guest, ["dkms", "add", "edu/1.0"])
    assert run(guest, ["dkms", "autoinstall", "-k", "6.1.0-27-amd64"]).rc == 0
    assert status(guest) == "edu/1.0, 6.1.0-27-amd64, x86_64: installed\n"


def test_without_headers_nothing_is_built(guest):
    guest.tree.remove("/usr/src/linux-headers-6.1.0-28-amd64")
    result = run(guest, ["dkms", "install", "edu/1.0"])
    assert result.rc == 1
    assert "headers for kernel 6.1.0-28-amd64 cannot be found" in result.stderr
    assert status(guest) == "edu/1.0: added\n"


def test_source_that_does_not_compile_is_a_failed_build(guest):
    guest.tree.replace("/usr/src/edu-1.0/edu.c", f"#error too old\n{SOURCE}")
    result = run(guest, ["dkms", "build", "edu/1.0"])
    assert result.rc == 10
    assert "Bad return status for module build on kernel: 6.1.0-28-amd64" in result.stderr


@pytest.mark.parametrize(
    ("words", "rc"),
    [
        (["add", "no-such/1.0"], 2),
        (["remove", "edu/1.0", "--all"], 3),
        (["build"], 1),
        (["frobnicate", "edu/1.0"], 1),
    ],
)
def test_what_dkms_cannot_do_is_an_error(guest, words, rc):
    assert run(guest, ["dkms", *words]).rc == rc


def test_a_source_is_added_once(guest):
    run(guest, ["dkms", "add", "edu/1.0"])
    assert run(guest, ["dkms", "add", "edu/1.0"]).rc == 3
