# SPDX-License-Identifier: Apache-2.0
"""What does the meter tell Prometheus, and does its fake count the same?"""

import pytest

from cyborg_reconciler.adapters.prometheus import PrometheusMeter
from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.meters import (
    CHECK_INS,
    COUNTED,
    HOSTS,
    QUEUE_LENGTH,
    REQUEST_SECONDS,
    REQUESTS_IN_FLIGHT,
    TALLIED,
    WRITTEN_TOGETHER,
)
from cyborg_reconciler.testing import CountingMeter, FixedTallies

REQUEST = {"route": "/v1/accelerators/{uuid}", "method": "GET", "status": "200"}


def told(meter):
    """What is told: the value of each line that is no comment."""
    lines = [line for line in meter.exposition().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_what_is_counted_is_told():
    meter, fake = PrometheusMeter(FixedTallies()), CountingMeter()
    for one in (meter, fake):
        one.add(CHECK_INS, 3, result="changed")
        one.add(CHECK_INS, result="changed")
        one.add(REQUESTS_IN_FLIGHT, 2)
        one.add(REQUESTS_IN_FLIGHT, -1)
        one.observe(WRITTEN_TOGETHER, 7)
        one.observe(REQUEST_SECONDS, 0.02, **REQUEST)
    found = told(meter)
    assert found['cyborg_reconciler_check_ins_total{result="changed"}'] == fake.counted[CHECK_INS, ("changed",)] == 4
    assert found["cyborg_reconciler_api_requests_in_flight"] == fake.counted[REQUESTS_IN_FLIGHT, ()] == 1
    assert found['cyborg_reconciler_check_ins_written_together_bucket{le="5.0"}'] == 0
    assert found['cyborg_reconciler_check_ins_written_together_bucket{le="10.0"}'] == 1
    assert fake.observed[WRITTEN_TOGETHER, ()] == [7]
    labels = 'method="GET",route="/v1/accelerators/{uuid}",status="200"'
    assert found[f"cyborg_reconciler_api_request_duration_seconds_sum{{{labels}}}"] == 0.02


def test_what_there_is_is_read_when_it_is_asked_for_and_kept_for_a_while():
    tallies = FixedTallies({HOSTS: {("Idle", "Synced", "Healthy", "false"): 3}, QUEUE_LENGTH: {(): 2}})
    meter = PrometheusMeter(tallies, kept_s=1000)
    assert tallies.asked == 0
    for _ in range(2):
        found = told(meter)
        labels = 'drifted="false",health="Healthy",phase="Idle",sync="Synced"'
        assert found[f"cyborg_reconciler_hosts{{{labels}}}"] == 3
        assert found["cyborg_reconciler_queue_length"] == 2
        assert found["cyborg_reconciler_database_up"] == 1
    assert tallies.asked == 1


def test_a_database_that_does_not_answer_leaves_what_was_counted():
    tallies = FixedTallies({QUEUE_LENGTH: {(): 2}}, JournalError(found="gone"))
    meter = PrometheusMeter(tallies, kept_s=0)
    meter.add(CHECK_INS, result="unchanged")
    found = told(meter)
    assert found["cyborg_reconciler_database_up"] == 0
    assert found['cyborg_reconciler_check_ins_total{result="unchanged"}'] == 1
    assert "cyborg_reconciler_queue_length" not in found
    tallies.error = None
    assert told(meter)["cyborg_reconciler_database_up"] == 1


@pytest.mark.parametrize("metric", [*COUNTED, *TALLIED], ids=lambda metric: metric.name)
def test_a_metric_is_named_as_prometheus_has_it(metric):
    assert metric.name.startswith("cyborg_reconciler_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert (metric.kind == "histogram") == bool(metric.buckets)
    assert metric.help.endswith((".", "0"))
