# SPDX-License-Identifier: Apache-2.0
"""Runs that are cancelled, take too long, or lose their controller: whatever happens, nothing of them goes on."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from cyborg_reconciler.adapters.ansible import processes
from cyborg_reconciler.adapters.ansible.environment import MARKER
from cyborg_reconciler.adapters.ansible.executor import AnsibleExecutor
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions
from cyborg_reconciler.adapters.ansible.run import settle
from cyborg_reconciler.documents.plan import Outcome, encode
from cyborg_reconciler.ports import Observation, Unobserved
from cyborg_reconciler.testing import ignore_progress
from tests.integration.ansible_support import (
    LOCAL,
    SLEEP,
    is_sleeping,
    make_options,
    make_plan,
    marked,
    observe,
    wait_until,
    write_playbook,
)


@pytest.fixture(autouse=True)
def _end_everything(tmp_path: Path) -> Iterator[None]:
    """End what a test that failed leaves running."""
    yield
    for folder in (tmp_path / "runs").glob("*"):
        processes.end(folder.name)


def test_a_cancelled_run_leaves_no_process(tmp_path: Path) -> None:
    options = make_options(
        tmp_path, {"one": LOCAL, "two": LOCAL}, apply_playbook=write_playbook(tmp_path / "sleep.yml", SLEEP)
    )
    executor = AnsibleExecutor(options)
    outcomes: dict[str, Outcome] = {}
    thread = threading.Thread(
        target=lambda: outcomes.update(executor.apply(make_plan(Path("/x"), "one", "two"), ignore_progress))
    )
    thread.start()
    wait_until(lambda: sum(command == "sleep 600" for command in marked(options).values()) == 2)
    executor.cancel()
    thread.join(60)
    assert {host: outcome.status for host, outcome in outcomes.items()} == {"one": "cancelled", "two": "cancelled"}
    assert marked(options) == {}


def test_a_run_that_takes_too_long_is_stopped_and_leaves_no_process(tmp_path: Path) -> None:
    playbook = write_playbook(tmp_path / "sleep.yml", SLEEP)
    options = make_options(tmp_path, {"one": LOCAL}, apply_playbook=playbook, run_timeout_s=8.0)
    outcomes = AnsibleExecutor(options).apply(make_plan(Path("/x"), "one"), ignore_progress)
    assert outcomes["one"].status == "cancelled"
    assert "after 8 s" in outcomes["one"].message
    assert marked(options) == {}


def test_a_host_that_hangs_is_told_as_failed_while_another_is_observed(tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 600\n")
    hangs.chmod(0o755)
    hung = {**LOCAL, "ansible_python_interpreter": str(hangs), "cyborg_observe_timeout_s": 3}
    options = make_options(tmp_path, {"one": LOCAL, "two": hung})
    found = observe(options)
    assert isinstance(found["one"], Observation)
    assert isinstance(found["two"], Unobserved)
    assert (found["two"].reason, marked(options)) == ("Failed", {})
    assert "3" in found["two"].message


def test_ansible_that_will_not_stop_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    deaf = """
- name: Be deaf
  hosts: all
  gather_facts: false
  tasks:
    - name: Start something that hears no SIGTERM, in a session of its own
      ansible.builtin.shell: "trap '' TERM; setsid sh -c \\"trap '' TERM; sleep 600\\" & sleep 600"
"""
    options = make_options(
        tmp_path, {"one": LOCAL}, apply_playbook=write_playbook(tmp_path / "deaf.yml", deaf), grace_s=1.0
    )
    executor, seen = AnsibleExecutor(options), []

    def cancel() -> None:
        wait_until(lambda: is_sleeping(options))
        seen.append("asleep")
        executor.cancel()

    watch = threading.Thread(target=cancel)
    watch.start()
    outcomes = executor.apply(make_plan(Path("/x"), "one"), ignore_progress)
    watch.join(60)
    assert (seen, outcomes["one"].status) == (["asleep"], "cancelled")
    assert marked(options) == {}


PARENT = """
import json, sys
from pathlib import Path
from uuid import uuid4
from cyborg_reconciler.adapters.ansible.executor import AnsibleExecutor
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions
from cyborg_reconciler.documents.facts import Device, Drivers, Facts, KernelFacts
from cyborg_reconciler.documents.plan import decode_plan
from cyborg_reconciler.testing import ignore_progress
inventory, runs, playbook, plan = sys.argv[1:]
options = AnsibleOptions(inventory=(inventory,), runs=Path(runs), apply_playbook=playbook, grace_s=5.0)
AnsibleExecutor(options).apply(decode_plan(Path(plan).read_bytes()), ignore_progress)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[tuple[AnsibleOptions, subprocess.Popen[bytes]]]:
    """A controller in a process of its own, whose run sleeps."""
    playbook = write_playbook(tmp_path / "sleep.yml", SLEEP)
    options = make_options(tmp_path, {"one": LOCAL}, apply_playbook=playbook, grace_s=2.0)
    (tmp_path / "plan.json").write_bytes(encode(make_plan(Path("/x"), "one")))
    arguments = [options.inventory[0], options.runs, options.apply_playbook, tmp_path / "plan.json"]
    with subprocess.Popen([sys.executable, "-c", PARENT, *arguments], env=dict(options.environ)) as process:
        wait_until(lambda: is_sleeping(options))
        yield options, process
        process.kill()


def test_another_process_that_settles_leaves_a_run_alone_and_kill_9_of_its_controller_stops_it(
    parent: tuple[AnsibleOptions, subprocess.Popen[bytes]],
) -> None:
    options, process = parent
    AnsibleExecutor(options).settle()
    assert is_sleeping(options)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not marked(options), 30)


def test_kill_9_of_the_controller_and_its_child_stops_the_run_too_and_the_next_start_scrubs_it(
    parent: tuple[AnsibleOptions, subprocess.Popen[bytes]],
) -> None:
    options, process = parent
    ((child, _),) = [item for item in marked(options).items() if "ansible.child" in item[1]]
    process.send_signal(signal.SIGKILL)
    os.kill(child, signal.SIGKILL)  # and so nobody of ours is there who would stop Ansible
    process.wait()
    wait_until(lambda: not marked(options), 30)
    AnsibleExecutor(options).settle()
    (folder,) = options.runs.iterdir()
    assert (folder / "ended").read_text() == "interrupted\n"
    assert not (folder / "variables.json").exists()
    AnsibleExecutor(options).settle()


def test_settling_waits_for_a_run_that_is_about_to_end(tmp_path: Path) -> None:
    run = tmp_path / f"runs/{uuid4().hex[:16]}"  # what is found by its name is no other story's
    run.mkdir(parents=True)
    with subprocess.Popen(["/bin/sleep", "2"], env={MARKER: run.name}) as process:
        wait_until(lambda: processes.find(run.name) or process.poll() is not None)
        settle(run.parent, 10.0)
        assert process.wait() == 0, "it was not ended, it ended"


def test_settling_ends_what_would_go_on(tmp_path: Path) -> None:
    run = tmp_path / f"runs/{uuid4().hex[:16]}"  # what is found by its name is no other story's
    run.mkdir(parents=True)
    with subprocess.Popen(["/bin/sleep", "600"], env={MARKER: run.name}) as process:
        wait_until(lambda: processes.find(run.name) == {process.pid})  # a new program shows no environment at first
        watch = threading.Thread(target=process.wait)  # as init does for what was left: a zombie never goes
        watch.start()
        settle(run.parent, 0.1)
        watch.join(60)
        assert process.returncode == -signal.SIGTERM
    assert (run / "ended").read_text() == "interrupted\n"


def test_settling_where_nothing_ever_ran_does_nothing(tmp_path: Path) -> None:
    settle(tmp_path / "nowhere", 10.0)
