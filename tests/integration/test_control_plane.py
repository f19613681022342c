# SPDX-License-Identifier: Apache-2.0
"""A control plane of several: a server of the API and one of agents, folders of their own, over one PostgreSQL."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import samples
from cyborg_reconciler.simulation.hosts import write_tree
from tests.integration.api_support import problem, race, running, serving, until
from tests.integration.test_api_agents import Site, Speaker, look_up, other_facts
from tests.integration.test_journal_postgresql import stopped

HOST = "compute-1"
UNAVAILABLE = "The database's server cannot be reached, has just been lost, or does not answer in time; try again"


class Plane:
    """Both servers, and an agent that was looked up at the conductor."""

    def __init__(self, api, site, database):
        self.api, self.conductor, self.database = api, site.server, database
        self.agent = Speaker(site, HOST, look_up(site, site.minted(HOST), hostname=HOST).json()["token"])

    def log(self, name):
        """What a server has said so far."""
        return (self.agent.site.state.parent / f"{name}.log").read_text(encoding="utf-8")

    def status(self, server, method, path):
        """What a server answers to an empty request; whether the reference says so does not matter."""
        answer = server.pool.request(method, server.url + path, body=b"{}", headers={"connection": "close"})
        assert answer.headers["X-Openstack-Request-Id"]
        return answer.status


@pytest.fixture(scope="module")
def plane(tmp_path_factory, cluster):
    folder = tmp_path_factory.mktemp("plane")
    write_tree(samples.demo_machines()[0], folder / "host")
    facts = json.loads(json.dumps(gather(Tree(str(folder / "host")), connection="local")))
    with cluster.journal() as database:
        words = ["--auth", "none", "--agents", "elsewhere"]
        command = ["cyborg-reconciler", "conductor", "--bind", "127.0.0.1:0", "--workers", "1"]
        state = folder / "conductor"
        with (
            serving(folder / "api", *words, database=database, sign_of_life_s=1) as api,
            running([*command, "--state", str(state)], state, database=database, sign_of_life_s=1) as conductor,
            open_admission(Settings(state, database=database)) as operators,
        ):
            yield Plane(api, Site(conductor, state, operators, facts), database)


def test_what_an_agent_tells_the_conductor_the_other_process_shows(plane):
    assert plane.agent.check_in().json()["durable"] is True
    body = {"status": "READY", "endpoint": f"{HOST}:1337"}
    said = plane.conductor("POST", "/hello", body, authorization=f"Bearer {plane.agent.token}")
    assert said.json()["host"] == HOST
    shown = plane.api("GET", f"/v1/hosts/{HOST}").json()
    assert shown["fingerprint"] == plane.agent.site.facts["fingerprint"]
    assert plane.api("GET", f"/v1/accelerators?host={HOST}").json()["accelerator"]


def test_what_is_asked_for_over_the_api_the_conductor_passes_on(plane):
    assert plane.api("POST", f"/v1/hosts/{HOST}/discovery").status == 202
    answer = plane.agent.check_in(full=False)
    assert answer.status == 202, answer.data
    (told,) = answer.json()["commands"]
    assert told["command"] == "discover"


def test_a_clock_that_runs_backwards_puts_nothing_out_of_order(plane):
    for sent_at in ("2026-01-05T12:00:00Z", "1999-01-05T12:00:00Z"):
        newest = other_facts(plane.agent.site.facts)
        assert plane.agent.check_in(facts=newest, sent_at=sent_at).status == 202
        assert plane.api("GET", f"/v1/hosts/{HOST}").json()["fingerprint"] == newest["fingerprint"]


@pytest.mark.parametrize("path", ["/v1/lookup", "/v1/hello", f"/v1/heartbeat/{HOST}", f"/heartbeat/{HOST}"])
def test_agents_find_nothing_at_a_server_that_leaves_them_to_others(plane, path):
    assert (plane.status(plane.api, "POST", path), plane.status(plane.conductor, "POST", path)) == (404, 401)


@pytest.mark.parametrize("path", ["/v1/accelerators", "/hosts", "/v1/policies", "/v1/discovery", "/openapi.json"])
def test_users_find_nothing_at_a_conductor(plane, path):
    assert plane.status(plane.conductor, "POST" if "discovery" in path else "GET", path) == 404


@pytest.mark.parametrize("query", ["limit=0", "sort=name", "marker=x", "type=driver&type=api", "status=on", "name=a"])
def test_a_parameter_of_services_that_is_wrong_is_named(plane, query):
    (wrong,) = problem(plane.api("GET", f"/v1/services?{query}"), 400).errors
    assert wrong.path == query.partition("=")[0]


def test_of_fifty_who_write_at_once_with_one_tag_one_wins(plane):
    made = plane.api("POST", "/v1/accelerators", {"name": "raced"}).headers["Location"]
    assert race(plane.api, made) == [200] + [409] * 49


def test_while_the_database_is_away_both_say_when_to_come_again_and_then_they_go_on(plane, cluster):
    def calls():
        changed = plane.agent.check_in(facts=other_facts(plane.agent.site.facts))
        return [changed, plane.conductor("GET", "/readyz"), plane.api("GET", "/readyz"), plane.api("GET", "/v1/hosts")]

    assert {answer.status for answer in calls()} == {200, 202}
    with stopped(cluster):
        refused = [problem(answer, 503) for answer in calls()]
        assert {one.detail for one in refused} == {UNAVAILABLE}
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in calls())
    assert {answer.status for answer in calls()} == {200, 202}
    for log in (plane.log("api"), plane.log("conductor")):
        assert "JournalUnavailableError" not in log, "a line says it, without a traceback"
        assert log.count("see whether the database server runs") >= 4


def test_processes_that_begin_while_the_database_is_away_say_so_and_serve_once_it_is_back(plane, cluster):
    with stopped(cluster):
        plane.api.process.send_signal(signal.SIGHUP)
        until(lambda: plane.log("api").count("Worker exiting") == 2)  # those that had begun before
        for path in ("/v1/hosts", "/readyz", "/hosts"):
            answer = plane.api("GET", path)
            assert problem(answer, 503).detail == UNAVAILABLE
            assert int(answer.headers["Retry-After"]) > 0
        assert plane.api("GET", "/healthz").status == 200
    with ThreadPoolExecutor(8) as pool:  # so that they come to both processes
        path = f"/v1/hosts/{HOST}"
        until(lambda: set(pool.map(lambda _: plane.api("GET", path).status, range(24))) == {200})
    assert plane.api.process.poll() is None
    assert "Traceback" not in plane.log("api")


def test_what_was_to_be_written_is_not_in_the_log_of_an_error_that_nobody_foresaw(plane, cluster):
    name = urlsplit(plane.database).path.strip("/")
    cluster.execute("ALTER TABLE accelerators RENAME TO hidden", name)
    try:
        problem(plane.api("POST", "/v1/accelerators", {"name": "nobody is to read this"}), 503)
    finally:
        cluster.execute("ALTER TABLE hidden RENAME TO accelerators", name)
    assert 'relation "accelerators" does not exist' in plane.log("api")
    assert "nobody is to read this" not in plane.log("api")


def test_both_tell_of_themselves(plane):
    for server in (plane.api, plane.conductor):
        assert [plane.status(server, "GET", path) for path in ("/", "/v1", "/healthz", "/readyz")] == [200] * 4
    assert plane.status(plane.conductor, "GET", "/metrics") == 401  # only its users are asked who they are
    told = plane.api("GET", "/openapi.json").json()["paths"]
    assert ("/v1/hosts" in told, "/v1/lookup" in told) == (True, False)


def test_all_that_serves_is_told_of_and_what_is_killed_is_down(plane):
    def shown():
        return {(one["type"], one["name"]): one for one in plane.api("GET", "/v1/services").json()["services"]}

    api, conductor = ("api", plane.api.url), ("conductor", plane.conductor.url)
    assert plane.agent.check_in(drivers=[{"name": "dummy", "type": "CRYPTO", "status": "READY"}]).status == 202
    wanted = {api, conductor, ("agent", "agent"), ("driver", "dummy")}
    until(lambda: {key for key, one in shown().items() if one["status"] == "up"} == wanted)
    (agents,) = plane.api("GET", "/v1/services?type=agent&host=compute-1&limit=1").json()["services"]
    assert (agents["host"], agents["status"], agents["started_at"]) == (HOST, "up", None)
    plane.conductor.process.kill()  # its gunicorn ends with it
    until(lambda: shown()[conductor]["status"] == "down")
    assert {key for key, one in shown().items() if one["status"] == "up"} == wanted - {conductor}
