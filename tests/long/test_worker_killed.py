# SPDX-License-Identifier: Apache-2.0
"""A worker that is killed in the middle of a change, under a server that goes on: the next one takes it up."""

import os
import signal

import pytest

from tests.integration.ansible_support import wait_until
from tests.integration.test_worker import LOOKS_S, QAT, place
from tests.long.test_cli_interrupted import at_work, is_being_changed

__all__ = ["place"]  # a fixture

pytestmark = pytest.mark.slow


def test_a_worker_that_is_killed_in_the_middle_is_started_again_and_the_next_one_goes_on(place):
    host, killed = place.console["qat-1"], place.children()["worker"]
    host.write(QAT, 0)
    os.kill(host.pid, signal.SIGSTOP)  # the write of the count takes as long as we like
    place.enqueue("qat-1")
    wait_until(lambda: is_being_changed(host), LOOKS_S)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not at_work(place.console), 60)
    assert "qat-1" in place.queued()
    os.kill(host.pid, signal.SIGCONT)
    wait_until(lambda: host.read(QAT) == "4", LOOKS_S)
    place.wait_for("qat-1", "Synced", "Idle")
    assert "the worker was ended by SIGKILL; it is started again in 1 s" in place.log()
    assert place.children()["worker"] != killed
    statuses = [row["status"] for row in place.console.memory("history")]
    assert "interrupted" in statuses
    assert place.server("GET", "/v1/accelerators").status == 200, "the server has noticed nothing"
