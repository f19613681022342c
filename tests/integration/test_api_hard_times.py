# SPDX-License-Identifier: Apache-2.0
"""A server whose clients send what nobody wants, over connections that are kept; and whose disk is full."""

import json
import os
import socket
import uuid
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from cyborg_reconciler.errors import JournalFullError
from tests.disks import small_disk
from tests.integration.api_support import problem, serving, until

#: What a body has in it that must be taken for no request.
SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    with small_disk(tmp_path_factory.mktemp("hard") / "disk", "16m") as disk:
        yield disk


@pytest.fixture(scope="module")
def server(disk, tmp_path_factory):
    logs = tmp_path_factory.mktemp("logs")
    (disk / "state.log").symlink_to(logs / "log")
    with serving(disk / "state", "--auth", "none", "--workers", "1", TMPDIR=logs) as server:
        yield server


@pytest.fixture
def log(disk):
    return (disk / "state.log").read_text


def request(method, path, *headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode()


def sized(body):
    return request("POST", "/v1/accelerators", f"Content-Length: {len(body)}") + body


def in_pieces(body, end=b"0\r\n\r\n"):
    """The same without saying how long it is."""
    pieces = [body[start : start + MIB // 8] for start in range(0, len(body), MIB // 8)]
    head = request("POST", "/v1/accelerators", "Transfer-Encoding: chunked")
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def answers(server, *requests):
    """The statuses that come over one connection until the server closes it, or has answered all of *requests*."""
    place, found, rest = urlsplit(server.url), [], b""
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        for one in requests:
            with suppress(ConnectionError):
                connection.sendall(one)
            with suppress(ConnectionError):
                while (answer := take(rest)) is None and (more := connection.recv(MIB)):
                    rest += more
            if answer is None:
                break
            status, rest = answer
            found.append(status)
        assert rest == b""
    return found


def take(data):
    """The status of the first answer in *data*, and what comes after it; None: it has not come in full."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = int(headers[b"content-length"])
    return (int(head.split()[1]), body[length:]) if len(body) >= length else None


def is_smuggled(server, log):
    """Whether a body was taken for a request, as the log says once it tells of what was asked later."""
    later = f"/v1/{uuid.uuid4()}"
    assert answers(server, request("GET", later)) == [404]
    until(lambda: later in log())
    return "smuggled" in log()


NEXT = request("GET", "/healthz")
NAMED = json.dumps({"name": "came in pieces"}).encode()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (sized(SMUGGLED * (2 * MIB // len(SMUGGLED))), 413),
        (in_pieces(SMUGGLED * (2 * MIB // len(SMUGGLED))), 413),
        (in_pieces(NAMED), 201),
        (in_pieces(SMUGGLED), 400),
        (request("POST", "/v1/nothing", f"Content-Length: {len(SMUGGLED) * 9000}") + SMUGGLED * 9000, 404),
        (request("PUT", "/v1/accelerators", f"Content-Length: {len(SMUGGLED) * 9000}") + SMUGGLED * 9000, 405),
        (request("GET", "/healthz", f"Content-Length: {len(SMUGGLED)}") + SMUGGLED, 200),
    ],
    ids=[
        "too large",
        "too large, in pieces",
        "in pieces",
        "no JSON",
        "no such path",
        "no such method",
        "no body taken",
    ],
)
def test_who_sends_what_is_refused_hears_why_and_is_served_on_over_the_same_connection(server, log, sent, status):
    assert answers(server, sent, NEXT) == [status, 200]
    assert not is_smuggled(server, log)


@pytest.mark.parametrize(
    "sent",
    [
        sized(SMUGGLED * (9 * MIB // len(SMUGGLED))),
        in_pieces(NAMED, end=b"no number\r\n" + SMUGGLED),
        request("GET", "/healthz", f"Content-Length: {len(SMUGGLED) * 3000}") + SMUGGLED * 3000,
    ],
    ids=["much too large", "pieces that are none", "large where none is taken"],
)
def test_a_connection_on_which_nobody_knows_where_the_next_request_begins_is_closed(server, log, sent):
    assert answers(server, sent, NEXT) in ([], [413], [400], [200])
    assert answers(server, NEXT) == [200]
    assert not is_smuggled(server, log)
    assert "Traceback" not in log()


def test_what_is_asked_for_stands_in_the_log(server, log):
    assert answers(server, SMUGGLED.replace(b"smuggled", b"in-the-open")) == [404]
    until(lambda: "/v1/in-the-open" in log())


def test_while_the_disk_is_full_that_is_said_in_a_line_and_then_it_goes_on(server, disk, log):
    assert server("GET", "/readyz").status == 200  # it has begun: what cannot open its database does not
    filler = disk / "filler"
    body = {"name": "n" * 200, "acc_specs": {"acc_capability": {"text": "x" * 200_000}}}
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    assert os.statvfs(disk).f_bavail == 0
    before = log().count("\n")
    refused = [server("POST", "/v1/accelerators", body) for _ in range(3)]
    assert {problem(one, 503).detail for one in refused} == {JournalFullError.public}
    assert all(int(one.headers["Retry-After"]) > 0 for one in refused)
    assert server("GET", "/v1/accelerators").status == 200
    told = [line for line in log().splitlines()[before:] if "POST /v1/accelerators: " in line]
    assert len(told) == 3
    assert "make room" in told[0]
    assert "Traceback" not in log()
    filler.unlink()
    assert server("POST", "/v1/accelerators", body).status == 201
