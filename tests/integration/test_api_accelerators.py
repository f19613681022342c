# SPDX-License-Identifier: Apache-2.0
"""Accelerators over real HTTP: every row of the contract that is about them, against gunicorn."""

import uuid
from datetime import timedelta

import pytest

from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.documents.rest.accelerator import Accelerator, AcceleratorList
from cyborg_reconciler.settings import Settings
from tests.integration.api_support import problem, race, serving

UUID = "8e45a2ea-5364-4b0d-a252-bf8becaa606e"
VM = "11111111-2222-3333-4444-555555555555"
SPECS = {
    "remote": 0,
    "num": 1,
    "device_type": "CRYPTO",
    "acc_capability": {"num": 2, "ipsec": {"aes": {"3des": 50, "num": 1}}},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    state = tmp_path_factory.mktemp("api") / "state"
    with serving(state, "--auth", "none") as server:
        with open_admission(Settings(state)) as operators:
            for host in ("compute-1", "listed-1"):
                operators.enrol(Caller("operator", Role.ADMIN), host, timedelta(hours=1))
        yield server


@pytest.fixture
def made(server):
    """Makes an accelerator, and returns its path."""

    def make(**given):
        body = {"name": f"card {uuid.uuid4()}", **given}
        answer = server("POST", "/v1/accelerators", body)
        assert answer.status == 201, answer.data
        return f"/v1{answer.headers['Location']}"

    return make


def paths_of(found):
    return {one.path for one in found.errors}


class TestCreate:
    def test_the_seeds_own_example_is_created_and_shown(self, server):
        answer = server("POST", f"/accelerators/{UUID}", {"name": "IPSec Card", "uuid": UUID})
        assert (answer.status, answer.data) == (201, b"")
        assert answer.headers["Location"] == f"/accelerators/{UUID}"
        for path in (f"/accelerators/{UUID}", f"/accelerator/{UUID}", f"/v1/accelerators/{UUID}"):
            shown = server("GET", path)
            assert Accelerator.model_validate_json(shown.data).state == "ready"

    def test_one_that_names_a_host_is_not_ready_before_its_driver_is(self, server, made):
        shown = server("GET", made(host="compute-1")).json()
        assert (shown["state"], shown["desired_state"], shown["host"]) == ("inactive", "ready", "compute-1")
        assert shown["acc_status"]["setup_required"]

    def test_one_that_no_hardware_is_known_to_be_says_why_it_waits_and_what_to_do(self, server, made):
        path = made(host="compute-1")
        ready = [{"op": "replace", "path": "/desired_state", "value": "ready"}]
        for shown in (server("GET", path).json(), server("PATCH", path, ready).json()):
            assert (shown["state"], shown["desired_state"]) == ("inactive", "ready")
            reason = shown["acc_status"]["reason"]
            assert reason.startswith("nothing that was found on compute-1 has its uuid")
            assert "claimed by its own uuid, or by host and address" in reason
        assert reason in problem(server("PUT", path, {}), 409).detail
        assert not server("GET", made()).json()["acc_status"]["reason"]

    @pytest.mark.parametrize("where", [{}, {"address": "0000:3b:00.0"}])
    def test_a_host_that_there_is_not_is_named_and_nothing_is_kept(self, server, where):
        body = {"name": f"card {uuid.uuid4()}", "host": "nosuchhost", **where}
        assert paths_of(problem(server("POST", "/v1/accelerators", body), 400)) == {"$.host"}
        assert server("GET", "/v1/accelerators?host=nosuchhost").json()["accelerator"] == []

    @pytest.mark.parametrize("second", [{"uuid": str(uuid.uuid4())}, {"name": "another"}])
    def test_a_name_and_a_uuid_are_had_by_one_alone(self, server, second):
        first = {"name": f"card {uuid.uuid4()}", "uuid": str(uuid.uuid4())}
        assert server("POST", "/v1/accelerators", first).status == 201
        problem(server("POST", "/v1/accelerators", {**first, **second}), 409)
        uuid_ = second.get("uuid", first["uuid"])
        problem(server("POST", f"/v1/accelerators/{uuid_}", {"name": second.get("name", first["name"])}), 409)

    @pytest.mark.parametrize(
        ("body", "paths"),
        [
            ({}, {"$.name"}),
            ({"name": 5, "uuid": "x", "color": 1}, {"$.name", "$.uuid", "$.color"}),
            ({"name": "n", "acc_specs": {"num": "1", "weight": 1}}, {"$.acc_specs.num", "$.acc_specs.weight"}),
            ({"name": "n", "acc_specs": {"num": -1}}, {"$.acc_specs.num"}),
            ({"name": "n", "address": "0000:3b:00.0"}, {"$"}),
            ([], {"$"}),
            (b"{", {"$"}),
            (b'{"name": "\xff"}', {"$"}),
        ],
    )
    def test_all_that_is_wrong_with_a_body_is_named_in_one_answer(self, server, body, paths):
        assert paths_of(problem(server("POST", "/v1/accelerators", body), 400)) == paths

    @pytest.mark.parametrize(
        "odd", [b"NaN", b"Infinity", b"1e999", b'{"a": 1, "a": 1}', b'"\\ud800"', b"01", b"'a'", b"1,"]
    )
    def test_what_is_no_json_is_never_kept_as_something_else(self, server, made, odd):
        body = b'{"name": "odd", "acc_specs": {"acc_capability": {"num": %s}}}' % odd
        path = made()
        before = server("GET", path).data
        assert paths_of(problem(server("POST", "/v1/accelerators", body), 400)) == {"$"}
        assert paths_of(problem(server("PUT", path, body.replace(b'"name": "odd", ', b"")), 400)) == {"$"}
        assert paths_of(problem(server("PUT", path, b'{"name": "n", "name": "n"}'), 400)) == {"$"}
        assert server("GET", path).data == before
        assert server("GET", "/v1/accelerators?name=odd").json()["accelerator"] == []

    @pytest.mark.parametrize("name", ["", "   ", "\u202edraC", "two\nlines", "\x1b[2J", "n" * 256, "a\u2028b"])
    def test_a_name_is_one_line_that_can_be_seen_whoever_gives_it(self, server, made, name):
        assert paths_of(problem(server("POST", "/v1/accelerators", {"name": name}), 400)) == {"$.name"}
        step = {"op": "replace", "path": "/name", "value": name}
        assert paths_of(problem(server("PATCH", made(), [step]), 400)) == {"$[0].value"}

    def test_a_tree_as_deep_as_a_stack_is_refused(self, server):
        deep = b'{"name": "deep", "acc_specs": {"acc_capability": ' + b'{"a":' * 5000 + b"1" + b"}" * 5002
        problem(server("POST", "/v1/accelerators", deep), 400)

    def test_the_uuid_of_the_path_must_be_one_and_the_one_of_the_body(self, server):
        problem(server("POST", "/v1/accelerators/one", {"name": "n"}), 400)
        problem(server("POST", f"/v1/accelerators/{VM}", {"name": "n", "uuid": UUID}), 400)

    def test_another_content_type_and_a_body_that_is_too_large_are_refused(self, server):
        problem(server("POST", "/v1/accelerators", b"name=n", content_type="text/plain"), 415)
        problem(server("POST", "/v1/accelerators", b'{"name": "' + b"n" * 1024 * 1024 + b'"}'), 413)


class TestRead:
    def test_what_is_not_there_is_not_found(self, server):
        for path in (f"/v1/accelerators/{VM}", "/v1/accelerators/no-uuid", "/v1/nothing"):
            assert problem(server("GET", path), 404).instance == path

    @pytest.mark.parametrize(
        ("method", "tail", "body"),
        [
            ("PUT", "", {}),
            ("PUT", "", {"acc_specs": {"num": 1}}),
            ("PUT", "/acc-specs", {"acc_specs": {"num": 1}}),
            ("PUT", "/num", {"num": 1}),
            ("PATCH", "", [{"op": "replace", "path": "/state", "value": "ready"}]),
            ("DELETE", "", None),
        ],
    )
    def test_nothing_becomes_of_what_is_not_there(self, server, method, tail, body):
        for path in (f"/v1/accelerators/{VM}", "/v1/accelerators/no-uuid"):
            problem(server(method, path + tail, body), 404)

    def test_another_method_is_answered_with_those_that_there_are(self, server):
        answer = server("DELETE", "/v1/accelerators")
        problem(answer, 405)
        assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))

    def test_a_request_keeps_the_id_that_its_caller_gave_it_if_it_is_one(self, server):
        ours = f"req-{uuid.uuid4()}"
        assert server("GET", "/v1/accelerators", x_openstack_request_id=ours).headers["X-Openstack-Request-Id"] == ours
        forged = server("GET", "/v1/accelerators", x_openstack_request_id="req-1 forged")
        assert forged.headers["X-Openstack-Request-Id"].startswith("req-")
        assert "forged" not in forged.headers["X-Openstack-Request-Id"]


@pytest.fixture(scope="module")
def cards(server):
    """Five accelerators on a host of their own."""
    cards = [{"name": f"listed {number}", "uuid": str(uuid.uuid4()), "host": "listed-1"} for number in range(5)]
    for card in cards:
        assert server("POST", "/v1/accelerators", card).status == 201
    return cards


class TestList:
    @pytest.mark.parametrize("sort", ["uuid", "uuid:desc", "name", "name:desc", "created_at:asc", "host"])
    def test_pages_follow_each_other_until_the_last(self, server, cards, sort):
        path, seen, pages = f"/v1/accelerators?host=listed-1&limit=2&sort={sort}", [], 0
        while path:
            page = server("GET", path).json()
            AcceleratorList.model_validate(page)
            seen += [one["uuid"] for one in page["accelerator"]]
            path = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
            pages += 1
        assert pages == 3
        key = sort.partition(":")[0]
        in_order = sorted(cards, key=lambda card: (card[key] if key in {"uuid", "name"} else 0, card["uuid"]))
        if key != "created_at":
            assert seen == [card["uuid"] for card in (in_order[::-1] if "desc" in sort else in_order)]
        assert sorted(seen) == sorted(card["uuid"] for card in cards)

    def test_filters_are_all_of_them_to_hold(self, server, cards):
        path = (
            f"/v1/accelerators?host=listed-1&name={cards[3]['name'].replace(' ', '%20')}&state=inactive&attached=false"
        )
        assert [one["uuid"] for one in server("GET", path).json()["accelerator"]] == [cards[3]["uuid"]]
        assert server("GET", "/v1/accelerators?host=listed-1&state=ready").json()["accelerator"] == []

    @pytest.mark.parametrize(
        "query",
        ["limit=0", "limit=1001", "limit=x", "sort=color", "marker=x", "colour=red", "state=on", "host=a&host=b"],
    )
    def test_a_parameter_that_is_wrong_is_named(self, server, query):
        assert paths_of(problem(server("GET", f"/v1/accelerators?{query}"), 400)) == {query.partition("=")[0]}

    def test_a_marker_that_is_gone_still_works_in_the_order_of_uuids_and_is_told_in_another(self, server, cards):
        gone = min(card["uuid"] for card in cards)[:-1] + "0"
        page = server("GET", f"/v1/accelerators?host=listed-1&marker={gone}").json()["accelerator"]
        assert {one["uuid"] for one in page} >= {card["uuid"] for card in cards if card["uuid"] > gone}
        problem(server("GET", f"/v1/accelerators?sort=name&marker={VM}"), 400)


class TestSpecs:
    def test_the_whole_specification_and_one_key_of_it_can_be_updated(self, server, made):
        path = made(acc_specs=SPECS)
        assert server("PUT", f"{path}/acc-specs", {"acc_specs": {**SPECS, "num": 3}}).json()["acc_specs"]["num"] == 3
        answer = server("PUT", f"{path}/acc_capability", {"acc_capability": {"num": 5}})
        assert answer.json()["acc_specs"]["acc_capability"] == {"num": 5}
        assert server("PUT", path, {"acc_specs": {"remote": 1}}).json()["acc_specs"]["remote"] == 1

    @pytest.mark.parametrize(
        ("tail", "body"),
        [
            ("/weight", {"num": 1}),
            ("/num", {"remote": 1}),
            ("/num", {"num": "1"}),
            ("/num", {"num": -5}),
            ("/remote", {"remote": 2}),
            ("/vendor_id", {"vendor_id": "80860"}),
            ("/device_type", {"device_type": "TOASTER"}),
            ("/acc-specs", {}),
            ("", {"acc_specs": {"num": 1}, "instance_uuid": VM}),
            ("", {"acc_specs": None, "name": "n"}),
            *((tail, {"acc_specs": specs}) for tail in ("", "/acc-specs") for specs in (None, {}, {"num": None})),
        ],
    )
    def test_what_is_no_update_is_refused(self, server, made, tail, body):
        path = made()
        before = server("GET", path)
        problem(server("PUT", path + tail, body), 400)
        assert server("GET", path).data == before.data

    def test_an_update_that_changes_nothing_is_no_new_version_and_no_event(self, server, made):
        path = made(acc_specs=SPECS)
        before, told = server("GET", path), server("GET", "/v1/events?kind=AcceleratorUpdated").json()["events"]
        for tail in ("", "/acc-specs"):
            answer = server("PUT", path + tail, {"acc_specs": {"num": 1}})
            assert (answer.status, answer.data, answer.headers["ETag"]) == (200, before.data, before.headers["ETag"])
        assert server("GET", "/v1/events?kind=AcceleratorUpdated").json()["events"] == told

    def test_who_read_an_older_version_is_told_so(self, server, made):
        path = made()
        tag = server("GET", path).headers["ETag"]
        newer = server("PUT", f"{path}/num", {"num": 2}, if_match=tag)
        assert (newer.status, newer.headers["ETag"] != tag) == (200, True)
        assert problem(server("PUT", f"{path}/num", {"num": 3}, if_match=tag), 409).type.endswith("/overtaken")
        assert server("PUT", f"{path}/num", {"num": 3}, if_match=newer.headers["ETag"]).status == 200
        for other in ('"another"', f'"{"1" * 5000}"', '"²"'):
            problem(server("PUT", f"{path}/num", {"num": 4}, if_match=other), 409)

    def test_a_weak_tag_is_that_of_no_version_and_one_without_quotes_is_none(self, server, made):
        path = made()
        tag = server("GET", path).headers["ETag"]
        for method, tail, body in (("PUT", "/num", {"num": 4}), ("DELETE", "", None)):
            assert problem(server(method, path + tail, body, if_match=f"W/{tag}"), 412).type.endswith("/weak-tag")
            for other in ("", tag.strip('"'), f"{tag}, {tag}", f"w/{tag}", tag[1:]):
                assert paths_of(problem(server(method, path + tail, body, if_match=other), 400)) == {"If-Match"}
        assert server("GET", path).headers["ETag"] == tag
        assert server("DELETE", path, if_match="*").status == 204

    def test_of_fifty_who_write_at_once_with_one_tag_one_wins(self, server, made):
        assert race(server, made()) == [200] + [409] * 49


class TestAttach:
    def test_a_vm_has_it_until_it_is_detached_and_the_accelerator_stays(self, server, made):
        path = made()
        answer = server("PUT", path, {"instance_uuid": VM})
        assert answer.json()["attachment"] | {"attached_at": ""} == {
            "instance_uuid": VM,
            "project_id": "local",
            "status": "done",
            "attached_at": "",
        }
        problem(server("PUT", path, {"instance_uuid": UUID}), 409)
        assert server("GET", "/v1/accelerators?attached=true&limit=1000").status == 200
        assert server("DELETE", path.replace("accelerators", "accelerator")).status == 204
        assert server("GET", path).json()["attachment"] is None
        assert server("DELETE", path).status == 204

    def test_what_is_on_no_host_goes_to_the_callers_project(self, server, made):
        held = server("PUT", made(), {}).json()["attachment"]
        assert (held["project_id"], held["status"]) == ("local", "done")

    def test_what_is_not_ready_cannot_be_attached(self, server, made):
        assert "inactive" in problem(server("PUT", made(host="compute-1"), {}), 409).detail

    @pytest.mark.parametrize(
        "body", [{"name": "another"}, {"uuid": VM}, {"instance_uuid": VM, "host": "compute-1"}, {"instance_uuid": "x"}]
    )
    def test_a_body_about_another_one_is_refused(self, server, made, body):
        problem(server("PUT", made(), body), 400)

    def test_a_host_that_there_is_not_gets_nothing_attached(self, server, made):
        path = made()
        assert paths_of(problem(server("PUT", path, {"host": "nosuchhost"}), 400)) == {"$.host"}
        assert server("GET", path).json()["attachment"] is None
        assert server("PUT", path, {"host": "compute-1"}).json()["attachment"]["status"] == "pending"


class TestPatch:
    def test_state_name_and_description_change_together_or_not_at_all(self, server, made):
        path = made()
        new = f"renamed {uuid.uuid4()}"
        steps = [
            {"op": "test", "path": "/desired_state", "value": "ready"},
            {"op": "replace", "path": "/state", "value": "maintenance"},
            {"op": "add", "path": "/description", "value": "in the rack on the left"},
            {"op": "replace", "path": "/name", "value": new},
        ]
        shown = server("PATCH", path, steps, content_type="application/json-patch+json").json()
        assert (shown["state"], shown["desired_state"], shown["name"]) == ("maintenance", "maintenance", new)
        problem(server("PATCH", path, steps), 409)

    def test_one_on_a_host_is_ready_as_desired_at_once_and_as_observed_when_verified(self, server, made):
        path = made(host="compute-1")
        server("PATCH", path, [{"op": "replace", "path": "/desired_state", "value": "inactive"}])
        step = {"op": "replace", "path": "/desired_state", "value": "ready"}
        shown = server("PATCH", path, [step]).json()
        assert (shown["desired_state"], shown["state"]) == ("ready", "inactive")

    @pytest.mark.parametrize(
        "step",
        [
            {"op": "replace", "path": "/desired_state", "value": "on"},
            {"op": "replace", "path": "/desired_state", "value": 1},
            {"op": "replace", "path": "/desired_state"},
            {"op": "remove", "path": "/description"},
            {"op": "replace", "path": "/uuid", "value": VM},
            {"op": "replace", "path": "/name", "value": ""},
            {"op": "replace", "path": "/description", "value": "two\nlines"},
        ],
    )
    def test_what_cannot_be_patched_is_refused(self, server, made, step):
        problem(server("PATCH", made(), [step]), 400)
