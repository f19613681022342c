# SPDX-License-Identifier: Apache-2.0
"""How look-up, hello and check-in answer, row by row; that the token is judged first; and how often agents may call."""

import itertools
import uuid
from collections import Counter
from datetime import timedelta

import pytest

from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.limits import MAX_BODY_BYTES
from cyborg_reconciler.settings import Settings
from tests.integration.api_support import problem, serving
from tests.integration.test_api_agents import OPERATOR, Site, Speaker, enrolled, site

__all__ = ["enrolled", "site"]


SECRET = "the-rack-that-nobody-has-listed"
HELLO = {"status": "READY", "endpoint": "compute-7:1337"}
PEERS = (f"203.0.113.{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def open_site(tmp_path_factory, site):
    """A server with which hosts may register themselves, and that hears few requests."""
    folder = tmp_path_factory.mktemp("refusals")
    secret = folder / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    settings = {"enrolment_secret_file": secret, "lookups_per_min": 5, "requests_per_min": 10}
    state = folder / "state"
    server = serving(state, "--auth", "none", trusted_proxies="127.0.0.0/8", **settings)
    with server as served, open_admission(Settings(state)) as operators:
        yield Site(served, state, operators, site.facts)


def look_up(place, token, hostname, peer=None, **inventory):
    body = {"agent_version": "1", "inventory": {"hostname": hostname, **inventory}}
    said = {"authorization": f"Bearer {token}", "x_forwarded_for": peer or next(PEERS)}
    return place.server("POST", "/v1/lookup", body, **said)


def hello(place, token, body=HELLO):
    return place.server("POST", "/v1/hello", body, authorization=f"Bearer {token}")


def fresh(name):
    return f"{name}-{uuid.uuid4().hex[:8]}"


class TestLookUp:
    def test_200_the_host_that_the_inventory_is_of_and_its_token_the_first_time(self, site):
        host = fresh("row")
        answer = look_up(site, site.minted(host), f"{host}.example.com")
        assert (answer.status, answer.json()["host"], "token" in answer.json()) == (200, host, True)

    def test_201_a_new_one_where_they_may_register_which_waits_for_approval(self, open_site):
        host = fresh("row")
        answer = look_up(open_site, SECRET, host)
        assert (answer.status, answer.json()["host"]) == (201, host)
        agent = Speaker(open_site, host, answer.json()["token"])
        for refused in (hello(open_site, agent.token), agent.check_in()):
            assert "approve" in problem(refused, 403).detail
        open_site.operators.approve(OPERATOR, host)
        assert hello(open_site, agent.token).status == 200
        assert agent.check_in().status == 202

    def test_400_what_is_no_inventory_which_uses_no_token_up(self, site):
        host = fresh("row")
        minted = site.minted(host)
        for wrong in ({"macs": ["x"]}, {"macs": "52:54:00:12:34:56"}, {"colour": "red"}, {"system_uuid": 1}):
            (told,) = problem(look_up(site, minted, host, **wrong), 400).errors
            assert told.path.startswith(f"$.inventory.{next(iter(wrong))}")
        for name in ("a/b", "a b", "", "n" * 256):
            problem(look_up(site, minted, name), 400)
        assert "token" in look_up(site, minted, host).json()

    def test_401_a_credential_that_is_none_and_the_secret_where_there_is_none(self, site, open_site):
        details = {
            problem(look_up(place, token, "row-1"), 401).detail
            for place, token in ((site, "cye_wrong"), (site, SECRET), (open_site, SECRET + "x"))
        }
        assert len(details) == 1

    def test_403_the_match_is_another_host_than_the_token_is_for(self, site, enrolled):
        known = enrolled()
        problem(look_up(site, site.minted(fresh("row")), known.host), 403)

    def test_403_the_secret_for_a_host_that_is_known(self, open_site):
        host = fresh("row")
        open_site.operators.enrol(OPERATOR, host, timedelta(hours=1))
        problem(look_up(open_site, SECRET, host), 403)

    def test_404_a_valid_token_and_an_inventory_that_nobody_knows_each_alike(self, site):
        told = {
            problem(look_up(site, site.minted(fresh("row")), fresh("stranger"), macs=macs), 404).detail
            for macs in ([], ["52:54:00:cc:00:01"])
        }
        assert len(told) == 1

    def test_409_the_inventory_of_two_hosts(self, site, enrolled):
        macs = ["52:54:00:dd:00:01", "52:54:00:dd:00:02"]
        hosts = [enrolled(macs=[mac]).host for mac in macs]
        problem(look_up(site, site.minted(fresh("row")), hosts[0], macs=macs), 409)


class TestHello:
    def test_200_400_401(self, site, enrolled):
        agent = enrolled()
        assert hello(site, agent.token).json().keys() == {"host", "uuid", "heartbeat_interval"}
        problem(hello(site, agent.token, {"status": "READY"}), 400)
        problem(hello(site, "cya_wrong"), 401)


class TestHeartbeat:
    def test_404_a_host_that_there_is_not_403_one_that_is_anothers(self, enrolled):
        agent, other = enrolled(), enrolled()
        problem(agent.check_in(path="/v1/heartbeat/nowhere-1"), 404)
        problem(agent.check_in(path=f"/v1/heartbeat/{other.host}"), 403)
        problem(agent.check_in(full=False), 409)


@pytest.mark.parametrize("path", ["/v1/lookup", "/v1/hello", "/v1/heartbeat/compute-7"])
@pytest.mark.parametrize("body", [b"{", b"x" * (MAX_BODY_BYTES + 1), b"[" * 100_000])
def test_who_shows_no_token_has_nothing_parsed(site, path, body):
    for said in ({}, {"authorization": "Bearer cya_wrong"}, {"authorization": "Bearer x", "content_type": "text/x"}):
        problem(site.server("POST", path, body, **said), 401)


class TestRates:
    def test_one_agent_has_so_many_requests_and_another_has_its_own(self, open_site):
        agents = []
        for _ in range(2):
            host = fresh("busy")
            token = look_up(open_site, open_site.minted(host), host).json()["token"]
            agents.append(Speaker(open_site, host, token))
        one, other = agents
        one.check_in()
        answers = [one.check_in(full=False) for _ in range(30)]
        assert set(Counter(answer.status for answer in answers)) == {202, 429}
        last = next(answer for answer in answers if answer.status == 429)
        assert 1 <= int(last.headers["Retry-After"]) <= 6
        assert one.host in problem(last, 429).detail
        assert other.check_in().status == 202

    def test_one_address_has_so_many_look_ups_whatever_it_shows(self, open_site):
        host, peer = fresh("busy"), next(PEERS)
        answers = [look_up(open_site, open_site.minted(host), host, peer) for _ in range(20)]
        assert set(Counter(answer.status for answer in answers)) == {200, 429}
        last = next(answer for answer in answers if answer.status == 429)
        assert 1 <= int(last.headers["Retry-After"]) <= 12
        assert look_up(open_site, open_site.minted(host), host).status == 200
