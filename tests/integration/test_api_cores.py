# SPDX-License-Identifier: Apache-2.0
"""Do the processes that serve stay each on its core, and does one that stands in for another?"""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.api_support import serving, until


@pytest.fixture
def two_cores():
    """Has this process and those that it starts keep to two cores, where there are as many; gives these."""
    before = os.sched_getaffinity(0)
    cores = set(sorted(before)[:2])
    os.sched_setaffinity(0, cores)
    yield cores
    os.sched_setaffinity(0, before)


def cores_of(state):
    """The cores that each process that serves may run on, by its id, once it does."""
    found = {}
    for pid in re.findall(r"Booting worker with pid: (\d+)", Path(f"{state}.log").read_text(encoding="utf-8")):
        with suppress(ProcessLookupError):
            found[int(pid)] = os.sched_getaffinity(int(pid))
    return found


def test_each_has_one_of_its_own_and_who_stands_in_for_one_has_its(tmp_path, two_cores):
    state = tmp_path / "state"
    each = sorted([core] for core in two_cores)
    with serving(state, "--auth", "none", "--workers", str(len(two_cores))) as server:
        until(lambda: sorted(map(list, cores_of(state).values())) == each)
        victim = min(cores_of(state))
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in cores_of(state) and sorted(map(list, cores_of(state).values())) == each)
        assert server("GET", "/healthz").status == 200


@pytest.mark.parametrize(("workers", "cores"), [("1", "own"), ("2", "any")])
def test_where_there_are_more_cores_than_processes_or_nobody_wants_it_they_go_where_they_like(
    tmp_path, two_cores, workers, cores
):
    state = tmp_path / "state"
    with serving(state, "--auth", "none", "--workers", workers, cores=cores) as server:
        assert server("GET", "/healthz").status == 200
        until(lambda: len(cores_of(state)) == int(workers))
        assert all(found == two_cores for found in cores_of(state).values())


def test_it_is_read_anew_with_sighup(tmp_path, two_cores):
    state = tmp_path / "state"
    (config := tmp_path / "config/cyborg-reconciler/config.toml").parent.mkdir(parents=True)
    config.write_text('cores = "any"\n', encoding="utf-8")
    with serving(state, "--auth", "none", "--workers", str(len(two_cores))) as server:
        until(lambda: list(cores_of(state).values()) == [two_cores] * len(two_cores))
        config.write_text('cores = "own"\n', encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: sorted(map(list, cores_of(state).values())) == sorted([core] for core in two_cores))
