# SPDX-License-Identifier: Apache-2.0
"""Who may call what, over real HTTP: every route and every role, and what the audit trail says of those refused."""

import re
import time
import uuid
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from cyborg_reconciler.adapters.database import open_reader
from cyborg_reconciler.bootstrap import SystemClock, open_stores
from cyborg_reconciler.cli.remote import ServerError, find_remote
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.credentials import Credentials
from cyborg_reconciler.conductor.drivers import EVENT_KINDS
from cyborg_reconciler.conductor.secrets import USER, new_token
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.testing import FixedClock
from cyborg_reconciler_api.app import all_operations
from tests.integration.api_support import enrol_agent, make_token, problem, serving
from tests.integration.console import call

OPERATOR = Caller("tests", Role.ADMIN)
NOWHERE = "00000000-0000-4000-8000-000000000000"
CONSUMER = "11111111-2222-4333-8444-555555555555"
#: Nobody waits for this: a wait ends when what it is for has come.
PATIENCE_S = 120

#: Of those who call, the ones whom some route lets in, and as what.
ROLES = {str(role): role for role in Role}
REFUSED = ("nobody", "wrong", "expired", "revoked")


class Place:
    """A server that asks for tokens, and a token of every kind of caller."""

    def __init__(self, state, server):
        self.state, self.server = state, server
        self.tokens = {name: make_token(state, name, name) for name in ROLES}
        self.tokens["expired"] = make_token(state, "expired", "admin", timedelta(days=1), FixedClock())
        self.tokens["revoked"] = make_token(state, "revoked", "admin")
        self.revoke("revoked")
        self.tokens["wrong"] = new_token(USER)
        self.tokens["agent"] = enrol_agent(Settings(state_dir=self.state), "compute-7")

    def revoke(self, name):
        with open_stores(Settings(state_dir=self.state)) as stores:
            Credentials(stores.credentials, SystemClock()).revoke(OPERATOR, name)

    def by(self, who):
        """The server as *who* sees it."""
        return self.server if who == "nobody" else self.server.called_by(self.tokens[who])

    def events(self, kind):
        """The entries of one kind, oldest first."""
        with open_reader(self.state) as journal:
            return [event for event in journal.events(limit=100_000) if event.kind == kind][::-1]


def refusal(place, who, method, path):
    """What a command says of a request that is refused."""
    environ = {"CYBORG_RECONCILER_TOKEN": place.tokens[who]} if who in place.tokens else {}
    with pytest.raises(ServerError) as refused:
        find_remote(place.server.url, None, environ)(method, path, [])
    return str(refused.value)


def opened(folder, **settings):
    state = folder / "state"
    with serving(state, "--auth", "token", **settings) as server:
        yield Place(state, server)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    yield from opened(tmp_path_factory.mktemp("access"), failed_logins_per_min=0, token_cache_s=1)


@pytest.fixture(scope="module")
def narrow_place(tmp_path_factory):
    yield from opened(
        tmp_path_factory.mktemp("narrow"), failed_logins_per_min=5, requests_per_min=5, trusted_proxies="127.0.0.0/8"
    )


def address_of(path):
    """A path of the table with ids that nothing has, or the agent's host."""
    return re.sub(r"\{(\w+)\}", lambda found: NOWHERE if found[1].endswith("uuid") else "compute-7", path)


def expected_of(who, path, access):
    """Whether *who* is let in, by the table alone; an agent looks itself up by another token than its own."""
    if access == "anybody":
        return True
    if access == "agent":
        return who == "agent" and path != "/v1/lookup"
    return who in ROLES and ROLES[who] >= access


@pytest.mark.parametrize("who", [*ROLES, *REFUSED, "agent"])
def test_every_route_lets_in_whom_the_table_names_and_nobody_else(place, who):
    server, differing = place.by(who), []
    for path, method, operation in all_operations():
        # An agent's token is judged by the operation, which wants to know what it says. Others are asked for nothing
        # that is there, and without the body that they take: whoever is let in gets to hear of that.
        body = operation.sample.request if operation.access == "agent" else None
        status = server(method, address_of(path), body).status
        if (status not in {401, 403}) != expected_of(who, path, operation.access) or status >= 500:
            differing.append((method, path, status))
    assert differing == []


def test_unknown_expired_and_revoked_tokens_are_answered_alike(place):
    answers = [place.by(who)("GET", "/v1/accelerators") for who in REFUSED]
    told = [problem(answer, 401).model_dump(exclude={"request_id"}) for answer in answers]
    assert told == told[:1] * len(REFUSED)
    volatile = {"date", "x-openstack-request-id"}
    headers = [{name.lower(): text for name, text in answer.headers.items()} for answer in answers]
    assert {frozenset((name, text) for name, text in each.items() if name not in volatile) for each in headers} == {
        frozenset((name, text) for name, text in headers[0].items() if name not in volatile)
    }
    assert headers[0]["www-authenticate"] == "Bearer"


def test_a_command_that_is_refused_says_so_once_and_asks_for_a_token_only_where_that_helps(place):
    forbidden = refusal(place, "reader", "POST", "/v1/hosts/a%20b/drivers/x/install")
    assert forbidden.startswith("POST /v1/hosts/a%20b/drivers/x/install: reader is reader; ask somebody who is ")
    assert "token" not in forbidden
    for who in ("nobody", "wrong"):
        unknown = refusal(place, who, "POST", "/v1/hosts/a%20b/drivers/x/install")
        assert unknown.endswith("give a token: CYBORG_RECONCILER_TOKEN, or token_file in the file of clouds")


def test_a_token_works_at_once_and_once_revoked_no_longer_than_it_is_believed(place):
    token = make_token(place.state, "short", "reader")
    server = place.server.called_by(token)
    assert server("GET", "/v1/accelerators").status == 200
    place.revoke("short")
    give_up_s = time.monotonic() + PATIENCE_S
    while server("GET", "/v1/accelerators").status == 200:
        assert time.monotonic() < give_up_s
    # Another process may still believe it; it does so no longer than the second that is set here.
    statuses = Counter(server("GET", "/v1/accelerators").status for _ in range(20))
    assert statuses[401] > 0


def test_a_member_changes_what_is_attached_to_his_project_alone(place):
    made = place.by("admin")("POST", "/v1/accelerators", {"name": "shared"}).headers["Location"]
    path, body = f"/v1{made}/num", {"num": 2}
    assert place.by("member")("PUT", path, body).status == 403
    assert place.by("member")("PUT", f"/v1{made}", {}).json()["attachment"]["project_id"] == "project-member"
    assert place.by("member")("PUT", path, body).status == 200
    other = place.server.called_by(make_token(place.state, "another", "member"))
    assert problem(other("DELETE", f"/v1{made}"), 403).detail.startswith("to detach shared")
    assert place.by("manager")("PUT", path, {"num": 3}).status == 403
    assert place.by("manager")("DELETE", f"/v1{made}").status == 403
    assert place.by("admin")("PUT", path, {"num": 3}).status == 200
    assert other("GET", f"/v1{made}").status == 200


def test_a_manager_sets_the_state_and_names_nothing(place):
    manager = place.by("manager")
    path = f"/v1{place.by('admin')('POST', '/v1/accelerators', {'name': 'named'}).headers['Location']}"
    steps = {name: {"op": "replace", "path": f"/{name}", "value": "renamed"} for name in ("name", "description")}
    state = {"op": "replace", "path": "/state", "value": "maintenance"}
    for step in steps.values():
        assert "ask somebody who is admin" in problem(manager("PATCH", path, [state, step]), 403).detail
    assert manager("GET", path).json()["state"] == "ready"
    named = {"op": "test", "path": "/name", "value": "named"}
    assert manager("PATCH", path, [named, state]).json()["state"] == "maintenance"
    assert place.by("admin")("PATCH", path, list(steps.values())).json()["name"] == "renamed"


@pytest.mark.parametrize("attached", [True, False])
def test_whose_the_allocations_are_is_no_answer_to_another_project(place, attached):
    made = place.by("admin")("POST", "/v1/accelerators", {"name": f"taken {attached}"}).headers["Location"]
    if attached:
        assert place.by("member")("PUT", f"/v1{made}", {}).status == 200
    given = {"allocations": [{"accelerator": made.rpartition("/")[2], "amount": 1}]}
    assert place.by("admin")("PUT", f"/v1/allocations/{CONSUMER}", given).status in {200, 201}
    other = place.server.called_by(make_token(place.state, f"other-{attached}", "member"))
    assert CONSUMER not in problem(other("DELETE", f"/v1{made}"), 403 if attached else 409).detail
    told = problem(place.by("member" if attached else "admin")("DELETE", f"/v1{made}"), 409)
    assert f"{CONSUMER} has an allocation of it" in told.detail
    assert place.by("admin")("DELETE", f"/v1/allocations/{CONSUMER}").status == 204


class TestAudit:
    def test_every_change_says_who_made_it_of_which_project_in_which_request_and_what_differed(self, place):
        admin, name = place.by("admin"), f"card {uuid.uuid4()}"
        ids = [f"req-{uuid.uuid4()}" for _ in range(5)]
        made = admin("POST", "/v1/accelerators", {"name": name}, x_openstack_request_id=ids[0]).headers["Location"]
        step = {"op": "replace", "path": "/description", "value": "on the left"}
        for method, path, body, request_id in (
            ("PUT", f"{made}/num", {"num": 4}, ids[1]),
            ("PUT", made, {}, ids[2]),
            ("DELETE", made, None, ids[3]),
            ("PATCH", made, [step], ids[4]),
        ):
            assert admin(method, path, body, x_openstack_request_id=request_id).status < 300
        with open_reader(place.state) as journal:
            told = [event for event in journal.events(limit=100) if name in event.message][::-1]
        assert [(event.kind, event.data["request_id"]) for event in told] == list(
            zip(
                (
                    "AcceleratorCreated",
                    "AcceleratorUpdated",
                    "AcceleratorAttached",
                    "AcceleratorDetached",
                    "AcceleratorPatched",
                ),
                ids,
                strict=True,
            )
        )
        for event in told:
            known = {key: event.data[key] for key in ("by", "role", "project", "accelerator")}
            uuid_ = made.rpartition("/")[2]
            assert known == {"by": "admin", "role": "admin", "project": "project-admin", "accelerator": uuid_}
        assert told[0].data["after"]["name"] == name
        assert [(event.data["before"], event.data["after"]) for event in told[1:]] == [
            ({"num": 1}, {"num": 4}),
            ({"attached_to": None}, {"attached_to": "project-admin"}),
            ({"attached_to": "project-admin"}, {"attached_to": None}),
            ({"description": ""}, {"description": "on the left"}),
        ]

    def test_whatever_a_caller_caused_says_all_of_him(self, place):
        manager = place.by("manager")
        assert manager("POST", "/v1/discovery").status < 300
        for command in ("install", "update", "uninstall"):
            assert manager("POST", f"/v1/hosts/compute-7/drivers/virtio-crypto/{command}").status == 202
        with open_reader(place.state) as journal:
            caused = [event for event in journal.events(limit=100_000) if "by" in (event.data or {})]
        kinds = {event.kind for event in caused}
        assert {"DiscoveryAsked", "TokenCreated", "TokenRevoked", "AccessRefused", *EVENT_KINDS.values()} <= kinds
        lacking = {event.kind for event in caused if not OPERATOR.trace().keys() <= event.data.keys()}
        assert lacking == {"AccessRefused"}  # which says where from, and of whom nobody may know more than that

    def test_what_becomes_of_a_driver_is_told_with_what_was_declared_of_it_before(self, place):
        request_id, path = f"req-{uuid.uuid4()}", "/v1/hosts/compute-7/drivers/generic-pci"
        for command in EVENT_KINDS:
            place.by("manager")("POST", f"{path}/{command}", x_openstack_request_id=request_id)
        told = [
            event
            for kind in EVENT_KINDS.values()
            for event in place.events(kind)
            if event.data["driver"] == "generic-pci"
        ]
        states = [(event.data["before"]["state"], event.data["after"]["state"]) for event in told]
        assert states == [(None, "present"), ("present", "present"), ("present", "absent")]
        assert {event.data["request_id"] for event in told} == {request_id}

    def test_what_operators_do_at_the_command_line_is_there_as_well(self, place):
        call("token", "create", "typed", "--role", "reader", "--state", place.state)
        made = next(event for event in place.events("TokenCreated") if event.data["after"]["token"] == "typed")
        assert made.data["by"].endswith("(command line)")
        (enrolled,) = place.events("EnrolmentMinted")
        assert enrolled.data == dict(OPERATOR.trace())


def test_attempts_of_those_refused_are_told_with_their_number_and_no_token_is_anywhere(tmp_path):
    state = tmp_path / "state"
    with serving(state, "--auth", "token", "--workers", "1") as server:
        place = Place(state, server)
        ids = [f"req-{uuid.uuid4()}" for _ in range(4)]
        for request_id in ids[:3]:
            place.by("wrong")("GET", f"/v1/{place.tokens['wrong']}", x_openstack_request_id=request_id)
            place.by("wrong")("PUT", f"/v1/accelerators/{NOWHERE}", {}, x_openstack_request_id=request_id)
        place.by("reader")("POST", "/v1/accelerators", {"name": "n"}, x_openstack_request_id=ids[3])
        at_once = place.events("AccessRefused")
        # A name that a terminal would obey is told as data.
        place.by("wrong")("GET", "/v1/accelerators/%1b%5b2J")
    assert [(event.data["by"], event.data["request_id"]) for event in at_once] == [(None, ids[0]), ("reader", ids[3])]
    assert {event.data["peer"] for event in at_once} == {"127.0.0.1"}
    assert [(event.data["status"], event.data["count"]) for event in at_once] == [(401, 1), (403, 1)]
    (followed,) = place.events("AccessRefused")[2:]
    assert (followed.data["count"], followed.data["path"]) == (3, "/v1/accelerators/\x1b[2J")
    shown = call("history", "--events", "--state", state).output
    assert "somebody unknown from 127.0.0.1: PUT" in shown
    assert "\x1b" not in shown
    kept = b"".join(path.read_bytes() for path in sorted(state.rglob("*")) if path.is_file())
    kept += Path(f"{state}.log").read_bytes()
    assert b"AccessRefused" in kept
    assert [name for name, token in place.tokens.items() if token.encode() in kept] == []


class TestLimits:
    def test_whoever_fails_too_often_is_told_how_long_to_wait_and_who_has_a_token_is_let_in(self, narrow_place):
        def ask(server, peer):
            return server("GET", "/v1/accelerators", x_forwarded_for=peer)

        wrong = narrow_place.by("wrong")
        # Two processes serve, and each lets five pass.
        answers = [ask(wrong, "203.0.113.9") for _ in range(20)]
        statuses = Counter(answer.status for answer in answers)
        assert set(statuses) == {401, 429}
        assert statuses[401] >= 5
        last = next(answer for answer in reversed(answers) if answer.status == 429)
        assert 1 <= int(last.headers["Retry-After"]) <= 12
        assert "too many" in problem(last, 429).detail
        assert ask(narrow_place.by("reader"), "203.0.113.9").status == 200
        assert ask(wrong, "203.0.113.10").status == 401
        peers = {event.data["peer"] for event in narrow_place.events("AccessRefused")}
        assert {"203.0.113.9", "203.0.113.10"} <= peers

    def test_agents_who_fail_too_often_are_not_heard_either(self, narrow_place):
        wrong, hello = narrow_place.by("wrong"), {"status": "READY", "endpoint": "compute-7:1337"}
        answers = [wrong("POST", "/v1/hello", hello, x_forwarded_for="203.0.113.11").status for _ in range(20)]
        assert set(answers) == {401, 429}

    def test_one_token_has_so_many_requests_and_others_have_theirs(self, narrow_place):
        manager = narrow_place.by("manager")
        statuses = Counter(manager("GET", "/v1/accelerators").status for _ in range(20))
        assert set(statuses) == {200, 429}
        assert narrow_place.by("member")("GET", "/v1/accelerators").status == 200


def test_answers_say_what_they_are_and_what_serves_only_by_its_name(place):
    for server, status in ((place.by("reader"), 200), (place.server, 401)):
        answer = server("GET", "/v1/accelerators")
        assert answer.status == status
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert not re.search(r"\d", answer.headers["Server"])
