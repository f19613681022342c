# SPDX-License-Identifier: Apache-2.0
"""What the server tells of itself, over real HTTP: versions, probes, OpenAPI, and the page for people."""

import re
import sqlite3
from contextlib import closing
from html.parser import HTMLParser

import pytest
import schemathesis

from cyborg_reconciler.documents.rest.base import Problem
from cyborg_reconciler.documents.rest.root import OneVersion, Versions
from tests.integration.api_support import serving


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("described") / "state"


@pytest.fixture(scope="module")
def server(state):
    with serving(state, "--auth", "none", "--workers", "1") as server:
        yield server


class TestVersions:
    def test_all_are_told_at_the_root_and_each_where_it_stands(self, server):
        told = Versions.model_validate(server("GET", "/").json())
        (first,) = told.versions
        assert (first.id, first.status) == ("v1.0", "CURRENT")
        links = {link.rel: link.href for link in first.links}
        assert links == {"self": "/v1/", "collection": "/"}
        for path in (links["self"], "/v1"):
            assert OneVersion.model_validate(server("GET", path).json()).version == first


class TestProbes:
    def test_a_server_that_works_says_so(self, server):
        assert server("GET", "/healthz").json() == {"status": "alive"}
        assert server("GET", "/readyz").json() == {"status": "ready"}

    def test_one_whose_database_cannot_be_used_lives_and_is_not_ready(self, server, state):
        with closing(sqlite3.connect(state / "journal.db")) as database:
            (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
            database.execute("UPDATE alembic_version SET version_num = 'v9999'")
            database.commit()
            refused = server("GET", "/readyz")
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) > 0
            assert "database could not be used" in Problem.model_validate(refused.json()).detail
            assert str(state) not in refused.data.decode()
            assert server("GET", "/healthz").status == 200
            database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
            database.commit()
        assert server("GET", "/readyz").status == 200


class TestOpenApi:
    def test_it_is_served_as_it_is_valid(self, server):
        answer = server("GET", "/openapi.json")
        assert answer.headers["Content-Type"] == "application/json"
        described = answer.json()
        schemathesis.openapi.from_dict(described).validate()
        assert {"/v1/accelerators", "/v1/accelerators/{uuid}", "/openapi.json"} <= set(described["paths"])

    @pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
    def test_who_has_it_already_is_told_so(self, server, path):
        tag = server("GET", path).headers["ETag"]
        for given in (tag, f'W/{tag}, "another"', "*"):
            again = server("GET", path, if_none_match=given)
            assert (again.status, again.data, again.headers["ETag"]) == (304, b"", tag)
        assert server("GET", path, if_none_match='"another"').status == 200


class Page(HTMLParser):
    """What a page has: its tags with their attributes, and its style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.style, self._inside = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = tag

    def handle_data(self, data):
        if self._inside == "style":
            self.style += data

    def values(self, attribute):
        return [given[attribute] for _, given in self.tags if attribute in given]


@pytest.fixture(scope="module")
def answer(server):
    """The page for people."""
    return server("GET", "/docs")


class TestPage:
    def test_it_needs_no_other_host_and_runs_nothing(self, answer):
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        page = Page(answer.data.decode())
        assert {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "form"} == set()
        assert "//" not in page.style.replace("/*", "").replace("*/", "")
        assert all(link.startswith("#") or link == "openapi.json" for link in page.values("href"))
        assert [name for _, given in page.tags for name in given if name.startswith("on") or name == "style"] == []

    def test_a_browser_is_told_to_let_it_do_nothing_but_use_its_style_sheet(self, answer):
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert re.search(r"style-src 'sha256-[\w+/=]+'$", policy)

    def test_every_link_on_it_leads_to_one_place(self, answer):
        page = Page(answer.data.decode())
        anchors = page.values("id")
        assert len(anchors) == len(set(anchors))
        assert {link[1:] for link in page.values("href") if link.startswith("#")} <= set(anchors)

    def test_it_tells_every_operation(self, server, answer):
        text = answer.data.decode()
        for methods in server("GET", "/openapi.json").json()["paths"].values():
            for told in methods.values():
                assert f">{told['summary']}</a></h3>" in text
