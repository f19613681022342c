# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the controller's half read plans as they are, and refuse what is none?"""

from __future__ import annotations

import base64
import json

import pytest

from ansible_collections.openstack.cyborg.plugins.plugin_utils import plan as plans

ACTIONS = {"kind": "actions", "steps": [{"id": "a", "module": "kernel_args", "args": {}}, {"id": "b", "module": "x"}]}
ROLE = {"kind": "role", "id": "driver edu", "role": "openstack.cyborg.driver_dkms", "args": {"name": "edu"}}
REBOOT = {"kind": "reboot", "id": "reboot", "boot_id": "1", "timeout_s": 60}


def document(*segments, **changes):
    plan = {"plan_version": 1, "controller_id": "c", "fencing_token": 3, "hosts": {"compute-1": {"segments": segments}}}
    return json.dumps({**plan, **changes})


def segments_of(*segments):
    return plans.segments_of(plans.decode(document(*segments)), "compute-1")


def test_a_plan_travels_as_base64():
    encoded = base64.b64encode(document(ACTIONS).encode()).decode()
    assert plans.decode_base64(encoded) == plans.decode(document(ACTIONS))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ lookup('pipe', 'id') }}", "not base64"),
        ("bm90IGpzb24=", "not JSON"),
        ("W10=", "no plan_version"),
    ],
)
def test_what_is_no_plan_is_refused_with_the_reason(text, words):
    with pytest.raises(plans.PlanUnreadable, match=words):
        plans.decode_base64(text)


def test_a_plan_of_another_version_is_refused():
    with pytest.raises(plans.PlanUnreadable, match="version 2, and this collection applies version 1"):
        plans.decode(document(plan_version=2))


def test_a_host_that_the_plan_does_not_name_has_nothing_to_do():
    assert plans.segments_of(plans.decode(document(ACTIONS)), "compute-2") == []


@pytest.mark.parametrize(
    "role",
    [
        "{{ lookup('pipe', 'id') }}",
        "../../etc/roles/evil",
        "openstack.cyborg",
        "openstack.cyborg.driver.more",
        "Openstack.cyborg.driver",
        "openstack.cyborg.driver\n",
        7,
    ],
)
def test_only_the_full_name_of_a_role_is_included(role):
    with pytest.raises(plans.PlanUnreadable, match=r"namespace\.collection\.role"):
        segments_of({**ROLE, "role": role})


@pytest.mark.parametrize(
    "segment", [7, {"kind": "shell"}, {"kind": "reboot", "id": "r"}, {"kind": "actions", "steps": [7]}]
)
def test_a_segment_of_another_shape_is_refused_by_its_index(segment):
    with pytest.raises(plans.PlanUnreadable, match="compute-1: segment 1: "):
        segments_of(ACTIONS, segment)


def test_the_roles_that_are_left_are_told_with_their_places():
    segments = segments_of(ACTIONS, ROLE, REBOOT, {**ROLE, "id": "driver qat"})
    assert [call["index"] for call in plans.role_calls(segments, 0)] == [1, 3]
    assert plans.role_calls(segments, 2) == [{"index": 3, "role": ROLE["role"], "driver": {"name": "edu"}}]


def test_the_first_step_that_is_refused_decides_and_the_rest_is_skipped():
    outcome = plans.extended(plans.outcome(), plans.step_outcome("a", "changed"))
    outcome = plans.extended(outcome, plans.step_outcome("b", plans.REFUSED, reason="DeviceInUse", message="held"))
    outcome = plans.extended(outcome, plans.step_outcome("c", plans.FAILED, message="later"))
    assert (outcome["status"], outcome["message"]) == (plans.REFUSED, "held")
    ids = plans.step_ids(segments_of(ACTIONS, ROLE, REBOOT), 0)
    assert [(step["id"], step["status"]) for step in plans.skipped(outcome, ids)["steps"]] == [
        ("a", "changed"),
        ("b", "refused"),
        ("c", "failed"),
        ("driver edu", "skipped"),
        ("reboot", "skipped"),
    ]


def test_the_role_that_failed_is_the_first_one_without_an_outcome():
    segments = segments_of(ROLE, {**ROLE, "id": "driver qat"})
    so_far = plans.extended(plans.outcome(), plans.step_outcome("driver edu", "changed"))
    assert plans.open_role(segments, so_far) == "driver qat"
