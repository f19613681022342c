# SPDX-License-Identifier: Apache-2.0
"""Is the page of the internal API true? Its table against the routes that are served, and its samples.

A party that comes to serve some of it is compared by a line in `SERVED`.
"""

import json
import re
from pathlib import Path

import pytest

from cyborg_reconciler.agent import internal
from cyborg_reconciler_api import openapi
from cyborg_reconciler_api.operation import operations_of
from cyborg_reconciler_api.routes import ROUTES

PAGE = (Path(__file__).parents[2] / "docs/reference/internal-api.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+) (\S+)` \| (\w+) \| (\w+) \| ([\d, ]+) \| ([\d, ]+) \|$", re.MULTILINE)

#: Where a path has no such method that is so of every path, and told once.
OF_EVERY_PATH = {405}


def documented(party):
    """What the page says that *party* serves: each call, with its statuses."""
    return {
        (method, path): {int(status) for status in f"{well}, {otherwise}".split(", ")}
        for method, path, served_by, _, well, otherwise in ROW.findall(PAGE)
        if served_by == party
    }


def of_conductor():
    """What agents have of the REST API."""
    return {
        (method, path): {*openapi.successes(method, one), *openapi.causes(path, method, one)} - OF_EVERY_PATH
        for path, method, one in operations_of(ROUTES)
        if one.access == "agent"
    }


def of_agent():
    """What the agent's own table of routes has."""
    return {(route.method, route.path): {route.success, *route.causes} for route in internal.ROUTES}


#: Who serves what. Drivers outside of the agent are written by others.
SERVED = {"conductor": of_conductor, "agent": of_agent}


@pytest.mark.parametrize("party", SERVED)
def test_the_page_has_what_is_served_with_its_statuses_and_nothing_else(party):
    assert documented(party) == SERVED[party]()


def test_every_row_of_the_table_is_read():
    table = [line for line in PAGE.splitlines() if line.startswith("| `") and "/" in line]
    assert len(ROW.findall(PAGE)) == len(table) == 10


def test_samples_that_the_conductor_is_sent_are_what_it_takes():
    """Each block of JSON below a heading that names a call of the conductor's is a body or an answer of it."""
    for title, path in (("Look-up", "/v1/lookup"), ("Hello", "/v1/hello"), ("Check-in", "/v1/heartbeat/{host}")):
        section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
        sent, *answered = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
        one = ROUTES[path]["POST"]
        one.request.validate_json(sent.encode())
        for answer in answered:
            one.answer.model_validate_json(answer)


def test_all_samples_are_json():
    for sample in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL):
        json.loads(sample)
