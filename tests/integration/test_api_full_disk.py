# SPDX-License-Identifier: Apache-2.0
"""What agents hear while the disk under PostgreSQL is full: over real HTTP, from the server to its database's files."""

import json
import random

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.errors import JournalFullError
from cyborg_reconciler.settings import Settings
from cyborg_reconciler.simulation import samples
from cyborg_reconciler.simulation.hosts import write_tree
from tests.disks import small_database
from tests.integration.api_support import problem, serving
from tests.integration.test_api_agents import Site, Speaker, look_up, other_facts

HOST = "compute-1"


def large(facts, number):
    """The facts of a host that changed, and that take room, also when they are compressed."""
    words = [random.Random(number + place).randbytes(1000).hex() for place in range(200)]  # noqa: S311 - no secret
    return other_facts(facts, kernel={**facts["kernel"], "args_running": words})


def test_a_check_in_that_finds_no_room_is_put_off_nothing_acknowledged_is_lost_and_then_it_goes_on(cluster, tmp_path):
    write_tree(samples.demo_machines()[0], tmp_path / "host")
    facts = json.loads(json.dumps(gather(Tree(str(tmp_path / "host")), connection="local")))
    state = tmp_path / "state"
    with (
        small_database(cluster) as (url, ballast),
        serving(state, "--auth", "none", "--workers", "1", database=url) as server,
        open_admission(Settings(state, database=url)) as operators,
    ):
        site = Site(server, state, operators, facts)
        agent = Speaker(site, HOST, look_up(site, site.minted(HOST), hostname=HOST).json()["token"])

        def kept():
            return server("GET", f"/v1/hosts/{HOST}").json()["fingerprint"]

        def is_put_off(answer):
            return problem(answer, 503).detail == JournalFullError.public

        for number in range(1000):
            told = large(facts, number)
            answer = agent.check_in(facts=told)
            if answer.status != 202:
                break
            assert answer.json()["durable"] is True
            acknowledged = told
        for _ in range(3):
            assert is_put_off(answer)
            assert int(answer.headers["Retry-After"]) > 0
            answer = agent.check_in(facts=told)
        # PostgreSQL may have to write pages back before it can read others, and finds no room for those either.
        unchanged = agent.check_in(facts=acknowledged, full=False)
        assert unchanged.status == 202 or is_put_off(unchanged)
        ballast.write_bytes(b"")
        assert kept() == acknowledged["fingerprint"]
        assert agent.check_in(facts=told).status == 202
        assert kept() == told["fingerprint"]
    log = state.with_suffix(".log").read_text(encoding="utf-8")
    assert "make room where the database server keeps its files" in log
    assert "Traceback" not in log
