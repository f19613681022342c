# SPDX-License-Identifier: Apache-2.0
"""`token`: what an operator types to let users of the API in, and what he is shown."""

from datetime import timedelta

import pytest

from cyborg_reconciler.adapters.database import open_reader
from cyborg_reconciler.conductor.credentials import TOKEN
from cyborg_reconciler.testing import FixedClock
from tests.integration.api_support import make_token
from tests.integration.console import call


@pytest.fixture
def token(tmp_path):
    """Runs a command about tokens on a state folder of its own."""
    return lambda *words: call("token", *words, "--state", tmp_path / "state")


def test_the_token_alone_is_the_output_and_what_is_said_of_it_is_not(token):
    made = token("create", "ci", "--role", "member", "--project", "5f1c", "--expires", "90d")
    assert (made.code, made.output.count("\n")) == (0, 1)
    assert TOKEN.fullmatch(made.output.strip())
    assert "ci is member until " in made.errors
    assert made.output.strip() not in made.errors
    in_json = token("create", "grafana", "--role", "reader", "--output", "json")
    assert in_json.errors == ""
    assert TOKEN.fullmatch(in_json.data["token"])
    assert (in_json.data["name"], in_json.data["status"], in_json.data["expires_at"]) == ("grafana", "valid", None)


def test_the_list_has_everything_but_the_tokens(token, tmp_path):
    secret = token("create", "ci", "--role", "member", "--project", "5f1c", "--expires", "90d").output.strip()
    make_token(tmp_path / "state", "old", "admin", timedelta(days=1), FixedClock())
    token("create", "gone", "--role", "reader")
    assert token("revoke", "gone").output == "gone is revoked; servers that run heed it within 5 s\n"
    shown, listed = token("list"), token("list", "-o", "json").data
    assert [(one["name"], one["role"], one["project_id"], one["status"]) for one in listed] == [
        ("ci", "member", "5f1c", "valid"),
        ("gone", "reader", None, "revoked"),
        ("old", "admin", "project-old", "expired"),
    ]
    assert set(listed[0]) == {
        *("name", "role", "project_id", "status", "created_at", "expires_at", "last_used_at", "revoked_at")
    }
    assert [line.split()[:2] for line in shown.output.splitlines()][1:] == [
        ["ci", "member"],
        ["gone", "reader"],
        ["old", "admin"],
    ]
    assert secret not in shown.output
    assert secret.partition("_")[2][:8] not in shown.output


def test_what_cannot_be_done_is_said_in_one_line(token):
    assert "there is none" in token("list").last_error
    token("create", "ci", "--role", "reader")
    assert "another name" in token("create", "ci", "--role", "admin").last_error
    assert "there is none; see `token list`" in token("revoke", "nobody").last_error
    token("revoke", "ci")
    assert "revoked already" in token("revoke", "ci").last_error
    assert "another name" in token("create", "ci", "--role", "admin").last_error


@pytest.mark.parametrize(
    "words",
    [
        ("create", "ci"),
        ("create", "ci", "--role", "root"),
        ("create", "two words", "--role", "reader"),
        ("create", "local", "--role", "reader"),
        ("create", "\x1b[2J", "--role", "reader"),
        ("create", "ci", "--role", "reader", "--project", "a b"),
        ("create", "ci", "--role", "reader", "--expires", "0d"),
        ("create", "ci", "--role", "reader", "--expires", "soon"),
        ("create", "ci", "--role", "reader", "--expires", "9999999d"),
        ("revoke",),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_way_to_help(token, words, tmp_path):
    answer = token(*words)
    assert answer.code == 1
    assert "--help`" in answer.last_error
    assert "\x1b" not in answer.errors
    assert not (tmp_path / "state").exists()


def test_without_a_command_one_is_asked_for():
    assert "see `cyborg-reconciler token --help`" in call("token").last_error


def test_the_audit_trail_has_who_made_and_revoked_them(token, tmp_path):
    token("create", "ci", "--role", "member")
    token("revoke", "ci")
    with open_reader(tmp_path / "state") as journal:
        revoked, made = journal.events()
    assert (made.kind, revoked.kind) == ("TokenCreated", "TokenRevoked")
    assert made.data["after"] == {"token": "ci", "role": "member", "project_id": None, "expires_at": None}
    assert made.data["by"] == revoked.data["by"]
    assert {"token": "ci"}.items() <= revoked.data.items()
