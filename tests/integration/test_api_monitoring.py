# SPDX-License-Identifier: Apache-2.0
"""What those see who watch over a server: its log, and its numbers, which its processes count together."""

import json
import os
import re
import signal
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from cyborg_reconciler.adapters.database import open_journal, open_reader
from cyborg_reconciler.core.state import Health, Phase, Sync
from cyborg_reconciler.ports import HostRecord
from tests.integration.api_support import serving

HIDDEN = "not-to-be-seen-anywhere"
ROUTE = "/v1/accelerators/{uuid}"


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A state folder that knows of three hosts, one of which has drifted."""
    state = tmp_path_factory.mktemp("monitored") / "state"
    with open_journal(state) as journal:
        journal.histories(dict.fromkeys(("compute-1", "compute-2", "compute-3"), "a digest"))
        journal.record_verdicts({"compute-3": True})
        for number, sync in enumerate((Sync.SYNCED, Sync.SYNCED, Sync.OUT_OF_SYNC), start=1):
            name = f"compute-{number}"
            journal.record_hosts([HostRecord(name, "", 1, sync, Health.HEALTHY, Phase.IDLE)])
    return state


@pytest.fixture(scope="module")
def server(state):
    folder = state.parent / "tmp"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("TMPDIR", str(folder))
        with serving(state, "--auth", "none", log_format="json") as server:
            yield server
    assert list(folder.iterdir()) == []


def log_of(server, state):
    """What the server has logged: its lines go through a pipe, so that all that is older comes before a new one."""
    last = f"req-{uuid.uuid4()}"
    server("GET", "/healthz", x_openstack_request_id=last)
    while last not in (text := Path(f"{state}.log").read_text(encoding="utf-8")):
        os.sched_yield()
    return text


def lines_of(server, state):
    """The lines of the server's log, each of which must be an object."""
    return [json.loads(line) for line in log_of(server, state).splitlines()]


def numbers(server):
    text = server("GET", "/metrics").data.decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def requests_to(found, route, **labels):
    """How many requests to *route* were counted."""
    wanted = {f'{name}="{value}"' for name, value in {"route": route, **labels}.items()}
    name = "cyborg_reconciler_api_request_duration_seconds_count"
    return sum(value for key, value in found.items() if key.startswith(name) and all(one in key for one in wanted))


class TestLog:
    def test_every_line_is_an_object_and_gunicorns_own_are_too(self, server, state):
        server("GET", "/v1/accelerators")
        lines = lines_of(server, state)
        assert all({"time", "level", "logger", "process", "message"} <= set(line) for line in lines)
        assert {"gunicorn.error", "cyborg_reconciler_api.access"} <= {line["logger"] for line in lines}

    def test_a_request_has_its_line_with_what_became_of_it(self, server, state):
        ours = f"req-{uuid.uuid4()}"
        server("GET", f"/v1/accelerators/{uuid.uuid4()}?x=1", x_openstack_request_id=ours)
        (line,) = [line for line in lines_of(server, state) if line.get("request_id") == ours]
        assert (line["method"], line["status"], line["peer"]) == ("GET", 400, "127.0.0.1")
        assert line["path"].startswith("/v1/accelerators/")
        assert line["duration_ms"] >= 0

    def test_what_authorises_and_what_is_asked_for_in_detail_is_not_in_it(self, server, state):
        server("GET", f"/v1/accelerators?name={HIDDEN}", authorization=f"Bearer {HIDDEN}")
        server("POST", f"/v1/accelerators?x={HIDDEN}", {"name": HIDDEN, "x": 1}, authorization=f"Basic {HIDDEN}")
        assert HIDDEN not in log_of(server, state)

    def test_a_path_with_line_breaks_makes_one_line(self, server, state):
        server("GET", '/v1/x%0A{"level": "forged"}%0D%1B[2J')
        assert [line for line in lines_of(server, state) if line["level"] == "forged"] == []
        assert any("\n" in line.get("path", "") for line in lines_of(server, state))

    def test_what_was_not_foreseen_is_logged_under_its_request_and_told_nobody(self, server, state):
        ours = f"req-{uuid.uuid4()}"
        with closing(sqlite3.connect(state / "journal.db")) as database:
            database.execute("ALTER TABLE accelerators RENAME TO hidden")
            database.commit()
            refused = server("GET", "/v1/accelerators", x_openstack_request_id=ours)
            assert server("POST", "/v1/accelerators", {"name": HIDDEN}).status == 503
            database.execute("ALTER TABLE hidden RENAME TO accelerators")
            database.commit()
        assert refused.status == 503
        assert "accelerators" not in refused.json()["detail"]
        (line,) = [one for one in lines_of(server, state) if one.get("request_id") == ours and one["level"] == "ERROR"]
        assert "no such table" in line["traceback"]
        assert HIDDEN not in log_of(server, state)

    def test_the_request_stands_in_the_audit_trail_with_what_it_changed(self, server, state):
        ours = f"req-{uuid.uuid4()}"
        created = server("POST", "/v1/accelerators", {"name": f"card {ours}"}, x_openstack_request_id=ours)
        assert created.status == 201
        with open_reader(state) as journal:
            (event,) = [one for one in journal.events() if (one.data or {}).get("request_id") == ours]
        assert event.kind == "AcceleratorCreated"


class TestMetrics:
    def test_hosts_are_told_by_where_they_stand(self, server):
        found = numbers(server)
        synced = 'cyborg_reconciler_hosts{drifted="false",health="Healthy",phase="Idle",sync="Synced"}'
        drifted = 'cyborg_reconciler_hosts{drifted="true",health="Healthy",phase="Idle",sync="OutOfSync"}'
        assert (found[synced], found[drifted], found["cyborg_reconciler_database_up"]) == (2, 1, 1)

    def test_requests_are_counted_by_route_whatever_their_paths_are(self, server):
        before = requests_to(numbers(server), ROUTE, method="GET", status="404")
        paths = [f"/v1/accelerators/{uuid.uuid4()}" for _ in range(20)]
        for path in paths:
            server("GET", path)
        found = numbers(server)
        assert requests_to(found, ROUTE, method="GET", status="404") == before + 20
        assert [key for key in found for path in paths if path in key] == []

    def test_what_callers_invent_counts_as_other(self, server):
        server("INVENTED", "/v1/accelerators")
        server("GET", "/v1/invented")
        # Falcon keeps this word to itself, and answers before anything of ours has seen the request.
        refused = server("WEBSOCKET", "/v1/accelerators")
        assert (refused.status, refused.json()["request_id"]) == (400, refused.headers["X-Openstack-Request-Id"])
        found = numbers(server)
        assert requests_to(found, "/v1/accelerators", method="other") == 1
        assert requests_to(found, "other", status="404") >= 1
        assert "invented" not in "".join(found).lower()

    def test_the_request_that_asks_is_the_only_one_in_flight(self, server):
        assert numbers(server)["cyborg_reconciler_api_requests_in_flight"] == 1

    @pytest.mark.parametrize("kind", ["counter", "gauge_livesum", "histogram"])
    def test_a_worker_that_is_just_making_its_files_keeps_nothing_from_being_told(self, server, state, kind):
        (folder,) = (state.parent / "tmp").iterdir()
        (made := folder / f"{kind}_1.db").touch()  # the library opens a file first, and then gives it its size
        try:
            assert numbers(server)["cyborg_reconciler_api_requests_in_flight"] == 1
        finally:
            made.unlink()

    def test_a_worker_that_is_killed_leaves_what_it_counted_and_nothing_in_flight(self, server, state):
        booted = [line for line in lines_of(server, state) if line["message"].startswith("Booting worker")]
        victim = int(re.search(r"\d+", booted[0]["message"])[0])
        (doing,) = (state.parent / "tmp").glob(f"*/gauge_livesum_{victim}.db")
        before = requests_to(numbers(server), "/healthz")
        for _ in range(8):
            server("GET", "/healthz")
        os.kill(victim, signal.SIGKILL)
        server.pool.clear()
        while doing.exists():
            server("GET", "/readyz")
        found = numbers(server)
        assert requests_to(found, "/healthz") == before + 8
        assert found["cyborg_reconciler_api_requests_in_flight"] == 1
