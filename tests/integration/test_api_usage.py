# SPDX-License-Identifier: Apache-2.0
"""How much devices are used, over real HTTP: in the metrics and in the stream of events of each process of a server."""

import json
import re

import pytest

from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.settings import Settings
from tests.integration.api_support import problem, serving, until
from tests.integration.test_api_agents import Site, Speaker, enrolled, look_up, site

__all__ = ["enrolled", "site"]


GPU = "0000:3b:00.0"
#: What the metrics make of `told(41.0)`.
AS_TOLD = {(GPU, "temperature_celsius"): 41.0, (GPU, "utilisation_ratio"): 0.25}
#: Requests after which each of the two processes will have answered one.
ENOUGH = 40


def told(celsius):
    return [{"address": GPU, "metrics": {"temperature_celsius": celsius, "utilisation_ratio": 0.25}}]


def numbers(server, host):
    """What one process tells of a host, by metric."""
    text = server("GET", "/metrics").data.decode()
    lines = re.findall(rf'cyborg_reconciler_device_usage{{address="([^"]+)",host="{host}",metric="(\w+)"}} (\S+)', text)
    return {(address, metric): float(value) for address, metric, value in lines}


def all_tell(server, host, expected):
    return all(numbers(server, host) == expected for _ in range(ENOUGH))


def follow(server, path, count):
    """The first *count* usage events of a stream."""
    headers, found = {"accept": "text/event-stream"}, []
    answer = server.pool.request("GET", server.url + path, headers=headers, preload_content=False, timeout=60)
    try:
        rest = b""
        for chunk in answer.stream(amt=None):
            *blocks, rest = (rest + chunk).split(b"\n\n")
            usage = [block.partition(b"data: ")[2] for block in blocks if block.startswith(b"event: usage\n")]
            found += [json.loads(data) for data in usage]
            if len(found) >= count:
                break
    finally:
        answer.close()
    return found


def both_answer(site):
    """Ask once, and return whether each of the two processes has answered by now: who has not begun hears nothing."""
    site.server("GET", "/healthz")
    log = site.state.with_suffix(".log").read_text(encoding="utf-8")
    return len(set(re.findall(r"\[(\d+)\] cyborg_reconciler_api\.access", log))) > 1


@pytest.fixture
def agent(site, enrolled):
    until(lambda: both_answer(site))
    agent = enrolled()
    assert agent.check_in().status == 202
    return agent


def test_what_one_process_was_told_all_of_them_tell(site, agent):
    assert agent.check_in(full=False, usage=told(41.0)).json()["durable"] is False
    until(lambda: all_tell(site.server, agent.host, AS_TOLD))
    agent.check_in(full=False, usage=told(43.5))
    until(lambda: all_tell(site.server, agent.host, AS_TOLD | {(GPU, "temperature_celsius"): 43.5}))
    agent.check_in(full=False)  # its drivers measure nothing any more
    until(lambda: all_tell(site.server, agent.host, {}))


def test_the_stream_of_events_tells_what_is_known_and_then_what_is_new(site, agent, enrolled):
    other = enrolled()
    other.check_in(usage=told(20.0))
    agent.check_in(full=False, usage=told(41.0))
    path = f"/v1/events?usage=true&host={agent.host}"
    until(lambda: all_tell(site.server, agent.host, AS_TOLD))
    (one,) = follow(site.server, path, 1)
    assert (one["host"], one["usage"]) == (agent.host, told(41.0))
    assert one["at"].endswith("Z")
    hosts = {each["host"] for each in follow(site.server, "/v1/events?usage=true", 2)}
    assert {agent.host, other.host} <= hosts


def test_nothing_of_it_is_stored_and_a_list_has_none(site, agent):
    assert agent.check_in(usage=told(77.125), boot_id="boot-77").json()["durable"]  # what is kept of it is on disk now
    kept = b"".join(path.read_bytes() for path in site.state.iterdir() if path.is_file())
    assert (b"boot-77" in kept, b"77.125" in kept) == (True, False)
    assert "usage" not in site.server("GET", "/v1/events?usage=true&limit=5").json()
    problem(site.server("GET", "/v1/events?usage=maybe"), 400)


@pytest.mark.parametrize("bad", [{"Name": 1}, {"a b": 1}, {"x": "1"}, {"x": None}, {"x" * 65: 1}])
def test_what_is_no_measure_is_refused(agent, bad):
    problem(agent.check_in(full=False, usage=[{"address": GPU, "metrics": bad}]), 400)


def test_a_host_that_falls_silent_is_not_told_of_any_more(tmp_path, site):
    state = tmp_path / "state"
    with (
        serving(state, "--auth", "none", heartbeat_interval_s=1) as server,
        open_admission(Settings(state)) as operators,
    ):
        place = Site(server, state, operators, site.facts)
        agent = Speaker(place, "brief-1", look_up(place, place.minted("brief-1"), hostname="brief-1").json()["token"])
        agent.check_in()

        def is_told():
            agent.check_in(full=False, usage=told(41.0))
            return numbers(server, "brief-1")

        until(is_told)
        until(lambda: all_tell(server, "brief-1", {}))
