# SPDX-License-Identifier: Apache-2.0
"""What the adapter makes of events; those below were recorded from ansible-core 2.19 under ansible-runner 2.4."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from cyborg_reconciler.adapters.ansible.events import (
    Ended,
    HostEvent,
    decode_message,
    encode_message,
    find_reason,
    one_line,
    parse_event,
)
from cyborg_reconciler.adapters.ansible.executor import Story
from cyborg_reconciler.adapters.ansible.observer import explain_missing, parse_observation, require_some
from cyborg_reconciler.documents.facts import Drivers, Facts, KernelFacts
from cyborg_reconciler.documents.plan import ActionsSegment, HostPlan, RebootSegment, RoleSegment, Step
from cyborg_reconciler.errors import ExecutionError
from cyborg_reconciler.ports import Observation, Progress, Unobserved

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
ENDED = Ended(status="failed", rc=2)


def recorded(event: str, result: dict[str, Any] | None = None, **more: object) -> dict[str, Any]:
    data = {"host": "compute-1", "task": "Read every host", "task_action": "openstack.cyborg.host_facts", **more}
    return {"event": event, "uuid": "u", "counter": 7, "stdout": "", "event_data": {**data, "res": result}}


def make_facts(version: int = 1) -> dict[str, Any]:
    kernel = KernelFacts(release="6.1", architecture="x86_64", boot_id="b1")
    facts = Facts(
        facts_version=version,
        hostname="c1",
        devices=[],
        drivers=Drivers(modules=[]),
        kernel=kernel,
        fingerprint="f1",
    )
    return msgspec.to_builtins(facts)


def test_what_is_no_text_in_utf_8_is_spelled_and_loses_no_other_host() -> None:
    facts = {**make_facts(), "hostname": "caf\udce9", "\ud800": ["\udcff", 1, None]}
    sent = encode_message(HostEvent(host="compute-1", happened="ok", facts=facts, message="\udcff"))
    received = decode_message(sent)
    assert isinstance(received, HostEvent)
    assert received.message == "\\udcff"
    assert received.facts is not None
    assert (received.facts["hostname"], received.facts["\\ud800"]) == ("caf\\udce9", ["\\udcff", 1, None])
    assert isinstance(parse_observation(received, NOW), Observation)


UNREACHABLE = {
    "unreachable": True,
    "exception": "(traceback unavailable)",
    "msg": "Task failed: Failed to connect to the host via ssh: ssh: connect to host 10.0.0.7: Connection refused",
    "changed": False,
}
NO_INTERPRETER = {
    "msg": "The module interpreter '/nonexistent/python3' was not found.",
    "module_stdout": "",
    "module_stderr": "/bin/sh: 1: /nonexistent/python3: not found\n",
    "rc": 127,
}
NO_PYTHON_WITH_SUDO = {
    "msg": "Module result deserialization failed: No start of json char found",
    "module_stdout": "",
    "module_stderr": "sudo: /usr/bin/python3: command not found\n",
    "rc": 1,
}
NO_PYTHON_OVER_SSH = {
    "msg": "MODULE FAILURE\nSee stdout/stderr for the exact error",
    "module_stdout": "/bin/sh: 1: /usr/bin/python3: not found\r\n",
    "module_stderr": "Shared connection to 10.0.0.7 closed.\r\n",
    "rc": 127,
}


def observe(event: dict[str, Any]) -> Observation | Unobserved | None:
    parsed = parse_event(event)
    assert parsed
    return parse_observation(parsed, NOW)


def test_facts_are_kept_as_canonical_json() -> None:
    facts = make_facts()
    shuffled = dict(reversed(facts.items()))
    seen = observe(recorded("runner_on_ok", {"changed": False, "ansible_facts": {"cyborg_facts": shuffled}}))
    assert isinstance(seen, Observation)
    assert seen.facts.fingerprint == "f1"
    assert seen.document == msgspec.json.encode(facts, order="sorted")


def test_facts_of_another_version_are_unreadable() -> None:
    seen = observe(recorded("runner_on_ok", {"ansible_facts": {"cyborg_facts": make_facts(version=9)}}))
    assert isinstance(seen, Unobserved)
    assert seen.reason == "Unreadable"
    assert "version 9" in seen.message


def test_facts_of_another_shape_are_unreadable() -> None:
    seen = observe(recorded("runner_on_ok", {"ansible_facts": {"cyborg_facts": {"facts_version": 1}}}))
    assert isinstance(seen, Unobserved)
    assert seen.reason == "Unreadable"


def test_an_unreachable_host_is_unreachable() -> None:
    reason = "Failed to connect to the host via ssh: ssh: connect to host 10.0.0.7: Connection refused"
    assert observe(recorded("runner_on_unreachable", UNREACHABLE)) == Unobserved("Unreachable", reason)


@pytest.mark.parametrize("result", [NO_INTERPRETER, NO_PYTHON_WITH_SUDO, NO_PYTHON_OVER_SSH])
def test_a_host_without_python_is_said_to_have_none(result: dict[str, Any]) -> None:
    seen = observe(recorded("runner_on_failed", result))
    assert isinstance(seen, Unobserved)
    assert seen.reason == "Failed"
    assert "no Python" in seen.message
    assert "ansible_python_interpreter" in seen.message


def test_a_failed_module_says_why() -> None:
    event = recorded("runner_on_failed", {"msg": "Task failed: /sys/bus/pci: Permission denied", "rc": 1})
    assert observe(event) == Unobserved("Failed", "/sys/bus/pci: Permission denied")
    assert observe(recorded("runner_on_failed", {})) == Unobserved("Failed", "the task failed and said nothing")


def test_a_plan_that_lost_its_host_half_way_says_unreachable() -> None:
    said = {"status": "failed", "message": "lost", "steps": [{"id": "one", "status": "changed"}]}
    result = {"failed": True, "unreachable": True, "msg": "the connection was lost: timed out", "cyborg_outcome": said}
    parsed = parse_event(recorded("runner_on_failed", result, task_action="openstack.cyborg.apply_plan"))
    assert parsed
    assert tell(parsed) == ("unreachable", ["one changed"], "the connection was lost: timed out")


def test_a_failure_that_the_playbook_ignores_is_none() -> None:
    parsed = parse_event(recorded("runner_on_failed", {"msg": "no"}, ignore_errors=True))
    assert parsed
    assert (parsed.happened, parse_observation(parsed, NOW)) == ("ok", None)


@pytest.mark.parametrize("name", ["playbook_on_start", "playbook_on_task_start", "runner_on_skipped", "verbose"])
def test_other_events_say_nothing_of_a_host(name: str) -> None:
    assert parse_event(recorded(name)) is None
    assert parse_event({"event": name, "stdout": ""}) is None


@pytest.mark.parametrize(
    ("event", "progress"),
    [
        (recorded("runner_on_start"), Progress("compute-1", "observe", "started")),
        (recorded("runner_on_ok", {"changed": False}), Progress("compute-1", "observe", "ok")),
        (
            recorded("runner_on_ok", {"changed": True}, task_action="openstack.cyborg.apply_plan"),
            Progress("compute-1", "apply", "changed"),
        ),
        (
            recorded("runner_on_ok", {}, task_action="ansible.builtin.include_role"),
            Progress("compute-1", "role", "ok"),
        ),
        (
            recorded("runner_on_failed", {"msg": "no gcc"}, task_action="ansible.builtin.package", task="Install gcc"),
            Progress("compute-1", "Install gcc", "failed", "no gcc"),
        ),
    ],
)
def test_progress_speaks_of_steps(event: dict[str, Any], progress: Progress) -> None:
    parsed = parse_event(event)
    assert parsed
    assert parsed.progress() == progress


def test_messages_travel_as_lines() -> None:
    event = HostEvent(host="h", happened="ok", facts={"name": "two\nlines", "none": None})
    line = encode_message(event)
    assert line.count(b"\n") == 1
    assert decode_message(line) == event
    assert decode_message(encode_message(ENDED)) == ENDED


def test_what_a_host_says_is_one_line_without_control_characters() -> None:
    assert one_line("a\x1b[31mred\x07\n  b\r\n") == "a [31mred b"
    assert len(one_line("x" * 10_000)) == 500


def test_ansibles_first_error_is_the_reason() -> None:
    output = ["[WARNING]: something", "[ERROR]: the playbook: x could not be found", "Origin: here"]
    assert find_reason(output) == "the playbook: x could not be found Origin: here"
    assert find_reason(["ERROR! no action detected"]) == "no action detected"
    assert find_reason(["PLAY [x]", "PLAY RECAP ***", "good: ok=1"]) == ""
    assert find_reason(["some", "words", "at", "the end"]) == "words at the end"


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (Ended(status="timeout"), "after 600 s"),
        (Ended(status="cancelled"), "was cancelled"),
        (Ended(status="failed", said="no hosts matched"), "without a word of this host: no hosts matched"),
        (Ended(status="successful"), "without a word of this host"),
    ],
)
def test_a_host_without_a_result_is_missing(ended: Ended, words: str) -> None:
    missing = explain_missing(ended, 600)
    assert missing.reason == "Missing"
    assert words in missing.message


def test_a_run_that_comes_to_nothing_is_an_error() -> None:
    with pytest.raises(ExecutionError, match="a run of x: no such playbook"):
        require_some(Ended(status="failed", said="no such playbook"), heard=False, playbook="x")
    require_some(Ended(status="failed", said="of one host"), heard=True, playbook="x")
    require_some(Ended(status="cancelled"), heard=False, playbook="x")


# ------------------------------------------------------------------------------------------------------------- outcomes
PLAN = HostPlan(
    generation=1,
    digest="d",
    fingerprint="f",
    segments=[
        ActionsSegment(steps=[Step(id="one", module="kernel_module", args={})]),
        RoleSegment(id="two", role="openstack.cyborg.dkms", args={}),
        RebootSegment(id="three", boot_id="b", timeout_s=60),
    ],
)


def report(status: str, **steps: str) -> HostEvent:
    said = {"status": status, "message": "", "steps": [{"id": id_, "status": how} for id_, how in steps.items()]}
    happened = "changed" if status == "applied" else "failed"
    return HostEvent(host="h", happened=happened, message=status, outcome=said)


def tell(*events: HostEvent, ended: Ended = ENDED) -> tuple[str, list[str], str]:
    story = Story(PLAN)
    for event in events:
        story.add(event)
    outcome = story.outcome(ended, 3600)
    return outcome.status, [f"{step.id} {step.status}" for step in outcome.steps], outcome.message


FIRST = report("applied", one="changed")
ALL = report("applied", one="changed", two="changed", three="unchanged")
FAILED_ROLE = HostEvent(host="h", happened="failed", task="Build it", message="no gcc")


def test_applied_is_what_was_reported_to_the_last_step() -> None:
    assert tell(FIRST, ALL) == ("applied", ["one changed", "two changed", "three unchanged"], "")


def test_a_plan_that_was_not_walked_to_its_end_is_not_applied() -> None:
    assert tell(FIRST)[0] == "missing"
    assert tell(FIRST, ended=Ended(status="successful"))[0] == "missing"
    assert tell(FIRST, ended=Ended(status="cancelled")) == (
        "cancelled",
        ["one changed"],
        "the run was cancelled; the last word was of one",
    )
    assert "after 3600 s" in tell(FIRST, ended=Ended(status="timeout"))[2]


def test_a_finished_host_is_applied_though_the_run_was_stopped() -> None:
    assert tell(ALL, ended=Ended(status="timeout"))[0] == "applied"


def test_a_host_without_a_word_is_missing() -> None:
    assert tell() == ("missing", [], "the run ended without a word of this host")


def test_a_refusal_is_the_hosts_outcome() -> None:
    assert tell(report("refused", one="refused", two="skipped", three="skipped"))[0] == "refused"


def test_a_role_that_fails_is_in_the_report_that_follows() -> None:
    rescue = report("failed", one="changed", two="failed", three="skipped")
    assert tell(FIRST, FAILED_ROLE, rescue)[:2] == ("failed", ["one changed", "two failed", "three skipped"])


def test_a_role_that_fails_without_a_report_is_a_failure() -> None:
    assert tell(FIRST, FAILED_ROLE) == ("failed", ["one changed"], "no gcc")


def test_a_host_that_is_lost_on_the_way_is_unreachable() -> None:
    lost = HostEvent(host="h", happened="unreachable", message="timed out")
    assert tell(FIRST, lost) == ("unreachable", ["one changed"], "timed out")
    assert tell(ALL, lost)[0] == "unreachable"


def test_an_outcome_that_cannot_be_read_is_a_failure() -> None:
    status, _, message = tell(HostEvent(host="h", happened="ok", outcome={"status": "perhaps"}))
    assert status == "failed"
    assert "cannot read" in message


@pytest.mark.parametrize(
    ("line", "happened"),
    [
        ("openstack.cyborg reboots compute-1", "started"),
        ("openstack.cyborg rebooted compute-1\r\n", "changed"),
        ("openstack.cyborg could not reboot compute-1", "failed"),
        ("openstack.cyborg reboots two words", None),
        ("[WARNING]: openstack.cyborg reboots compute-1", None),
        ("", None),
    ],
)
def test_a_reboot_inside_of_a_task_is_told_by_what_is_printed(line: str, happened: str | None) -> None:
    found = parse_event({"event": "verbose", "stdout": line, "event_data": {}})
    assert (found and found.progress()) == (Progress("compute-1", "reboot", happened) if happened else None)
    assert parse_event({"event": "warning", "stdout": line, "event_data": {}}) is None


def test_a_reboot_that_failed_leaves_the_words_to_the_task_that_it_was_a_part_of() -> None:
    story = Story(HostPlan(generation=1, digest="d", fingerprint="f", segments=[]))
    for name, result in (("verbose", None), ("runner_on_failed", {"msg": "the boot id is still b1"})):
        event = recorded(name, result) | {"stdout": "openstack.cyborg could not reboot compute-1"}
        if found := parse_event(event):
            story.add(found)
    assert story.outcome(ENDED, 60).message == "the boot id is still b1"
