# SPDX-License-Identifier: Apache-2.0
"""`status` over a journal: all hosts in a table, one host with what is true of it, and all of that for programs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.core.conditions import Condition, ConditionType, Status
from cyborg_reconciler.core.state import Health, Phase, Sync
from cyborg_reconciler.ports import HostRecord
from tests.integration.console import call

SINCE = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
HELD = "VF 3 is held by qemu (pid 4711)"
FAILED = HostRecord(
    "qat-1",
    "",
    3,
    Sync.OUT_OF_SYNC,
    Health.DEGRADED,
    Phase.FAILED,
    reason="DeviceInUse",
    message=HELD,
    failed_in=Phase.APPLYING,
    conditions=(
        Condition(ConditionType.READY, Status.FALSE, "DeviceInUse", HELD, SINCE, 3),
        Condition(ConditionType.DEGRADED, Status.TRUE, "ChangeFailed", "\x1b[2J it failed", SINCE, 3),
    ),
)


def record(folder):
    with open_journal(folder) as journal:
        journal.record_hosts([FAILED, replace(FAILED, name="qat-2", phase=Phase.IDLE, failed_in=None)])


def test_a_host_that_is_named_alone_is_shown_with_its_conditions(tmp_path):
    record(tmp_path)
    lines = call("status", "qat-1", "--state", tmp_path).output.splitlines()
    assert lines[1].startswith("qat-1  OutOfSync  Degraded  Failed (Applying)")
    assert lines[1].endswith(f"DeviceInUse: {HELD}")
    assert lines[3].split() == ["condition", "status", "since", "generation", "reason", "why"]
    age = (datetime.now(UTC) - SINCE) // timedelta(days=1)
    ready, degraded = lines[4:]
    assert ready.split()[:4] == ["Ready", "False", str(age), "d"]
    assert ready.endswith(f"3  DeviceInUse   {HELD}")
    assert "ChangeFailed  \N{REPLACEMENT CHARACTER}[2J it failed" in degraded


def test_several_hosts_are_a_table_alone(tmp_path):
    record(tmp_path)
    for words in ([], ["qat-1", "qat-2"]):
        lines = call("status", *words, "--state", tmp_path).output.splitlines()
        assert [line.split()[0] for line in lines] == ["host", "qat-1", "qat-2"]
    assert "Failed" not in lines[2]


def test_programs_get_the_conditions_of_all_hosts(tmp_path):
    record(tmp_path)
    first, second = call("status", "--output", "json", "--state", tmp_path).data
    assert (first["phase"], first["failed_in"]) == ("Failed", "Applying")
    assert (second["phase"], second["failed_in"]) == ("Idle", None)
    assert first["conditions"] == second["conditions"]
    assert first["conditions"][0] == {
        "type": "Ready",
        "status": "False",
        "reason": "DeviceInUse",
        "message": HELD,
        "last_transition_time": "2026-01-05T12:00:00+00:00",
        "observed_generation": 3,
    }
