# SPDX-License-Identifier: Apache-2.0
"""A control plane of several: a server of the API and one of agents, folders of their own, over one PostgreSQL."""

import json

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.bootstrap import open_agents
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import samples
from cyborg_reconciler.simulation.hosts import write_tree
from tests.integration.api_support import running, serving
from tests.integration.test_api_agents import Site, Speaker, look_up

pytestmark = pytest.mark.xdist_group("control_plane")

HOST = "compute-1"


class Plane:
    """Both servers, and an agent that was looked up at the conductor."""

    def __init__(self, api, site):
        self.api, self.conductor = api, site.server
        self.agent = Speaker(site, HOST, look_up(site, site.minted(HOST)).json()["token"])

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
        words = ["--auth", "none", "--agents", "elsewhere", "--workers", "1"]
        command = ["cyborg-reconciler", "conductor", "--bind", "127.0.0.1:0", "--workers", "1"]
        state = folder / "conductor"
        with (
            serving(folder / "api", *words, database=database) as api,
            running([*command, "--state", str(state)], state, database=database) as conductor,
            open_agents(Settings(state, database=database)) as operators,
        ):
            yield Plane(api, Site(conductor, state, operators, facts))


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
    (told,) = plane.agent.check_in(full=False).json()["commands"]
    assert told["command"] == "discover"


@pytest.mark.parametrize("path", ["/v1/lookup", "/v1/hello", f"/v1/heartbeat/{HOST}", f"/heartbeat/{HOST}"])
def test_agents_find_nothing_at_a_server_that_leaves_them_to_others(plane, path):
    assert (plane.status(plane.api, "POST", path), plane.status(plane.conductor, "POST", path)) == (404, 401)


@pytest.mark.parametrize("path", ["/v1/accelerators", "/hosts", "/v1/policies", "/v1/discovery", "/openapi.json"])
def test_users_find_nothing_at_a_conductor(plane, path):
    assert plane.status(plane.conductor, "POST" if "discovery" in path else "GET", path) == 404


def test_both_tell_of_themselves(plane):
    for server in (plane.api, plane.conductor):
        assert [plane.status(server, "GET", path) for path in ("/", "/v1", "/healthz", "/readyz")] == [200] * 4
    assert plane.status(plane.conductor, "GET", "/metrics") == 401  # only its users are asked who they are
    told = plane.api("GET", "/openapi.json").json()["paths"]
    assert ("/v1/hosts" in told, "/v1/lookup" in told) == (True, False)
