# SPDX-License-Identifier: Apache-2.0
"""Policies and drivers over real HTTP: declared over the API and in a tree, resolved together."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.rest.policy import DriverList, DriverShown, Policy, PolicyList
from cyborg_reconciler.errors import DeclarationsInvalidError
from cyborg_reconciler_api.app import all_operations
from tests.integration.api_support import matches, problem
from tests.integration.api_world import POLICY, api_policy, declaring, open_world, pages, paths_of, plan_for


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with open_world(tmp_path_factory.mktemp("policies")) as world:
        yield world


@pytest.fixture
def given(world):
    """Declares a policy over the API, which is gone afterwards."""
    with declaring(world) as give:
        yield give


class TestBeforeAnythingWasLookedAt:
    """First in this file: nobody has looked at a host yet."""

    def test_the_shipped_drivers_are_listed_and_no_policy(self, world):
        drivers = DriverList.model_validate_json(world("GET", "/v1/drivers").data).drivers
        assert {(one.name, one.owner, one.file) for one in drivers} >= {("virtio-crypto", "shipped", None)}
        assert world("GET", "/v1/policies").json()["policies"] == []

    def test_no_host_is_in_the_inventory(self, world):
        assert paths_of(problem(world("POST", "/v1/plans", {"hosts": ["node-1"]}), 400)) == {"$.hosts[0]"}
        body = {"host_selector": {"groups": ["all"]}}
        assert paths_of(problem(world("POST", "/v1/plans", body), 400)) == {"$.host_selector"}


@pytest.fixture(scope="module")
def looked(world):
    """The world, once somebody has looked at two hosts."""
    world.look("node-1", "node-2")
    return world


class TestPolicies:
    def test_one_is_declared_read_replaced_and_deleted(self, looked):
        body = api_policy("mine")
        made = looked("POST", "/v1/policies", body)
        assert (made.status, made.data, made.headers["Location"]) == (201, b"", "/v1/policies/mine")
        shown = looked("GET", "/v1/policies/mine")
        policy = Policy.model_validate_json(shown.data)
        assert (policy.owner, policy.file, policy.also_in, policy.policy) == ("api", None, None, body)
        assert shown.headers["ETag"] == made.headers["ETag"]
        other = api_policy("mine", priority=60)
        replaced = looked("PUT", "/v1/policies/mine", other)
        assert (replaced.status, replaced.json()["policy"]) == (200, other)
        assert looked("PUT", "/v1/policies/mine", other).headers["ETag"] == replaced.headers["ETag"]
        assert looked("DELETE", "/v1/policies/mine").status == 204
        problem(looked("GET", "/v1/policies/mine"), 404)
        problem(looked("DELETE", "/v1/policies/mine"), 404)
        problem(looked("PUT", "/v1/policies/mine", other), 404)
        told = looked("GET", "/v1/events?limit=3").json()["events"]
        assert [(one["kind"], one["by"]) for one in told] == [
            ("PolicyDeleted", "local"),
            ("PolicyUpdated", "local"),
            ("PolicyCreated", "local"),
        ]
        assert (told[1]["before"], told[1]["after"], told[0]["after"]) == (body, other, None)

    def test_the_trees_are_listed_with_their_file_and_only_read(self, looked):
        place = str(looked.tree / "site.yml")
        shown = Policy.model_validate_json(looked("GET", "/v1/policies/tree-sriov").data)
        assert (shown.owner, shown.file, shown.policy["spec"]["sriov"]) == ("tree", place, {"num_vfs": 4})
        for answer in (
            looked("PUT", "/v1/policies/tree-sriov", api_policy("tree-sriov")),
            looked("DELETE", "/v1/policies/tree-sriov"),
            looked("POST", "/v1/policies", api_policy("tree-sriov")),
        ):
            assert place in problem(answer, 409).detail

    def test_both_are_listed_together_page_by_page(self, looked, given):
        for name in ("a-1", "b.2", "zz"):
            given(name)
        names = ["a-1", "b.2", "tree-sriov", "zz"]
        found, count = pages(looked, "/v1/policies?limit=2", "policies")
        assert ([one["name"] for one in found], count) == (names, 2)
        found, _ = pages(looked, "/v1/policies?limit=1&sort=name:desc", "policies")
        assert [one["name"] for one in found] == names[::-1]
        page = PolicyList.model_validate_json(looked("GET", "/v1/policies?owner=tree").data)
        assert [one.name for one in page.policies] == ["tree-sriov"]

    def test_a_name_is_had_once(self, looked, given):
        given("once")
        problem(looked("POST", "/v1/policies", api_policy("once")), 409)

    def test_who_read_an_older_version_is_told_so_also_of_an_earlier_life(self, looked, given):
        first = given("versioned").headers["ETag"]
        second = looked("PUT", "/v1/policies/versioned", api_policy("versioned", priority=1), if_match=first)
        assert (second.status, second.headers["ETag"] != first) == (200, True)
        changed = api_policy("versioned", priority=2)
        assert problem(looked("PUT", "/v1/policies/versioned", changed, if_match=first), 409).type.endswith("overtaken")
        problem(looked("DELETE", "/v1/policies/versioned", if_match=first), 409)
        looked("DELETE", "/v1/policies/versioned")
        given("versioned")
        for old in (first, second.headers["ETag"]):
            problem(looked("PUT", "/v1/policies/versioned", changed, if_match=old), 409)

    def test_of_many_who_write_at_once_one_wins(self, looked, given):
        tag = given("raced").headers["ETag"]
        together = threading.Barrier(12)

        def write(number):
            together.wait()
            return looked("PUT", "/v1/policies/raced", api_policy("raced", priority=number + 1), if_match=tag).status

        with ThreadPoolExecutor(12) as pool:
            assert sorted(pool.map(write, range(12))) == [200] + [409] * 11

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (
                {"metadata": {"name": "QAT"}},
                {"$.metadata.name": "is not a name of lower-case letters, digits, - and .; write qat"},
            ),
            ({"metadata": {"name": "api.mine"}}, {"$.metadata.name": "begins with api."}),
            ({"kind": "RolloutPool"}, {"$.kind": "the API takes AcceleratorPolicy"}),
            ({"kind": None}, {"$.kind": "is missing"}),
            (
                {"spec": {"host_selector": {"groups": "crypto"}, "num_vfs": 4, "sriov": {"groups": [{"vfs": "3-1"}]}}},
                {
                    "$.spec.host_selector.groups": "write [crypto]",
                    "$.spec.num_vfs": "there is one in spec.sriov",
                    "$.spec.sriov.groups[0].driver": "is missing",
                },
            ),
            (
                {"spec": {"host_selector": {"groups": ["all"]}, "driver": {"name": "virtio-crypt"}}},
                {"$.spec.driver.name": "did you mean virtio-crypto?"},
            ),
            ({"spec": {"host_selector": None}}, {"$.spec.host_selector": "has no value"}),
            (
                {"spec": {"host_selector": {"groups": ["all"]}, "kernel_args": {"a.b": 1}}},
                {"$.spec.kernel_args.a.b": ""},
            ),
            ({"extra": 1}, {"$.extra": "there is no such field"}),
        ],
    )
    def test_all_that_is_wrong_is_named_with_what_would_be_right(self, looked, change, expected):
        found = problem(looked("POST", "/v1/policies", {**api_policy("wrong"), **change}), 400)
        said = {one.path: one.message for one in found.errors}
        assert said.keys() == expected.keys()
        for path, words in expected.items():
            assert words in said[path]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"{",
            b'{"a": NaN}',
            b'{"a": 1, "a": 1}',
            b"[" * 100_000,
            b'"\xff"',
            b"1" * 5000,
            b"1e999",
        ],
    )
    def test_what_is_no_document_is_refused(self, looked, body):
        problem(looked("POST", "/v1/policies", body), 400)

    def test_another_name_than_that_of_the_path_is_refused(self, looked, given):
        given("named")
        found = problem(looked("PUT", "/v1/policies/named", api_policy("otherwise")), 400)
        assert paths_of(found) == {"$.metadata.name"}


class TestTogether:
    """What the reconciler makes of both."""

    def test_both_are_resolved_and_both_are_in_the_digest(self, looked, given):
        before = looked.declarations.read()
        given("also", host_selector={"groups": ["all"]})
        declared = looked.declarations.read()
        assert [one.document.metadata.name for one in declared.policies] == ["also", "tree-sriov"]
        assert declared.policies[0].file == "api: also"
        assert declared.digest != before.digest
        seen = looked.look("node-1")
        assert {"host"} == {a.target for a in seen.hosts["node-1"].plan.actions} - {"0000:6b:00.0"}
        places = {c.declared_by.place for a in seen.hosts["node-1"].plan.actions for c in a.changes}
        assert "also (api: also)" in places

    def test_the_loop_sees_that_one_came(self, looked, given):
        stamps = [looked.declarations.stamp()]
        given("seen")
        stamps.append(looked.declarations.stamp())
        looked("PUT", "/v1/policies/seen", api_policy("seen", priority=1))
        stamps.append(looked.declarations.stamp())
        assert len(set(stamps)) == 3
        assert looked.declarations.stamp() == stamps[-1]

    def test_a_name_that_both_have_is_an_error_that_names_both_places_and_can_be_mended_here(self, looked, given):
        given("twin")
        file = looked.tree / "twin.yml"
        file.write_text(POLICY.split("---")[0].replace("tree-sriov", "twin"), encoding="utf-8")
        try:
            with pytest.raises(DeclarationsInvalidError) as caught:
                looked.declarations.read()
            assert f"stands here and in {file}:3" in str(caught.value)
            assert "api: twin" in str(caught.value)
        finally:
            file.unlink()

    def test_a_tree_that_has_come_to_declare_nothing_undoes_nothing(self, looked, given):
        given("alone")
        assert looked.declarations.read().prunes
        file = looked.tree / "site.yml"
        file.write_text("", encoding="utf-8")
        try:
            declared = looked.declarations.read()
            assert not declared.prunes
            assert [one.document.metadata.name for one in declared.policies] == ["alone"]
            assert any("nothing is undone" in str(warning) for warning in declared.warnings)
        finally:
            file.write_text(POLICY, encoding="utf-8")

    def test_drivers_of_the_tree_stand_beside_the_shipped_ones(self, looked):
        found, _ = pages(looked, "/v1/drivers?limit=1", "drivers")
        names = [one["name"] for one in found]
        assert names == sorted(names)
        assert {"edu", "virtio-crypto"} <= set(names)
        edu = DriverShown.model_validate_json(looked("GET", "/v1/drivers/edu").data)
        assert (edu.owner, edu.file) == ("tree", str(looked.tree / "site.yml"))
        assert edu.driver["spec"]["match"] == [{"vendor_id": "1234"}]
        problem(looked("GET", "/v1/drivers/none"), 404)


def changes(looked):
    """Something to be done by each operation that changes anything: its method, its path, and a body."""
    card, other, plan = str(uuid.uuid4()), str(uuid.uuid4()), plan_for(looked, "node-1").json()["uuid"]
    at, driver = f"/v1/accelerators/{card}", "/v1/hosts/node-1/drivers/virtio-crypto"
    yield "POST", "/v1/accelerators", {"name": other}
    yield "POST", at, {"name": card}
    yield "PUT", f"{at}/num", {"num": 2}
    yield "PUT", at, {}
    yield "PUT", f"/v1/allocations/{other}", {"allocations": [{"accelerator": card, "amount": 1}]}
    yield "DELETE", f"/v1/allocations/{other}", None
    yield "DELETE", at, None
    yield "PATCH", at, [{"op": "replace", "path": "/state", "value": "maintenance"}]
    yield "POST", "/v1/plans", {"hosts": ["node-1"]}
    yield "POST", f"/v1/plans/{plan}/approve", None
    yield "POST", "/v1/policies", api_policy("audited")
    yield "PUT", "/v1/policies/audited", api_policy("audited", priority=7)
    yield "DELETE", "/v1/policies/audited", None
    asked = [f"{driver}/{wish}" for wish in ("discovery", "install", "update", "uninstall")]
    for path in ("/v1/discovery", "/v1/hosts/node-1/discovery", *asked):
        yield "POST", path, None
    run = looked("POST", f"{driver}/install").json()["uuid"]
    yield "POST", f"/v1/runs/{run}/cancel", None


def test_every_change_of_anything_leaves_an_entry_that_says_who_made_it_in_which_request(looked):
    looked.look("node-1")
    left = [(path, method) for path, method, one in all_operations() if method != "GET" and one.access in set(Role)]
    for method, path, body in changes(looked):
        request_id = f"req-{uuid.uuid4()}"
        assert looked(method, path, body, x_openstack_request_id=request_id).status < 300, (method, path)
        told = looked("GET", "/v1/events?limit=5").json()["events"]
        (entry,) = (one for one in told if (one["data"] or {}).get("request_id") == request_id)
        assert (entry["by"], entry["data"]["role"], entry["data"]["project"]) == ("local", "admin", "local"), path
        left = [(route, name) for route, name in left if name != method or not matches(route, path)]
    assert left == []
