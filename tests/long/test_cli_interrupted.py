# SPDX-License-Identifier: Apache-2.0
"""A controller that is killed, or told to stop, in the middle of a change: nothing goes on, and nothing is lost."""

import fcntl
import json
import os
import signal
import time

import pytest

from cyborg_reconciler.adapters.ansible import processes
from cyborg_reconciler.simulation import qat_1
from tests.integration.ansible_support import wait_until
from tests.integration.console import open_console

pytestmark = pytest.mark.slow

QAT = "0000:6b:00.0"
COUNT = f"/sys/bus/pci/devices/{QAT}/sriov_numvfs"


@pytest.fixture
def console(tmp_path):
    with open_console(tmp_path, qat_1()) as opened:
        yield opened


def is_being_changed(host):
    """Say whether somebody holds the lock of the host."""
    try:
        file = os.open(host.root / "run/cyborg-reconciler/lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def at_work(console):
    """Return the processes of all runs of the state folder."""
    return {pid for folder in (console.state / "runs").iterdir() for pid in processes.find(folder.name)}


def test_a_controller_that_is_killed_in_the_middle_leaves_nothing_running_and_the_next_one_converges(console):
    host = console["qat-1"]
    console.declare("qat", device_selector={"product_id": "4940"}, sriov={"num_vfs": 4, "vf_driver": "vfio-pci"})
    os.kill(host.pid, signal.SIGSTOP)  # the write of the count takes as long as we like
    with console.process("apply", "--yes") as controller:
        wait_until(lambda: is_being_changed(host), 300)
        assert console.memory("history")[0]["status"] == "running"
        assert console.status("qat-1")["phase"] == "Applying"
        second = console.type("apply", "--yes")
        assert second.code == 1
        assert f"process {controller.pid} works with it; wait for it" in second.last_error
        assert at_work(console)
        controller.kill()
        controller.wait()
    wait_until(lambda: not at_work(console), 60)
    assert not is_being_changed(host)
    os.kill(host.pid, signal.SIGCONT)

    done = console.apply()
    assert done.code == 0, done.errors
    assert "qat-1: an earlier run was interrupted; it is looked at again" in done.errors
    assert [row["status"] for row in console.memory("history")] == ["applied", "interrupted"]
    assert host.read(COUNT) == "4"
    assert (console.status("qat-1")["phase"], console.status("qat-1")["failed_in"]) == ("Idle", None)
    record = json.loads(host.read("/var/lib/cyborg-reconciler/ownership.json"))
    before = {tuple(field["path"]): field["before"] for field in record["fields"]}
    assert before[QAT, "sriov", "num_vfs"] == 0, "what was there before us was not forgotten"
    assert at_work(console) == set()


def test_the_loop_lets_a_wave_end_and_a_second_signal_breaks_it_off(console):
    host = console["qat-1"]
    console.declare("qat", device_selector={"product_id": "4940"}, sriov={"num_vfs": 4})
    os.kill(host.pid, signal.SIGSTOP)
    with console.process("run", "--yes") as loop:
        wait_until(lambda: is_being_changed(host), 300)
        loop.send_signal(signal.SIGTERM)
        time.sleep(2)
        assert loop.poll() is None
        assert is_being_changed(host)
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(60) == 130
    assert not is_being_changed(host)
    assert at_work(console) == set()
    os.kill(host.pid, signal.SIGCONT)
    (row,) = console.memory("history")
    assert (row["status"], row["hosts"]) == ("interrupted", "qat-1 interrupted")
    assert (console.status("qat-1")["phase"], console.status("qat-1")["failed_in"]) == ("Failed", "Applying")
