# SPDX-License-Identifier: Apache-2.0
"""What the command line says when it is given what it cannot work with: one line, exit code 1, and nothing is lost."""

import contextlib
import sqlite3
from types import SimpleNamespace

import pytest

from cyborg_reconciler.adapters.database import open_journal
from tests import disks
from tests.integration.console import Console, call

CARDS = {"device_selector": {"vendor_id": "8086"}, "sriov": {"num_vfs": 4}}

TREE = """\
api_version: cyborg/v1
kind: AcceleratorPolicy
metadata: {{name: {name}}}
spec:
  host_selector: {{groups: [all]}}
  device_selector: {{vendor_id: "8086"}}
  sriov: {{num_vfs: {num_vfs}}}
"""


@pytest.fixture
def console(tmp_path):
    """A console without hosts that could be asked: what is wrong here is found out before."""
    inventory = tmp_path / "inventory.yml"
    inventory.write_text('{"all": {"hosts": {"compute-1": {"ansible_connection": "local"}}}}')
    opened = Console(tmp_path, SimpleNamespace(inventory_path=inventory))
    opened.declare("cards", **CARDS)
    return opened


def test_all_that_is_wrong_with_a_tree_is_said_at_once_with_file_line_and_remedy(console):
    (console.policies / "cards.yml").write_text(TREE.format(name="cards", num_vfs=4) + "  bogus: 1\n")
    (console.policies / "other.yml").write_text(TREE.format(name="other", num_vfs="four"))
    for verb in ("plan", "apply", "approve"):
        answer = console.type(verb, "--state", console.folder / "never")
        assert answer.code == 1
        lines = answer.errors.splitlines()
        assert [line.partition(": spec.")[0] for line in lines] == [
            f"error: {console.policies}/cards.yml:8",
            f"error: {console.policies}/other.yml:7",
        ]
        assert lines[1].endswith('num_vfs: "four" is not a whole number from 0 to 65535; write, e.g. num_vfs: 4')
    said = console.plan()
    assert (said.code, said.data["error"], said.data["next_step"]) == (1, "DeclarationsInvalidError", "stall")
    assert [problem["line"] for problem in said.data["problems"]] == [8, 7]
    assert call("validate", console.policies).code == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere", "no such file or folder"),
        ("wrong.yml", "YAML parsing failed"),
        ("script", "non-zero exit code 3"),
        ("labels.yml", "compute-1: cyborg_labels as a mapping: 'x'; write cyborg_labels as names and texts"),
    ],
)
def test_an_inventory_that_cannot_be_read_is_named_with_what_is_wrong(console, source, words):
    (console.folder / "wrong.yml").write_text("all: {hosts: [}")
    (console.folder / "script").write_text("#!/bin/sh\nexit 3\n")
    (console.folder / "script").chmod(0o755)
    (console.folder / "labels.yml").write_text('{"all": {"hosts": {"compute-1": {"cyborg_labels": "x"}}}}')
    console.inventory = console.folder / source
    answer = console.type("apply", "--yes")
    assert answer.code == 1
    assert words in answer.last_error


def test_a_limit_that_matches_nothing_is_an_error_and_not_an_empty_plan(console):
    answer = console.plan("--limit", "compute-7")
    assert answer.code == 1
    assert answer.data["error"] == "InventoryUnreadableError"
    assert answer.last_error.startswith("hosts that match --limit 'compute-7': the inventory has none; check the")


def test_what_is_missing_from_a_command_is_said_with_the_way_to_its_help(console):
    answers = {
        "no policies are given: add -p PATH": call("plan", "-i", console.inventory),
        "No such command 'aply'": call("aply"),
        "does not exist": console.type("apply", console.folder / "no-plan.json"),
    }
    for words, answer in answers.items():
        assert answer.code == 1
        assert words in answer.last_error
        assert "--help`" in answer.last_error


def test_a_file_that_is_no_plan_is_refused(console):
    (console.folder / "plan.json").write_text('{"plan_version": 99}')
    answer = console.type("apply", "--yes", console.folder / "plan.json")
    assert answer.code == 1
    assert "make it anew with `cyborg-reconciler plan --out FILE`" in answer.last_error


def test_a_journal_that_is_not_there_is_no_reason_to_make_one(console):
    for words in (["status"], ["history"], ["retry", "compute-1"]):
        answer = call(*words, "--state", console.state)
        assert answer.code == 1
        assert "there is none; give the folder with --state" in answer.last_error
    assert not console.state.exists()
    console.state.mkdir(mode=0o700)
    (console.state / "journal.db").touch()  # as in the moment in which the first command makes it
    assert "it is empty; wait for the first" in call("status", "--state", console.state).last_error


def test_two_applies_at_once_are_one_too_many_and_looking_is_allowed(console):
    with open_journal(console.state):
        answer = console.type("apply", "--yes")
        assert answer.code == 1
        assert "wait for it, or give another folder with --state" in answer.last_error
        looking = call("status", "--state", console.state)
        assert (looking.code, looking.output) == (0, "nothing yet\n")


def test_a_locked_database_is_waited_for_and_then_said_to_be_locked(console):
    with open_journal(console.state):
        pass
    with contextlib.closing(sqlite3.connect(console.state / "journal.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = console.plan()
    assert (answer.code, answer.data["error"], answer.data["next_step"]) == (1, "JournalLockedError", "retry")
    assert answer.last_error.endswith("database is locked; wait for the other process, or end it")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes; needs the right to mount."""
    with disks.small_disk(tmp_path / "disk", "2m") as place:
        yield place


def test_a_full_disk_under_the_state_folder_is_said_and_loses_nothing(console, small_disk):
    console.state = small_disk / "state"
    with open_journal(console.state) as journal:
        us = journal.controller()
    with (small_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 512):
            pass
    for verb in ("observe", "plan", "apply"):
        answer = console.type(verb)
        assert answer.code == 1
        assert "make room in the state folder's file system; nothing was lost" in answer.last_error
    (small_disk / "filler").unlink()
    with open_journal(console.state) as journal:
        assert journal.controller().id == us.id
