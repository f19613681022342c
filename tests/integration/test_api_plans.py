# SPDX-License-Identifier: Apache-2.0
"""Plans over real HTTP: made of the facts that are kept, approved while they are what would be planned now."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from cyborg_reconciler.core.state import Phase
from cyborg_reconciler.documents.rest.plan import Plan
from tests.integration.api_support import problem
from tests.integration.api_world import api_policy, declaring, open_world, paths_of, plan_for

NOBODY = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """A world in which somebody has looked at two hosts."""
    with open_world(tmp_path_factory.mktemp("plans")) as world:
        world.look("node-1", "node-2")
        yield world


@pytest.fixture
def given(looked):
    """Declares a policy over the API, which is gone afterwards."""
    with declaring(looked) as give:
        yield give


def test_a_plan_is_computed_from_the_facts_that_are_kept(looked):
    seen = looked.look("node-1")
    answer = plan_for(looked, "node-1")
    plan = Plan.model_validate_json(answer.data)
    assert (answer.status, answer.headers["Location"]) == (201, f"/v1/plans/{plan.uuid}")
    (host,) = plan.hosts
    planned = seen.hosts["node-1"].plan
    assert (host.digest, host.generation) == (planned.digest, planned.generation)
    assert (host.phase, host.pool, plan.created_by) == ("PendingApproval", "default", "local")
    (change,) = (c for a in host.actions for c in a.changes if c.path[2] == "num_vfs")
    assert (change.observed, change.desired, change.policy) == (0, 4, "tree-sriov")
    assert (change.file, change.line) == (str(looked.tree / "site.yml"), 7)
    assert host.steps
    assert looked("GET", f"/v1/plans/{plan.uuid}").json() == answer.json()


def test_hosts_are_selected_as_policies_select_them(looked):
    plan = looked("POST", "/v1/plans", {"host_selector": {"names": ["node-*"], "labels": {"rack": "r1"}}}).json()
    assert {one["host"] for one in plan["hosts"]} == {"node-1", "node-2"}
    assert plan["summary"]["hosts"] == 2


def test_planning_changes_nothing_about_the_host(looked, given):
    looked.look("node-1")
    before = looked("GET", "/v1/hosts/node-1").json()
    given("more", host_selector={"groups": ["all"]})
    (host,) = plan_for(looked, "node-1").json()["hosts"]
    assert host["generation"] == before["generation"] + 1
    assert looked("GET", "/v1/hosts/node-1").json() == before
    assert looked.look("node-1").hosts["node-1"].plan.generation == host["generation"]


def test_what_was_approved_the_loop_may_do_and_nothing_else(looked):
    assert looked.look("node-1").hosts["node-1"].phase is Phase.PENDING_APPROVAL
    plan = plan_for(looked, "node-1").json()
    approved = looked("POST", f"/v1/plans/{plan['uuid']}/approve")
    assert (approved.status, approved.json()["approved_by"]) == (200, "local")
    assert looked("GET", f"/v1/plans/{plan['uuid']}").json() == approved.json()
    assert looked.look("node-1").hosts["node-1"].phase is Phase.PLANNED
    (told,) = looked("GET", "/v1/events?kind=PlanApproved&limit=1").json()["events"]
    assert told["data"]["hosts"]["node-1"]["digest"] == plan["hosts"][0]["digest"]


def test_nothing_is_planned_while_what_is_declared_cannot_be_read(looked):
    looked.leave_policy("old", {**api_policy("old"), "feature_of_yesterday": 1})
    found = problem(plan_for(looked, "node-1"), 409)
    assert "api: old" in found.detail
    assert "feature_of_yesterday" in found.detail
    assert looked("DELETE", "/v1/policies/old").status == 204
    assert plan_for(looked, "node-1").status == 201


def test_a_plan_whose_policies_changed_is_refused(looked, given):
    looked.look("node-2")
    plan = plan_for(looked, "node-2").json()
    given("newer", host_selector={"groups": ["all"]})
    found = problem(looked("POST", f"/v1/plans/{plan['uuid']}/approve"), 409)
    assert found.type.endswith("/plan-outdated")
    assert "node-2" in found.detail


def test_a_plan_whose_facts_changed_is_refused(looked):
    looked.look("node-2")
    plan = plan_for(looked, "node-2").json()
    changed = [msgspec.structs.replace(device, total_vfs=2) for device in looked.facts.devices]
    looked.look("node-2", devices=changed)
    assert "node-2" in problem(looked("POST", f"/v1/plans/{plan['uuid']}/approve"), 409).detail


def test_facts_that_are_too_old_authorise_nothing_and_are_told(looked):
    looked.look("old-1", at=datetime.now(UTC) - timedelta(hours=1))
    (host,) = plan_for(looked, "old-1").json()["hosts"]
    assert (host["actions"], host["steps"]) == ([], [])
    assert [one["reason"] for one in host["waits"]] == ["FactsStale"]


def test_a_plan_whose_facts_have_become_old_is_refused(looked):
    looked.look("aging-1")
    plan = plan_for(looked, "aging-1").json()
    looked.age("aging-1", timedelta(hours=1))
    assert "s old" in problem(looked("POST", f"/v1/plans/{plan['uuid']}/approve"), 409).detail


def test_what_the_facts_do_not_speak_of_is_not_taken_for_absent(looked, given):
    looked.look("node-1")
    given("modules", host_selector={"groups": ["all"]}, kernel_args={}, kernel_modules={"blacklist": ["nouveau"]})
    (host,) = plan_for(looked, "node-1").json()["hosts"]
    assert (host["sync"], host["actions"]) == ("Unknown", [])
    assert "do not speak of nouveau" in host["waits"][0]["message"]


def test_there_is_nothing_to_approve_where_nothing_is_to_be_done(looked):
    looked.look("idle-1", groups=())
    plan = plan_for(looked, "idle-1").json()
    assert "nothing to be done" in problem(looked("POST", f"/v1/plans/{plan['uuid']}/approve"), 409).detail
    problem(looked("POST", f"/v1/plans/{NOBODY}/approve"), 404)
    problem(looked("GET", f"/v1/plans/{NOBODY}"), 404)


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, {"$"}),
        ({"hosts": ["node-1"], "host_selector": {"groups": ["all"]}}, {"$"}),
        ({"hosts": []}, {"$.hosts"}),
        ({"hosts": ["a", "node-1", "b"]}, {"$.hosts[0]", "$.hosts[2]"}),
        ({"host_selector": {"names": ["nobody"]}}, {"$.host_selector"}),
        ({"host_selector": {}}, {"$.host_selector"}),
        ({"hosts": ["node-1"], "limit": "x"}, {"$.limit"}),
    ],
)
def test_what_is_no_choice_of_hosts_is_refused(looked, body, paths):
    assert paths_of(problem(looked("POST", "/v1/plans", body), 400)) == paths
