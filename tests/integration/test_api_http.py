# SPDX-License-Identifier: Apache-2.0
"""What HTTP asks of the API, whatever the operation: bodies, methods, and who may be sending. Over real HTTP."""

import re

import pytest

from cyborg_reconciler_api.app import all_operations
from tests.integration.api_support import problem, serving

NOWHERE = "00000000-0000-4000-8000-000000000000"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("http") / "state", "--auth", "none", "--workers", "1") as server:
        yield server


def address_of(path):
    """A path of the table with ids that nothing has."""
    return re.sub(r"\{(\w+)\}", lambda found: NOWHERE if found[1].endswith("uuid") else "nowhere-1", path)


WITHOUT_BODY = [
    (method, address_of(path)) for path, method, one in all_operations() if one.request is None and method != "GET"
]


class TestWhereNoBodyIsTaken:
    @pytest.mark.parametrize(
        ("body", "media_type", "status"),
        [
            (b'{"foo": 1}', "application/json", 400),
            (b"[]", "application/json", 400),
            (b"{", "application/json", 400),
            (b"x", "text/plain", 415),
            (b"{}", "application/x-www-form-urlencoded", 415),
            (b'{"a": "' + b"n" * MIB + b'"}', "application/json", 413),
        ],
        ids=["a field", "a list", "no JSON", "text", "a form", "too much"],
    )
    def test_one_that_says_anything_is_refused(self, server, body, media_type, status):
        for method, path in WITHOUT_BODY:
            found = problem(server(method, path, body, content_type=media_type), status)
            assert {one.path for one in found.errors} <= {"$", "$.foo"}

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (None, {}),
            (b"", {"content_type": "application/x-www-form-urlencoded"}),
            (b"{}", {"content_type": "application/json; charset=utf-8"}),
            (iter([b"{", b"}"]), {"content_type": "application/json"}),
            (iter([]), {}),
        ],
        ids=["none", "an empty form", "an empty block", "one in pieces", "no pieces"],
    )
    def test_one_that_says_nothing_is_taken(self, server, body, headers):
        sent = {"connection": "close", **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = server.pool.request("POST", f"{server.url}/v1/discovery", body=body, headers=sent, timeout=60)
        assert answer.status == 202


class TestWhereNobodyIsAskedWhoHeIs:
    """A page that somebody looks at on this machine has his browser send what it likes."""

    @pytest.mark.parametrize(
        "sent",
        [
            {"host": "evil.example"},
            {"host": "evil.example", "origin": "http://evil.example"},
            {"host": "127.0.0.1.evil.example:6670"},
            {"host": "192.0.2.7"},
            {"origin": "http://evil.example"},
            {"origin": "http://localhost:3000"},
            {"origin": "null"},
            {"origin": "http://[evil"},
            {"sec_fetch_site": "cross-site"},
        ],
        ids=lambda sent: " ".join(sent.values()),
    )
    def test_no_page_of_somebody_elses_is_heard(self, server, sent):
        for method, path in WITHOUT_BODY:
            problem(server(method, path, **sent), 403)
        for path in ("/v1/hosts", "/v1/accelerators"):
            problem(server("GET", path, **sent), 403)

    def test_whoever_works_on_the_machine_is_heard_and_so_is_the_servers_own_page(self, server):
        port = server.url.rpartition(":")[2]
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", "localhost", f"[::1]:{port}"):
            assert server("POST", "/v1/discovery", host=host).status == 202
            assert server("POST", "/v1/discovery", host=host, origin=f"http://{host}").status == 202
        assert server("POST", "/v1/discovery", sec_fetch_site="same-origin").status == 202
        assert server("POST", "/v1/discovery", sec_fetch_site="none").status == 202

    def test_what_the_server_tells_of_itself_anybody_may_read(self, server):
        assert server("GET", "/docs", host="evil.example", sec_fetch_site="cross-site").status == 200
