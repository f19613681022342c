# SPDX-License-Identifier: Apache-2.0
"""What HTTP asks of the API, whatever the operation: bodies, methods, and who may be sending. Over real HTTP."""

import re
import socket
from urllib.parse import urlsplit

import pytest
import urllib3

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


READ = [address_of(path) for path, method, _ in all_operations() if method == "GET"]


class TestMethods:
    @pytest.mark.parametrize("path", READ)
    def test_head_is_get_without_what_it_says(self, server, path):
        read, asked = server("GET", path), server("HEAD", path, accept="text/event-stream")
        assert (asked.status, asked.data) == (read.status, b"")
        for name in ("Content-Type", "ETag", "X-Content-Type-Options"):
            assert asked.headers.get(name) == read.headers.get(name)
        if path != "/metrics" and read.status == 200:  # one more request is counted there by then
            assert asked.headers["Content-Length"] == read.headers["Content-Length"]
        assert asked.headers["X-Openstack-Request-Id"]

    def test_head_answers_304_to_who_has_it_already(self, server):
        tag = server("HEAD", "/v1/drivers/virtio-crypto").headers["ETag"]
        assert server("HEAD", "/v1/drivers/virtio-crypto", if_none_match=tag).status == 304

    @pytest.mark.parametrize("method", ["FOO", "PROPFIND", "PUT", "TRACE"])
    def test_another_method_is_answered_with_those_that_there_are(self, server, method):
        answer = server(method, "/v1/accelerators")
        problem(answer, 405)
        assert {"GET", "HEAD", "POST"} <= set(answer.headers["Allow"].split(", "))
        problem(server(method, "/v1/nothing"), 404)

    @pytest.mark.parametrize("path", ["/v1/plans/bogus/approve", "/v1/runs/bogus/cancel"])
    def test_what_is_to_be_changed_and_has_no_uuid_is_not_there(self, server, path):
        problem(server("POST", path), 404)


def raw(server, sent):
    """What is answered to *sent*, whatever that is."""
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(sent)
        said = b""
        while more := connection.recv(65536):
            said += more
    head, _, body = said.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return urllib3.HTTPResponse(body, headers, int(first.split()[1]), preload_content=True)


GET = b"GET /v1/hosts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


@pytest.mark.parametrize("header", [b"SCRIPT_NAME: /x", b"SCRIPT_NAME: /v1", b"PATH_INFO: /v1/policies"])
def test_what_the_path_is_the_request_line_alone_says(server, header):
    """gunicorn would take it from a proxy on this machine, and from whoever can have one pass it on."""
    assert set(raw(server, GET + header + b"\r\n\r\n").json()) == {"hosts", "links"}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /\x1b[2J HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
        (GET.replace(b"/v1/hosts", b"/" + b"n" * 9000) + b"\r\n", 414),
        (GET + b"".join(b"X-%d: x\r\n" % number for number in range(100)) + b"\r\n", 431),
        (GET + b"Content-Length: many\r\n\r\n", 400),
        (GET + b"bad name: x\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: odd\r\n\r\n", 501),
    ],
    ids=["a line", "an escape", "a method", "a version", "too long", "too many", "a length", "a header", "a coding"],
)
def test_what_gunicorn_cannot_read_is_a_problem_as_all_others(server, sent, status):
    found = problem(raw(server, sent), status)
    assert re.fullmatch(r"req-[0-9a-f-]{36}", found.request_id)
    assert found.detail.isprintable()
