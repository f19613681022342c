# SPDX-License-Identifier: Apache-2.0
"""Does the bench run, and does what it writes hold what it promises? Starts it as `make bench` does, on a tiny fleet.

Nothing here looks at a time: what is measured is not tested.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import missing
from tests.perf import options, page, report

ROOT = Path(__file__).resolve().parents[2]
SIZES = (120,)

#: The run that most of these look at is made once.
pytestmark = pytest.mark.slow


def bench(*arguments, **environ):
    command = [sys.executable, "-m", "tests.perf", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environ, check=False, capture_output=True, text=True)


def drift(folder, **environ):
    """The rows of drift, once it was seen that all of them are shown."""
    output, page_ = folder / "bench.json", folder / "page.md"
    done = bench("--quick", "--rows", "drift", "--output", str(output), "--page", str(page_), **environ)
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["event to check-in accepted", "event to OutOfSync"]
    for row in rows:
        assert f"\n{row['name']} " in done.stdout
        assert f"\n| {row['name']} |" in page_.read_text(encoding="utf-8")
    return rows


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    output = ("--output", str(folder / "deeper/bench.json"), "--page", str(folder / "page.md"))
    done = bench("--quick", "--rows", "core", "--sizes", ",".join(map(str, SIZES)), *output)
    assert done.returncode == 0, done.stderr
    document = json.loads((folder / "deeper/bench.json").read_text(encoding="utf-8"))
    return done.stdout, document, (folder / "page.md").read_text(encoding="utf-8")


def rows_by_name(document):
    return {row["name"]: row for row in document["rows"]}


def test_every_row_of_the_document_is_in_the_table_and_on_the_page(run):
    printed, document, written = run
    assert len(document["rows"]) == 6 * len(SIZES)
    for row in document["rows"]:
        assert row["group"] == "core"
        assert row["cpu_s"] > 0
        assert row["memory_mb"] >= 0
        assert row["cpu_ms_per_host"] == pytest.approx(row["cpu_s"] / row["hosts"] * 1000)
        assert f"\n{row['name']} " in printed
        assert f"\n| {row['name']} |" in written


def test_a_ratio_is_that_of_two_rows_of_the_same_run(run):
    rows = rows_by_name(run[1])
    for row in rows.values():
        other = rows[row["ratio_to"]]
        assert other["hosts"] == row["hosts"]
        assert row["ratio"] == pytest.approx(row["cpu_s"] / other["cpu_s"])


def test_the_fleet_is_as_the_rows_say(run):
    changes = {name: row["detail"]["changes"] for name, row in rows_by_name(run[1]).items()}
    assert changes["120 hosts, cold"] == 2  # one in a hundred
    assert changes["120 hosts, cold, all out of sync"] == 120
    assert changes["120 hosts, survey, all kept"] == 2
    for name in ("120 hosts, warm, 1% changed", "120 hosts, warm, whole documents"):
        assert rows_by_name(run[1])[name]["detail"]["looked_at"] == 2
        assert changes[name] == 2


def test_the_document_describes_the_machine(run):
    machine = run[1]["machine"]
    assert machine["cores"] >= 1
    assert machine["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(machine["packages"]) == set(report.PACKAGES)


def test_what_cannot_be_measured_is_said(tmp_path):
    output = tmp_path / "bench.json"
    for wrong, words in (("--rows=nonsense", "invalid choice: 'nonsense'"), ("--sizes=10,0", "argument --sizes")):
        done = bench(wrong, "--output", str(output))
        assert done.returncode == 2
        assert words in done.stderr
    assert not output.exists()


def test_a_full_run_measures_what_a_quick_one_leaves_out():
    full, quick = options.parse([]), options.parse(["--quick"])
    assert set(full.sizes) - set(quick.sizes) == {100_000}
    assert full.groups == quick.groups == ("core", "facts", "apply", "api", "drift")
    assert full.rounds > quick.rounds


def test_drift_that_the_kernel_tells_of_reaches_the_api_and_is_measured(tmp_path):
    told, shown = drift(tmp_path)
    if told["note"]:
        missing("namespaces", told["note"])
    assert (told["hosts"], shown["hosts"]) == (2, 2)
    assert 0 < told["detail"]["median_s"] <= shown["detail"]["median_s"] <= shown["detail"]["worst_s"]
    assert (told["within"], type(shown["within"])) == (None, bool)


def test_where_the_kernel_cannot_be_had_tell_of_drift_the_rows_say_so(tmp_path):
    for row in drift(tmp_path, PATH="/nonexistent"):
        assert row["note"] == "not measured: unshare: No such file or directory"
        assert row["within"] is None


def test_what_was_not_measured_has_no_figures_but_says_why():
    row = report.Row(group="drift", name="soon", cpu_s=0.0, hosts=1, memory_mb=0.0, note="not measured: a | b")
    assert report.line(report.cells(row)).split() == ["soon", "not", "measured:", "a", "|", "b"]
    document = report.as_document([row], report.describe_machine(), quick=True, rounds=1)
    assert "| soon |  |  |  |  |  | not measured: a \\| b |  |" in page.page(document)


def test_a_missed_aim_is_shown_as_missed():
    row = report.Row(group="core", name="slow", cpu_s=3.0, hosts=10, memory_mb=1.0, aim="< 2 s", within=False)
    assert report.line(report.cells(row)).split() == ["slow", "3.000", "300.000", "1.0", "<", "2", "s", "missed"]
    document = report.as_document([row], report.describe_machine(), quick=True, rounds=1)
    assert "| slow | 3.00 | 300.00 | 1 |  |  | < 2 s | missed |" in page.page(document)
