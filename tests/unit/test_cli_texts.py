# SPDX-License-Identifier: Apache-2.0
"""Texts of hosts, files and users are shown as they are, whatever stands in them."""

import json

import pytest
from rich.table import Table
from rich.text import Text

from cyborg_reconciler.cli.common import console, errors_console, put_json
from cyborg_reconciler.cli.progress import Board, shown
from cyborg_reconciler.ports import Progress
from tests.integration.console import call

#: What rich would take for an end of markup that never began, for a style, and for an emoji.
MARKUP = r"a[/bold] [red]b :end: \[/x]"


def test_nothing_in_a_text_is_markup_or_an_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(MARKUP)
    errors_console().print(MARKUP)
    assert capsys.readouterr() == (MARKUP + "\n", MARKUP + "\n")


def test_what_is_no_text_in_utf_8_is_written_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("policies/caf\udce9.yml")
    put_json({"file": "policies/caf\udce9.yml", "name": "é"})
    shown_as, _, in_json = capsys.readouterr().out.partition("\n")
    assert shown_as == "policies/caf\N{REPLACEMENT CHARACTER}.yml"
    assert "é" in in_json
    assert json.loads(in_json) == {"file": "policies/caf\udce9.yml", "name": "é"}


def test_hosts_and_steps_of_a_run_are_named_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board()
    event = Progress("[/host]", "task [/x] :end:", "failed", MARKUP)
    board.note(event)
    console().print(board)
    heading, row, _ = capsys.readouterr().out.splitlines()
    assert heading.split() == ["host", "task", "[/x]", ":end:"]
    assert row.split() == ["[/host]", "FAILED"]
    with shown(errors_console()) as on_progress:
        on_progress(event)
    assert capsys.readouterr().err == f"[/host]: task [/x] :end:: FAILED: {MARKUP}\n"


def test_an_error_shows_what_was_typed_as_it_was_typed(tmp_path) -> None:
    answer = call("plan", "-i", "x,", "-p", MARKUP, "--state", tmp_path / "state")
    assert answer.code == 1
    assert MARKUP in answer.last_error


def test_no_text_gives_the_terminal_an_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Colours, titles, the clipboard: ESC begins such an order, and so does CSI of C1; CR hides what came before."""
    text = "a\x1b[31mred\x1b]0;title\x07 b\x9b2Jc\x7fd\re\tf\ng"
    console().print(text)
    console().print(Text(text), style="red")
    table = Table(box=None)
    table.add_column("\x1b[2J")
    table.add_row(Text("\x1b[1A"))
    console().print(table)
    said = capsys.readouterr().out
    assert not {character for character in said if not character.isprintable()} - {"\n", "\t"}
    assert said.count("\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}]0;title") == 2
    assert said.splitlines()[1].startswith("g")
