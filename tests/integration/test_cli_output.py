# SPDX-License-Identifier: Apache-2.0
"""How the command line speaks: to programs in JSON, to people in lines, to a terminal in colours unless told not to."""

import json
import os
import re
import subprocess

import pytest

from cyborg_reconciler.simulation import nic_1
from tests.integration.console import NOTHING, PROGRAM, QUIET, call, on_a_terminal, open_console

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
WRONG = "api_version: cyborg/v1\nkind: AcceleratorPolicy\nmetadata: {name: x}\nspec: {bogus: 1}\n"


def shown(*words, **environ):
    """Return what a command that fails writes to a terminal."""
    with on_a_terminal(words, **environ) as terminal:
        said = terminal.read_to_the_end()
        assert terminal.code == 1
    return said


class Observed:
    """A host with names of every kind, and what `observe` says of it to people and to programs."""

    def __init__(self, console):
        self.console, root = console, console["nic-1"].root
        (root / "etc/os-release").write_text('ID=ubuntu\nVERSION_ID="12[/bold] :end:"\n')
        net = (root / "sys/bus/pci/devices/0000:ca:00.1").resolve() / "net/caf\udce9"
        (net / "upper_\udcff").mkdir(parents=True)
        (root / "sys/class/net/caf\udce9").symlink_to(os.path.relpath(net, root / "sys/class/net"))
        (root / "sys/module/ice/parameters/mode").write_bytes(b"\xff\n")
        self.text, self.data = console.type("observe"), console.type("observe", "--output", "json")


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    with open_console(tmp_path_factory.mktemp("observed"), nic_1()) as console:
        yield Observed(console)


def test_what_a_host_reports_is_whole_for_people_and_json_for_programs(observed):
    text, data = observed.text, observed.data
    assert (text.code, data.code) == (0, 0)
    rows = {line.split()[0]: line for line in text.output.splitlines()[2:]}
    assert re.search(r"NIC +8086:1592 +ice +0 of 64 +0 +net ens7f0 .* default route", rows["0000:ca:00.0"])
    assert "root disk" in rows["0000:02:00.0"]
    assert "…" not in text.output, "a pipe is as wide as it has to be"
    assert "\x1b" not in text.output + text.errors
    facts = data.data["nic-1"]
    assert (facts["facts_version"], facts["hostname"]) == (1, "nic-1")
    assert text.errors.splitlines()[0] == "nic-1: observe: ok"


def test_what_is_not_to_be_done_is_said_and_remembered(observed):
    console = observed.console
    console.declare("idle", **NOTHING)
    plan = console.type("plan")
    assert plan.code == 0
    assert plan.output.splitlines()[-1] == "Nothing to do. 1 host is Synced."
    assert "policy idle selects no host or device here" in plan.output
    console.undeclare("idle")
    assert "no policy is declared; nothing is done, and nothing undone" in console.type("plan").output

    (row,) = console.memory("status", "nic-1")
    assert (row["sync"], row["phase"], row["changed_at"]) == ("Synced", "Idle", None)
    told = call("status", "--state", console.state)
    assert told.output.splitlines()[1].split()[:4] == ["nic-1", "Synced", "Healthy", "Idle"]
    assert call("history", "--state", console.state).output == "nothing yet\n"
    assert {event["host"] for event in console.memory("history", "--events")} == {"nic-1"}


def test_what_a_host_calls_itself_is_shown_as_it_is(observed):
    assert observed.text.output.split("   ")[:2] == ["nic-1", "ubuntu 12[/bold] :end:"]


def test_names_that_are_no_utf_8_come_all_the_way_spelled(observed):
    assert "net \\xff on caf\\xe9" in observed.text.output
    (facts,) = observed.data.data.values()
    (found,) = (one for one in facts["devices"] if one["address"] == "0000:ca:00.1")
    assert "caf\\xe9" in found["net_names"]
    (ice,) = (one for one in facts["drivers"]["modules"] if one["name"] == "ice")
    assert ice["parameters"]["mode"] == "\\xff"


def test_colours_are_for_terminals_and_not_for_those_who_do_not_want_them(tmp_path):
    (tmp_path / "wrong.yml").write_text(WRONG)
    assert COLOUR.search(shown("validate", tmp_path))
    assert not COLOUR.search(shown("validate", tmp_path, NO_COLOR="1"))
    assert "\x1b" not in call("validate", tmp_path).errors


def test_a_traceback_is_for_those_who_ask_for_it(tmp_path):
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WRONG)
    words = ["plan", "-p", wrong, "--state", tmp_path / "state"]
    for debug in (["--debug", *words], [*words, "--debug"]):
        assert "Traceback (most recent call last)" in call(*debug).errors
    plain = call(*words)
    assert "Traceback" not in plain.errors
    assert all(line.startswith(f"error: {wrong}:4: spec") for line in plain.errors.splitlines())


@pytest.mark.parametrize("words", [["-ojson"], ["-o", "json"], ["--output", "json"], ["--output=json"], ["-yojson"]])
def test_programs_get_an_error_as_json_however_they_ask_for_it(tmp_path, words):
    (tmp_path / "wrong.yml").write_text(WRONG)
    said = call("apply", *words, "-p", tmp_path, "--state", tmp_path / "state")
    assert (said.code, said.data["error"]) == (1, "DeclarationsInvalidError")
    usage = call("apply", *words, "--bogus")
    assert (usage.code, usage.data["error"]) == (1, "Usage")


def test_documents_for_programs_are_json(tmp_path):
    (tmp_path / "wrong.yml").write_text(WRONG)
    said = call("validate", "--output", "json", tmp_path)
    assert said.code == 1
    assert said.data["problems"][0]["line"] == 4
    schema = call("schema", "AcceleratorPolicy").data
    assert schema["properties"]["kind"]["const"] == "AcceleratorPolicy"
    assert set(call("schema").data) >= {"AcceleratorPolicy", "Driver", "RolloutPool"}
    (tmp_path / "wrong.yml").unlink()
    assert json.loads(call("validate", "-o", "json", tmp_path).output)["problems"] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_our_commands(shell):
    script = call("completion", shell)
    assert script.code == 0
    assert f"_CYBORG_RECONCILER_COMPLETE={shell}_complete" in script.output
    if shell == "bash":
        assert subprocess.run(["/bin/bash", "-n"], input=script.output, text=True, check=False).returncode == 0
        typed = {
            "COMP_WORDS": "cyborg-reconciler pl",
            "COMP_CWORD": "1",
            "_CYBORG_RECONCILER_COMPLETE": "bash_complete",
        }
        said = subprocess.run([PROGRAM], env=QUIET | typed, capture_output=True, text=True, check=False)
        assert said.stdout == "plain,plan\n"
