# SPDX-License-Identifier: Apache-2.0
"""Kernel arguments on real boot loaders: exactly one reboot where it helps, and an end to it where it never does."""

from pathlib import Path

import pytest

from tests.lab.console import Console

ARGUMENT = {"cyborg.lab": "1"}


@pytest.fixture
def console(tmp_path: Path):
    return lambda *guests: Console(tmp_path / "operator", guests)


@pytest.mark.slow
def test_an_argument_gets_exactly_one_reboot_and_goes_with_its_policy(grub_guest, console):
    at = console(grub_guest)
    at.declare("args", kernel_args=ARGUMENT)
    refused = at.apply()
    assert refused.code == 2
    assert "RebootNotAllowed" in refused.waits("node1")
    assert grub_guest.reboot_count() == 0

    at.must_apply("--allow-reboot")
    assert grub_guest.reboot_count() == 1
    assert "cyborg.lab=1" in grub_guest.ssh("cat /proc/cmdline").split()
    at.must_apply("--allow-reboot")
    assert grub_guest.reboot_count() == 1

    at.declare_pool(reboot={"allowed": True})
    at.undeclare("args")
    at.declare("idle", device_selector={"vendor_id": "ffff"}, sriov={"num_vfs": 1})
    at.must_apply()
    assert grub_guest.reboot_count() == 2
    assert "cyborg.lab" not in grub_guest.ssh("cat /proc/cmdline; sudo cat /etc/default/grub.d/* /boot/grub/grub.cfg")


@pytest.mark.slow
def test_an_argument_that_never_takes_effect_ends_in_reboot_loop_detected(guest, console):
    at = console(guest)
    at.declare("args", kernel_args=ARGUMENT)
    at.declare_pool(reboot={"allowed": True, "max_attempts": 2})
    for _ in range(3):
        answer = at.apply()
    assert answer.code == 2
    assert "after 2 reboots: cyborg.lab" in answer.waits("node1")["RebootLoopDetected"]
    assert guest.reboot_count() == 2
