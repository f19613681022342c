# SPDX-License-Identifier: Apache-2.0
"""What becomes of a request before its operation sees it, and of one that never reaches one?"""

import logging
from dataclasses import fields

import pytest
from falcon.testing import TestClient

from cyborg_reconciler.conductor.refusals import Refusals
from cyborg_reconciler.conductor.secrets import AGENT, ENROLMENT, USER, new_token
from cyborg_reconciler.errors import (
    JournalError,
    JournalFullError,
    JournalLockedError,
    JournalUnavailableError,
    NextStep,
    UnauthenticatedError,
)
from cyborg_reconciler.meters import REQUEST_SECONDS, REQUESTS_IN_FLIGHT
from cyborg_reconciler.testing import CountingMeter, FakeJournal, FixedClock
from cyborg_reconciler.tracing import REQUEST_ID
from cyborg_reconciler_api.app import create_app
from cyborg_reconciler_api.rates import Limits
from cyborg_reconciler_api.services import Services


def nobody(_authorization, _peer):
    raise UnauthenticatedError(found="there is no token")


def client(meter=None, open_paths=(), authenticate=nobody):
    """A client of a server that knows nobody."""
    used = {
        "authenticate": authenticate,
        "limits": Limits(0, 0),
        "refusals": Refusals(FakeJournal(), FixedClock()),
        "check_database": lambda: None,
        "meter": meter or CountingMeter(),
        "exposition": lambda: b"numbers 1\n",
        "open_paths": frozenset(open_paths),
    }
    unused = dict.fromkeys(field.name for field in fields(Services))
    return TestClient(create_app(Services(**{**unused, **used})))


def test_metrics_are_for_users_unless_the_path_is_opened():
    refused = client().simulate_get("/metrics")
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    opened = client(open_paths={"/metrics"})
    assert opened.simulate_get("/metrics").text == "numbers 1\n"
    assert opened.simulate_get("/v1/accelerators").status_code == 401


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/healthz", "/readyz", "/openapi.json", "/docs"])
def test_what_the_server_tells_of_itself_is_for_anybody(path):
    assert client().simulate_get(path).status_code == 200


def test_each_request_is_logged_and_counted_and_then_over(caplog):
    caplog.set_level(logging.INFO)
    meter = CountingMeter()
    client(meter).simulate_get("/v1/accelerators?name=card")
    assert meter.counted == {(REQUESTS_IN_FLIGHT, ()): 0}
    assert list(meter.observed) == [(REQUEST_SECONDS, ("/v1/accelerators", "GET", "401"))]
    (line,) = [record for record in caplog.records if record.name == "cyborg_reconciler_api.access"]
    assert {name: line.fields[name] for name in ("method", "path", "status")} == {
        "method": "GET",
        "path": "/v1/accelerators",
        "status": 401,
    }
    assert REQUEST_ID.get() == ""


@pytest.mark.parametrize("whose", [USER, AGENT, ENROLMENT])
def test_a_token_pasted_into_a_url_stands_in_no_log_whatever_goes_wrong(caplog, whose):
    def fail(_authorization, _peer):
        raise JournalLockedError

    caplog.set_level(logging.INFO)
    token = new_token(whose)
    for how, status in ((fail, 503), (nobody, 401)):
        path = f"/v1/accelerators/{token}"
        assert client(authenticate=how).simulate_get(path).status_code == status
    assert f"{whose}_…" in caplog.text
    assert token not in repr([(record.getMessage(), vars(record)) for record in caplog.records])


def test_what_is_wrong_with_a_request_is_said_in_a_sentence_that_can_be_read_alone():
    refused = client().simulate_get("/healthz", params={"deep": "yes"})
    assert (refused.status_code, refused.json["errors"][0]["path"]) == (400, "deep")
    assert refused.json["detail"] == "parameters: not as asked for; see the operation's schema in /openapi.json"


@pytest.mark.parametrize("error", [JournalError, JournalLockedError, JournalUnavailableError, JournalFullError])
def test_who_meets_a_database_in_trouble_is_told_to_try_again_where_that_helps_and_nothing_of_the_inside(error):
    def fail(_authorization, _peer):
        raise error(wanted="the journal postgresql://cyborg@db.internal", found="no")

    answer = client(authenticate=fail).simulate_get("/v1/accelerators")
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/unavailable")
    assert answer.json["detail"].endswith("; try again") == (error.next_step is NextStep.RETRY)
    assert "db.internal" not in answer.text
