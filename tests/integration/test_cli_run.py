# SPDX-License-Identifier: Apache-2.0
"""The loop: it waits for approval, corrects drift, sees changed policies, survives broken ones, and ends when told."""

import signal
from datetime import UTC, datetime

import pytest

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.ports import Event
from cyborg_reconciler.simulation import qat_1
from tests.integration.ansible_support import wait_until
from tests.integration.console import open_console

pytestmark = pytest.mark.slow

COUNT = "/sys/bus/pci/devices/0000:6b:00.0/sriov_numvfs"
#: A turn of the loop takes seconds, and on a busy machine a minute.
TURNS_S = 300.0


@pytest.fixture
def console(tmp_path):
    with open_console(tmp_path, qat_1()) as opened:
        yield opened


def declare(console, num_vfs, **more):
    console.declare("qat", device_selector={"product_id": "4940"}, sriov={"num_vfs": num_vfs}, **more)


def test_the_loop_keeps_hosts_as_declared_and_does_nothing_that_it_may_not(console):
    host = console["qat-1"]

    def standing():
        return [(record["sync"], record["phase"], record["reason"]) for record in console.memory("status")]

    def wait_for(*wanted):
        wait_until(lambda: standing() == [wanted], TURNS_S)

    declare(console, 4)
    with open_journal(console.state) as journal:
        journal.record_event(Event(datetime(2020, 1, 5, tzinfo=UTC), "LongAgo"))
    with console.process("run", "--interval", "4") as loop:
        wait_until(lambda: "qat-1: OutOfSync: PendingApproval" in console.log("run"), TURNS_S)
        wait_for("OutOfSync", "PendingApproval", "PendingApproval")
        assert "`cyborg-reconciler approve --limit qat-1` lets it go on" in console.status("qat-1")["message"]
        assert host.read(COUNT) == "0"
        approved = console.type("approve", "--yes")
        assert (approved.code, approved.output.splitlines()[-1]) == (0, "qat-1   approved, generation 1")
        wait_for("Synced", "Idle", "")
        assert host.read(COUNT) == "4"

        # A broken tree, and drift: nothing is touched while it cannot be told what is declared.
        (console.policies / "broken.yml").write_text("kind: AcceleratorPolicy\nspec: [")
        wait_until(lambda: "broken.yml:2" in console.log("run"), TURNS_S)
        host.write(COUNT, 0)
        looks = console.log("run").count("looked at again at the next turn")
        wait_until(lambda: console.log("run").count("looked at again at the next turn") > looks, TURNS_S)
        assert (host.read(COUNT), console.status("qat-1")["sync"]) == ("0", "Synced")

        # It is mended, and the pool needs no approval any more: the drift is corrected.
        console.declare_pool(approval="automatic")
        (console.policies / "broken.yml").unlink()
        wait_until(lambda: host.read(COUNT) == "4", TURNS_S)

        declare(console, 6, mode="warn")
        wait_for("OutOfSync", "Idle", "ModeWarn")
        assert host.read(COUNT) == "4", "a warning changes nothing"
        assert loop.poll() is None
        loop.send_signal(signal.SIGTERM)
        assert loop.wait(TURNS_S) == 0
    assert "Traceback" not in console.log("run")
    assert [row["status"] for row in console.memory("history")] == ["applied", "applied"]
    kinds = [event["kind"] for event in console.memory("history", "--events", "--last", 1000)]
    assert kinds.count("ApplyStarted") == 2
    assert (kinds.count("LongAgo"), kinds.count("EventsForgotten")) == (0, 1)
