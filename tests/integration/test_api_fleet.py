# SPDX-License-Identifier: Apache-2.0
"""Hosts, backends, runs, events, streams and allocations over real HTTP, over a real journal."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from cyborg_reconciler.core.state import Health
from cyborg_reconciler.documents.plan import HostPlan, Outcome, PlanDocument, StepOutcome
from cyborg_reconciler.documents.rest.allocation import AllocationsShown
from cyborg_reconciler.documents.rest.fleet import (
    Backend,
    BackendList,
    BackendServices,
    EventList,
    HostList,
    HostShown,
    Run,
    RunList,
)
from cyborg_reconciler.ports import Event, Unobserved
from cyborg_reconciler.stores.accelerators import Accelerator
from cyborg_reconciler.stores.retention import Old
from tests.begun import uuid_of
from tests.integration.api_support import problem
from tests.integration.api_world import Follower, open_world, pages

NOBODY = "11111111-2222-3333-4444-555555555555"
SHELVES = ("shelf-0", "shelf-1")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with open_world(tmp_path_factory.mktemp("fleet")) as world:
        world.look(*(f"node-{number}" for number in range(5)))
        world.look("plain-1", groups=())
        yield world


def paths_of(found):
    return {one.path for one in found.errors}


class TestHosts:
    def test_a_host_says_where_it_stands_and_why(self, world):
        answer = world("GET", "/v1/hosts/node-1")
        host = HostShown.model_validate_json(answer.data)
        assert (host.sync, host.phase, host.reason) == ("OutOfSync", "PendingApproval", "PendingApproval")
        assert host.fingerprint == world.facts_of("node-1").fingerprint
        assert (host.groups, host.labels) == (["crypto"], {"rack": "r1"})
        assert host.facts_received_at == host.observed_at
        assert {one.type for one in host.conditions} >= {"Ready", "Drifted", "Progressing", "Degraded", "Paused"}
        assert answer.headers["ETag"] == world("GET", "/v1/hosts/node-1").headers["ETag"]

    def test_a_host_that_was_never_seen_is_not_found(self, world):
        problem(world("GET", "/v1/hosts/nobody"), 404)
        problem(world("GET", "/v1/hosts/%22%3E%3Cscript"), 404)

    @pytest.mark.parametrize("sort", ["name", "name:desc"])
    def test_pages_follow_each_other_by_name(self, world, sort):
        found, count = pages(world, f"/v1/hosts?limit=2&sort={sort}&sync=OutOfSync", "hosts")
        names = [f"node-{number}" for number in range(5)]
        assert [one["name"] for one in found] == (names[::-1] if "desc" in sort else names)
        assert count == 3

    def test_filters_are_all_of_them_to_hold(self, world):
        page = world("GET", "/v1/hosts?sync=Synced&health=Healthy&phase=Idle")
        assert [one.name for one in HostList.model_validate_json(page.data).hosts] == ["plain-1"]
        assert world("GET", "/v1/hosts?sync=Synced&phase=Planned").json()["hosts"] == []

    @pytest.mark.parametrize("query", ["sync=green", "phase=idle", "limit=0", "sort=uuid", "marker=%00", "name=x"])
    def test_a_parameter_that_is_wrong_is_named(self, world, query):
        assert paths_of(problem(world("GET", f"/v1/hosts?{query}"), 400)) == {query.partition("=")[0]}


@pytest.fixture(scope="module")
def cards(world):
    """Two accelerators of each of two drivers on each of two hosts, whose devices nobody looked at."""
    now = datetime.now(UTC)
    world.stores.journal.record_observations(dict.fromkeys(SHELVES, Unobserved("Unreachable", "no route to host")))
    for host in SHELVES:
        for number in range(4):
            card = Accelerator(
                uuid=str(uuid.uuid4()),
                name=f"{host} card {number}",
                created_at=now,
                updated_at=now,
                host=host,
                driver="edu" if number < 2 else "intel-qat",
                device_type="CRYPTO",
                acc_type="QAT" if number % 2 else "",
                num=4,
                state="ready" if number else "inactive",
                health=Health.HEALTHY if number else Health.DEGRADED,
            )
            world.stores.accelerators.add(card, Event(now, "AcceleratorFound", host))


@pytest.mark.usefixtures("cards")
class TestBackends:
    def test_a_backend_is_one_driver_on_one_host(self, world):
        found, count = pages(world, "/v1/backends?limit=3", "backends")
        ours = [one for one in found if one["host"] in SHELVES]
        assert [(one["host"], one["driver"]) for one in ours] == [
            (host, driver) for host in SHELVES for driver in ("edu", "intel-qat")
        ]
        assert count == -(-len(found) // 3)
        backwards, _ = pages(world, "/v1/backends?limit=1&sort=host:desc", "backends")
        assert backwards == found[::-1]
        host = world("GET", "/v1/hosts/shelf-0").json()
        assert ours[0]["uuid"] == str(uuid.uuid5(uuid.UUID(host["uuid"]), "edu"))

    def test_it_says_what_it_found_and_what_it_offers(self, world):
        page = BackendList.model_validate_json(world("GET", "/v1/backends?host=shelf-1&driver=edu").data)
        (listed,) = page.backends
        shown = Backend.model_validate_json(world("GET", f"/v1/backends/{listed.uuid}").data)
        assert shown == listed
        assert (shown.accelerators, shown.states, shown.health) == (2, {"ready": 1, "inactive": 1}, "Degraded")
        offered = BackendServices.model_validate_json(world("GET", f"/v1/backends/{listed.uuid}/services").data)
        assert [(one.device_type, one.acc_type, one.ready, one.num) for one in offered.services] == [
            ("CRYPTO", "", 0, 4),
            ("CRYPTO", "QAT", 1, 4),
        ]

    def test_what_is_not_there_is_not_found(self, world):
        problem(world("GET", f"/v1/backends/{NOBODY}"), 404)
        problem(world("GET", f"/v1/backends/{NOBODY}/services"), 404)
        assert paths_of(problem(world("GET", f"/v1/backends?marker={NOBODY}"), 400)) == {"marker"}


def make_plan(*hosts):
    of_host = HostPlan(generation=1, digest="d", fingerprint="f", segments=[])
    return PlanDocument(
        plan_version=1,
        uuid=str(uuid.uuid4()),
        created_at="2026-01-05T12:00:00Z",
        controller_id="c",
        fencing_token=1,
        hosts=dict.fromkeys(hosts, of_host),
    )


@pytest.fixture(scope="module")
def ended(world):
    """A run on two hosts that has ended, and its plan."""
    journal, now, plan = world.stores.journal, datetime.now(UTC), make_plan("node-1", "node-2")
    run = uuid_of(journal.open_run(plan, now))
    step = StepOutcome(id="sriov 0000:6b:00.0", status="changed", before={"num_vfs": 0}, after={"num_vfs": 4})
    journal.record_outcome(run, "node-1", Outcome(status="applied", steps=[step]), now)
    journal.record_outcome(run, "node-2", Outcome(status="failed", message="no space left"), now)
    journal.close_run(run, "failed", now)
    return run, plan


@pytest.fixture
def open_run(world):
    """A run that goes on."""
    run = uuid_of(world.stores.journal.open_run(make_plan("node-3"), datetime.now(UTC)))
    yield run
    world.stores.journal.close_run(run, "interrupted", datetime.now(UTC))


class TestRuns:
    def test_a_run_says_what_came_out_for_each_host(self, world, ended):
        run = Run.model_validate_json(world("GET", f"/v1/runs/{ended[0]}").data)
        assert (run.status, run.plan_uuid, run.cancel_requested_at) == ("failed", ended[1].uuid, None)
        assert [(one.host, one.status) for one in run.hosts] == [("node-1", "applied"), ("node-2", "failed")]
        assert run.hosts[0].outcome.steps[0].after == {"num_vfs": 4}
        assert run.hosts[1].outcome.message == "no space left"

    def test_a_list_counts_what_came_out(self, world, ended, open_run):
        listed = RunList.model_validate_json(world("GET", "/v1/runs?limit=1").data).runs
        assert [(one.uuid, one.outcomes) for one in listed] == [(open_run, {"running": 1})]
        of_host = RunList.model_validate_json(world("GET", "/v1/runs?host=node-2&status=failed").data).runs
        assert [(one.uuid, one.outcomes) for one in of_host] == [(ended[0], {"applied": 1, "failed": 1})]

    @pytest.mark.usefixtures("ended", "open_run")
    def test_pages_follow_each_other(self, world):
        found, count = pages(world, "/v1/runs?limit=1", "runs")
        assert len({one["uuid"] for one in found}) == len(found) == count >= 2
        assert pages(world, "/v1/runs?sort=started_at:asc&limit=1", "runs")[0] == found[::-1]
        assert paths_of(problem(world("GET", f"/v1/runs?marker={NOBODY}"), 400)) == {"marker"}

    def test_a_run_that_goes_on_can_be_asked_to_end_once(self, world, open_run):
        assert not world.stores.journal.cancel_requested(open_run)
        first = world("POST", f"/v1/runs/{open_run}/cancel")
        assert (first.status, first.json()["cancel_requested_by"]) == (202, "local")
        assert world("POST", f"/v1/runs/{open_run}/cancel").json() == first.json()
        assert world.stores.journal.cancel_requested(open_run)
        told = world("GET", f"/v1/events?run={open_run}&kind=RunCancelRequested").json()["events"]
        assert [one["by"] for one in told] == ["local"]

    def test_one_that_has_ended_cannot(self, world, ended):
        assert "ended" in problem(world("POST", f"/v1/runs/{ended[0]}/cancel"), 409).detail
        problem(world("POST", f"/v1/runs/{NOBODY}/cancel"), 404)
        problem(world("GET", f"/v1/runs/{NOBODY}"), 404)

    def test_the_plan_of_a_run_can_be_read(self, world, ended):
        plan = world("GET", f"/v1/plans/{ended[1].uuid}").json()
        assert [(one["host"], one["generation"]) for one in plan["hosts"]] == [("node-1", 1), ("node-2", 1)]


class TestEvents:
    def test_a_run_has_its_own(self, world, ended):
        page = EventList.model_validate_json(world("GET", f"/v1/runs/{ended[0]}/events?sort=number:asc").data)
        assert [(one.kind, one.host) for one in page.events] == [
            ("RunStarted", None),
            ("ApplyEnded", "node-1"),
            ("ApplyEnded", "node-2"),
            ("RunEnded", None),
        ]
        problem(world("GET", f"/v1/runs/{NOBODY}/events"), 404)

    @pytest.mark.usefixtures("ended")
    def test_pages_follow_each_other_newest_first(self, world):
        found, count = pages(world, "/v1/events?host=node-1&limit=1", "events")
        numbers = [one["number"] for one in found]
        assert numbers == sorted(numbers, reverse=True)
        assert count == len(found) >= 2
        assert pages(world, "/v1/events?host=node-1&limit=1&sort=number:asc", "events")[0] == found[::-1]

    def test_filters_are_all_of_them_to_hold(self, world):
        before, after = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"
        assert world("GET", f"/v1/events?since={before}&kind=OutOfSync&host=node-1").json()["events"]
        assert not world("GET", f"/v1/events?since={after}").json()["events"]

    def test_who_changed_what_is_told_with_before_and_after(self, world):
        uuid_ = str(uuid.uuid4())
        world("POST", f"/v1/accelerators/{uuid_}", {"name": f"told {uuid_}"})
        patch = [{"op": "replace", "path": "/name", "value": f"renamed {uuid_}"}]
        world("PATCH", f"/v1/accelerators/{uuid_}", patch)
        (told,) = world("GET", "/v1/events?kind=AcceleratorPatched&limit=1").json()["events"]
        assert (told["by"], told["before"]["name"], told["after"]["name"]) == (
            "local",
            f"told {uuid_}",
            f"renamed {uuid_}",
        )

    @pytest.mark.parametrize(
        "query",
        [
            *("since=yesterday", "since=2026-01-05T12:00:00", "since=0001-01-01T00:00:00%2B14:00"),
            *("since=9999-12-31T23:59:59-14:00", "marker=x", "run=x", "kind=a%20b"),
        ],
    )
    def test_a_parameter_that_is_wrong_is_named(self, world, query):
        found = problem(world("GET", f"/v1/events?{query}"), 400)
        assert paths_of(found) == {query.partition("=")[0]}


class TestStreams:
    def test_a_run_is_followed_from_its_beginning(self, world, ended):
        with Follower(world, f"/v1/runs/{ended[0]}/events") as follower:
            assert follower.answer.headers["Content-Type"] == "text/event-stream"
            kinds = [one["kind"] for one in follower.read(4)]
        assert kinds == ["RunStarted", "ApplyEnded", "ApplyEnded", "RunEnded"]

    def test_what_happens_is_told_at_once_and_what_was_missed_is_told_first(self, world):
        kind = "SomethingHappened"
        with Follower(world, f"/v1/events?kind={kind}") as follower:
            world.stores.journal.record_event(Event(datetime.now(UTC), kind, "node-1", "one"))
            world.stores.journal.record_event(Event(datetime.now(UTC), "SomethingElse", "node-1"))
            (one,) = follower.read(1)
        world.stores.journal.record_event(Event(datetime.now(UTC), kind, "node-1", "two"))
        with Follower(world, f"/v1/events?kind={kind}", last=one["number"]) as follower:
            (two,) = follower.read(1)
        assert (one["message"], two["message"]) == ("one", "two")

    def test_who_was_away_for_longer_than_events_are_kept_is_told_so_first(self, world):
        long_ago = datetime(2020, 1, 5, tzinfo=UTC)
        for _ in range(2):
            world.stores.journal.record_event(Event(long_ago, "LongAgo"))
        second, first = (one["number"] for one in world("GET", "/v1/events?kind=LongAgo").json()["events"])
        world.stores.fleet.retention.forget(Old(datetime.now(UTC), long_ago + timedelta(days=1), None))
        with Follower(world, "/v1/events?kind=EventsForgotten", last=first) as follower:
            said = b""
            for chunk in follower.answer.stream(amt=None):
                said += chunk
                if b"id: " in said:
                    break
        assert said.split(b"\n\n")[1] == f'event: forgotten\ndata: {{"up_to":{second}}}'.encode()
        assert not world("GET", "/v1/events?kind=LongAgo").json()["events"]

    def test_streams_leave_half_of_the_threads_to_others(self, world):
        followers, refused = [], None
        # Two processes of 16 threads: 8 streams each; which process a connection meets is the kernel's choice.
        for _ in range(17):
            follower = Follower(world, "/v1/events")
            followers.append(follower)
            if follower.answer.status == 503:
                refused = follower.answer
        try:
            assert sum(follower.answer.status == 200 for follower in followers) >= 8
            assert refused is not None
            assert refused.headers["Retry-After"]
            assert world("GET", "/v1/hosts?limit=1").status == 200
        finally:
            for follower in followers:
                follower.__exit__()

    def test_who_says_where_to_resume_says_a_number(self, world):
        for last in ("x", "-5", "1" * 30):
            answer = world("GET", "/v1/events", accept="text/event-stream", last_event_id=last)
            assert paths_of(problem(answer, 400)) == {"Last-Event-ID"}


@pytest.fixture
def card(world):
    """The uuid of an accelerator with four units, attached to the caller's project."""
    uuid_ = str(uuid.uuid4())
    body = {"name": f"card {uuid_}", "acc_specs": {"num": 4}}
    assert world("POST", f"/v1/accelerators/{uuid_}", body).status == 201
    assert world("PUT", f"/v1/accelerators/{uuid_}", {}).status == 200
    return uuid_


def allocate(world, consumer, headers=None, **amounts):
    body = {"allocations": [{"accelerator": uuid_, "amount": amount} for uuid_, amount in amounts.items()]}
    return world("PUT", f"/v1/allocations/{consumer}", body, **(headers or {}))


class TestAllocations:
    def test_while_there_is_one_the_accelerator_stays_attached(self, world, card):
        consumer = str(uuid.uuid4())
        shown = AllocationsShown.model_validate_json(allocate(world, consumer, **{card: 2}).data)
        assert [(one.accelerator, one.amount) for one in shown.allocations] == [(card, 2)]
        assert world("GET", f"/v1/allocations/{consumer}").json()["consumer"] == consumer
        assert consumer in problem(world("DELETE", f"/v1/accelerators/{card}"), 409).detail
        assert world("DELETE", f"/v1/allocations/{consumer}").status == 204
        assert world("DELETE", f"/v1/accelerators/{card}").status == 204
        problem(world("GET", f"/v1/allocations/{consumer}"), 404)
        problem(world("DELETE", f"/v1/allocations/{consumer}"), 404)

    def test_who_read_the_accelerator_before_is_told_that_something_came_between(self, world, card):
        tag = world("GET", f"/v1/accelerators/{card}").headers["ETag"]
        consumer = str(uuid.uuid4())
        allocate(world, consumer, **{card: 1})
        assert problem(world("DELETE", f"/v1/accelerators/{card}", if_match=tag), 409).type.endswith("/overtaken")
        assert world("DELETE", f"/v1/allocations/{consumer}").status == 204
        problem(world("DELETE", f"/v1/accelerators/{card}", if_match=tag), 409)

    def test_of_an_allocation_and_a_detaching_at_once_never_both_come_to_be(self, world, card):
        together = threading.Barrier(2)
        for _ in range(10):
            consumer = str(uuid.uuid4())

            def take(consumer=consumer):
                together.wait()
                return allocate(world, consumer, **{card: 1}).status

            def detach():
                together.wait()
                return world("DELETE", f"/v1/accelerators/{card}").status

            with ThreadPoolExecutor(2) as pool:
                taken, detached = pool.submit(take), pool.submit(detach)
            assert (taken.result(), detached.result()) in {(200, 409), (200, 204)}
            is_attached = world("GET", f"/v1/accelerators/{card}").json()["attachment"] is not None
            assert is_attached == (detached.result() == 409)
            world("DELETE", f"/v1/allocations/{consumer}")
            world("PUT", f"/v1/accelerators/{card}", {})

    def test_no_more_is_given_than_there_is(self, world, card):
        one, other = str(uuid.uuid4()), str(uuid.uuid4())
        assert allocate(world, one, **{card: 3}).status == 200
        assert "others have 3" in problem(allocate(world, other, **{card: 2}), 409).detail
        assert allocate(world, other, **{card: 1}).status == 200
        assert allocate(world, one, **{card: 2}).status == 200

    def test_of_many_who_take_the_last_one_one_gets_it(self, world, card):
        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(lambda _: allocate(world, str(uuid.uuid4()), **{card: 4}).status, range(8)))
        assert statuses == [200] + [409] * 7

    def test_who_read_an_older_version_is_told_so(self, world, card):
        consumer = str(uuid.uuid4())
        first = allocate(world, consumer, **{card: 1}).headers["ETag"]
        second = allocate(world, consumer, {"if_match": first}, **{card: 2})
        assert (second.status, second.headers["ETag"] != first) == (200, True)
        problem(allocate(world, consumer, {"if_match": first}, **{card: 3}), 409)
        problem(world("DELETE", f"/v1/allocations/{consumer}", if_match=first), 409)
        assert world("DELETE", f"/v1/allocations/{consumer}", if_match=second.headers["ETag"]).status == 204
        problem(allocate(world, consumer, {"if_match": second.headers["ETag"]}, **{card: 1}), 409)

    def test_what_is_no_allocation_is_refused(self, world, card):
        consumer = str(uuid.uuid4())
        assert paths_of(problem(allocate(world, consumer, **{NOBODY: 1}), 400)) == {"$.allocations[0].accelerator"}
        assert "$.allocations[0].amount" in paths_of(problem(allocate(world, consumer, **{card: 0}), 400))
        assert paths_of(problem(allocate(world, "me", **{card: 1}), 400)) == {"consumer"}
        assert paths_of(problem(allocate(world, consumer), 400)) == {"$.allocations"}
