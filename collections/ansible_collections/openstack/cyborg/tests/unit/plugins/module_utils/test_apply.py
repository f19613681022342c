# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a list of steps applied in order, fenced, recorded before it is done, and told of whatever happens?"""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.apply import Request, agrees, apply
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Host, Lock, Refusal, Result
from ansible_collections.openstack.cyborg.plugins.module_utils.ownership import RECORD
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from ansible_collections.openstack.cyborg.tests.unit.host_tree import simulate

PATH = ["0000:6b:00.0", "sriov", "num_vfs"]


class Light:
    """A feature with one file: how bright a lamp is. ``broken`` goes half way, ``killed`` ends the process."""

    NAME = "/etc/lamp"

    def read(self, tree, _args):
        return {"level": tree.read_text(self.NAME)}

    def ensure(self, host, args):
        before = self.read(host.tree, args)
        if before["level"] == args["level"]:
            return Result(before, before, changed=False)
        if args["level"] == "held":
            raise Refusal("DeviceInUse", "lamp is held by cat (pid 7)")
        if not host.announce(before):
            return Result(before, {"level": args["level"]}, changed=True)
        if args["level"] == "stuck":
            raise Failure("lamp: level: stuck: Device or resource busy (EBUSY)")
        host.write_file(self.NAME, args["level"])
        if args["level"] == "broken":
            raise Failure("lamp: it flickers")
        if args["level"] == "killed":
            raise KeyboardInterrupt
        if args["level"] == "bug":
            raise TypeError("no idea")
        return Result(before, self.read(host.tree, args), changed=True)


class Liar(Light):
    """The same, made by a module that tells something else than it did."""

    def ensure(self, host, args):
        before = self.read(host.tree, args)
        host.announce(before)
        if args["level"] == "idle":
            host.run("true")
            return Result(before, args, changed=True)
        host.write_file(self.NAME, args["level"])
        if args["level"] == "again":
            host.write_file(self.NAME, before["level"])
        if args["level"] == "lost":
            os.unlink(host.tree.path(self.NAME))
            os.mkdir(host.tree.path(self.NAME))
        return Result(before, before, changed=args["level"] != "shy")


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/lamp").write_text("0")
    simulate(tmp_path)
    return Tree(str(tmp_path))


def step(level, **more):
    return {"id": "lamp " + level, "module": "lamp", "args": {"level": level}, **more}


def run(tree, *steps, check=False, controller_id="one", fencing_token=7, **more):
    params = {"own": [], "release": [], **more}
    params.update(steps=list(steps), controller_id=controller_id, fencing_token=fencing_token)
    request = Request(params, {"lamp": Light(), "liar": Liar()}, lambda _feature, args: args)
    return apply(tree, request, check=check)[0]


def statuses(outcome):
    return [made["status"] for made in outcome["steps"]]


def record(tree):
    return json.loads(tree.read_text(RECORD))


def own(before, value):
    return [{"path": PATH, "before": before, "set": value, "device": ""}]


def test_steps_are_applied_in_order_and_a_second_time_nothing_changes(tree):
    assert statuses(run(tree, step("1"), step("2"))) == ["changed", "changed"]
    assert statuses(run(tree, step("2"))) == ["unchanged"]
    assert tree.read_text("/etc/lamp") == "2"


def test_check_mode_says_what_would_be_and_writes_nothing(tree, tmp_path):
    outcome = run(tree, step("1", own=own(0, 1)), check=True)
    assert outcome["steps"][0]["after"] == {"level": "1"}
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert files == ["etc", "etc/lamp", "run", "run/kernel.sock"]
    assert tree.read_text("/etc/lamp") == "0"


def test_the_first_refusal_ends_the_list(tree):
    outcome = run(tree, step("1"), step("held"), step("2"))
    assert statuses(outcome) == ["changed", "refused", "skipped"]
    assert (outcome["status"], outcome["message"]) == ("refused", "lamp is held by cat (pid 7)")
    assert outcome["steps"][1]["reason"] == "DeviceInUse"


def test_whatever_goes_wrong_the_steps_before_are_told_of(tree):
    outcome = run(tree, step("1"), step("bug"))
    assert statuses(outcome) == ["changed", "failed"]
    assert outcome["message"] == "TypeError: no idea"


def test_a_module_that_is_none_of_ours_fails(tree):
    outcome = run(tree, {"id": "x", "module": "shell", "args": {}})
    assert outcome["message"] == "'shell' is no state module of this collection"


def test_something_else_than_the_plan_was_made_from_is_refused(tree):
    outcome = run(tree, step("2", observed={"level": "1"}, own=own(1, 2)))
    assert outcome["steps"][0]["reason"] == "FactsStale"
    assert outcome["message"] == "the plan was made from level=1, and this is there now: level=0"
    assert record(tree)["fields"] == []


def test_a_plan_whose_end_is_reached_already_is_no_matter_of_what_it_was_made_from(tree):
    assert statuses(run(tree, step("0", observed={"level": "1"}))) == ["unchanged"]


class TestTruth:
    """What a step is said to have done is told by what is read before and after it."""

    def tool(self, tmp_path):
        (tmp_path / "usr/bin").mkdir(parents=True)
        (tmp_path / "usr/bin/true").write_text("#!/bin/sh\n")
        (tmp_path / "usr/bin/true").chmod(0o700)

    def test_a_change_that_left_everything_as_it_was_is_none_and_says_so(self, tree, tmp_path):
        self.tool(tmp_path)
        (made,) = run(tree, step("idle", module="liar"))["steps"]
        assert (made["status"], made["before"], made["after"]) == ("unchanged", {"level": "0"}, {"level": "0"})
        assert made["message"] == "liar said that it changed something, and all that it tells of is as it was before"

    def test_what_did_not_move_is_not_back_at_what_it_was_and_stays_owned(self, tree, tmp_path):
        self.tool(tmp_path)
        run(tree, step("1", own=own(0, 1)))
        run(tree, step("idle", module="liar", release=[PATH]))
        assert record(tree)["fields"] == own(0, 1)

    def test_a_change_that_a_module_does_not_speak_of_is_one(self, tree):
        (made,) = run(tree, step("shy", module="liar"))["steps"]
        assert (made["status"], made["after"]) == ("changed", {"level": "shy"})

    def test_a_file_that_was_written_is_a_change_whatever_the_states_say(self, tree):
        assert statuses(run(tree, step("again", module="liar"))) == ["changed"]

    def test_an_end_that_cannot_be_read_is_no_success(self, tree):
        outcome = run(tree, step("lost", module="liar", own=own(0, 1)))
        assert (statuses(outcome), outcome["message"]) == (["failed"], "/etc/lamp: Is a directory")
        assert record(tree)["fields"] == own(0, 1)

    def test_forgetting_what_is_not_known_changes_nothing(self, tree):
        run(tree, step("1", own=own(0, 1)))
        forget = {"id": "release", "module": "", "release": [PATH]}
        assert statuses(run(tree, forget, forget)) == ["changed", "unchanged"]


class TestFencing:
    def test_another_controllers_host_is_refused(self, tree):
        run(tree, step("1", own=own(0, 1)))
        outcome = run(tree, step("2"), controller_id="two", fencing_token=99)
        assert (outcome["status"], outcome["steps"][0]["reason"]) == ("refused", "Conflicted")
        assert "another controller (one) keeps this host" in outcome["message"]
        assert tree.read_text("/etc/lamp") == "1"

    def test_a_host_on_which_the_other_controller_owns_nothing_any_more_is_taken(self, tree):
        run(tree, step("1", own=own(0, 1)))
        run(tree, {"id": "release", "module": "", "release": [field["path"] for field in own(0, 1)]})
        assert statuses(run(tree, step("2", own=own(1, 2)), controller_id="two", fencing_token=1)) == ["changed"]
        assert record(tree) == {"version": 1, "controller_id": "two", "fencing_token": 1, "fields": own(1, 2)}

    def test_an_earlier_run_that_comes_late_is_refused(self, tree):
        run(tree, step("1"), fencing_token=8)
        outcome = run(tree, step("2"), fencing_token=7)
        assert outcome["steps"][0]["reason"] == "Stale"
        assert tree.read_text("/etc/lamp") == "1"

    def test_a_record_that_cannot_be_read_is_not_overwritten(self, tree, tmp_path):
        run(tree, step("1"))
        (tmp_path / RECORD[1:]).write_text("{")
        outcome = run(tree, step("2"))
        assert outcome["status"] == "failed"
        assert (tmp_path / RECORD[1:]).read_text() == "{"


class TestOwnership:
    def test_a_field_is_entered_with_what_it_was_before(self, tree):
        run(tree, step("1", own=own(0, 1)))
        assert record(tree) == {"version": 1, "controller_id": "one", "fencing_token": 7, "fields": own(0, 1)}

    def test_what_the_host_had_before_stays_known_when_it_is_asked_for_another_device(self, tree):
        def owned_for(device, before):
            return [{"path": ["host", "kernel_args", "iommu"], "before": before, "set": "pt", "device": device}]

        run(tree, step("1", own=owned_for("0000:3b:00.0 8086:4940 S1", "strict")))
        run(tree, step("2", own=owned_for("0000:5e:00.0 8086:4942 S2", "off")))
        assert [(one["before"], one["device"]) for one in record(tree)["fields"]] == [
            ("strict", "0000:3b:00.0 8086:4940 S1")
        ]

    def test_what_another_device_was_before_does_not_become_what_this_one_was(self, tree):
        def owned_by(device, before):
            return [dict(field, device=device) for field in own(before, 1)]

        run(tree, step("1", own=owned_by("8086:4940 S1", 0)))
        run(tree, step("2", own=owned_by("8086:4940", 5)))
        assert record(tree)["fields"] == owned_by("8086:4940 S1", 0)
        run(tree, step("3", own=owned_by("15b3:101d S9", 7)))
        assert record(tree)["fields"] == owned_by("15b3:101d S9", 7)

    def test_a_later_value_never_becomes_what_was_before(self, tree):
        run(tree, step("1", own=own(0, 1)))
        run(tree, step("2", own=own(1, 2)))
        assert record(tree)["fields"] == own(0, 2)

    def test_a_process_that_is_killed_after_its_write_has_entered_the_field(self, tree):
        with pytest.raises(KeyboardInterrupt):
            run(tree, step("killed", own=own(0, 5)))
        assert tree.read_text("/etc/lamp") == "killed"
        assert record(tree)["fields"] == own(0, 5)

    def test_a_write_that_did_not_happen_leaves_no_entry(self, tree):
        run(tree, step("stuck", own=own(0, 1)))
        assert record(tree)["fields"] == []

    def test_a_write_that_went_half_way_keeps_its_entry(self, tree):
        run(tree, step("broken", own=own(0, 1)))
        assert record(tree)["fields"] == own(0, 1)

    def test_an_entry_of_an_earlier_run_survives_a_write_that_did_not_happen(self, tree):
        run(tree, step("1", own=own(0, 1)))
        run(tree, step("stuck", own=own(1, 2)))
        assert record(tree)["fields"][0]["before"] == 0

    def test_what_is_released_is_forgotten_once_it_is_back(self, tree):
        run(tree, step("1", own=own(0, 1)))
        assert run(tree, step("held", release=[PATH]))["status"] == "refused"
        assert record(tree)["fields"] == own(0, 1)
        run(tree, step("0", release=[PATH]))
        assert record(tree)["fields"] == []

    def test_what_is_back_already_is_forgotten_too(self, tree):
        run(tree, step("1", own=own(0, 1)))
        run(tree, step("0"))
        assert statuses(run(tree, step("0", release=[PATH]))) == ["unchanged"]
        assert record(tree)["fields"] == []

    def test_a_role_enters_before_it_runs_and_releases_after(self, tree):
        run(tree, own=own(None, "present"))
        assert record(tree)["fields"] == own(None, "present")
        run(tree, release=[PATH])
        assert record(tree)["fields"] == []


@pytest.mark.parametrize(
    ("observed", "found", "same"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"driver": None}, {"driver": "none"}, True),
        ({"a": {"x": None}}, {"a": {}}, True),
        ({"vf_drivers": []}, {"vf_drivers": [{"vfs": "0", "driver": "igbvf"}]}, False),
        (
            {"v": [{"vfs": "0-1", "driver": "x"}]},
            {"v": [{"vfs": "0", "driver": "x"}, {"vfs": "1", "driver": "x"}]},
            True,
        ),
    ],
)
def test_what_was_observed_is_compared_by_what_it_means(observed, found, same):
    assert agrees(observed, found) is same


def test_the_lock_names_who_holds_it(tree):
    with Lock(tree), pytest.raises(Failure, match=r"held by pid \d+, and was not free within 0 s"), Lock(
        tree, timeout_s=0
    ):
        pass


def test_a_file_is_written_whole_with_its_mode(tree, tmp_path):
    Host(tree).write_file("/etc/new/file", "text\n", mode=0o600)
    written = tmp_path / "etc/new/file"
    assert (written.read_text(), written.stat().st_mode & 0o777) == ("text\n", 0o600)
    assert [path.name for path in written.parent.iterdir()] == ["file"]
