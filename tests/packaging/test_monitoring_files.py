# SPDX-License-Identifier: Apache-2.0
"""Do the dashboard and the alert rules ask for numbers that there are? By the table of metrics."""

import json
import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import yaml

from cyborg_reconciler.core.state import Health, Phase, Sync
from cyborg_reconciler.meters import COUNTED, HEARD, TALLIED
from tests.needs import missing

OPERATIONS = Path(__file__).parents[2] / "docs/operations"
RULES = [
    rule
    for group in yaml.safe_load((OPERATIONS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
BOARD = json.loads((OPERATIONS / "grafana-dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    **{f"alert {rule['alert']}": rule["expr"] for rule in RULES},
    **{f"panel {panel['title']}": target["expr"] for panel in PANELS for target in panel["targets"]},
}

METRICS = {metric.name: metric for metric in (*COUNTED, *TALLIED, *HEARD)}
#: What Prometheus makes of a histogram, beside its name.
SERIES = ("_bucket", "_count", "_sum")
#: Labels that Prometheus gives.
GIVEN = {"job", "instance", "le"}
PROMTOOL = shutil.which("promtool")
MISSING = "Prometheus' own tool is not here: it is in Debian's package prometheus"
#: Which values labels have, of those whose values are words of ours.
VALUES = {"phase": set(Phase), "sync": set(Sync), "health": set(Health), "drifted": {"true", "false"}}


def metric_of(name):
    """The metric that a series is of."""
    for suffix in SERIES:
        if name.endswith(suffix) and METRICS.get(name.removesuffix(suffix), COUNTED[1]).kind == "histogram":
            return METRICS[name.removesuffix(suffix)]
    return METRICS[name]


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_what_is_asked_for_is_there_with_its_labels(expression):
    asked = re.findall(r"(cyborg_reconciler_\w+)(?:{([^}]*)})?", expression)
    assert asked or "up{" in expression
    known = {*GIVEN, *chain.from_iterable(metric_of(name).labels for name, _ in asked)}
    for name, matchers in asked:
        for label, operator, value in re.findall(r'(\w+)(=~|=|!=)"([^"]*)"', matchers):
            assert label in {*metric_of(name).labels, *GIVEN}
            assert operator == "=~" or label not in VALUES or value in VALUES[label]
    by = re.findall(r"by \(([^)]*)\)", expression)
    assert {label for labels in by for label in labels.split(", ")} <= known
    assert expression.count("(") == expression.count(")")


def test_a_number_of_the_fleet_is_not_added_up_over_servers():
    """Each server tells the same: a sum of what was not made one before would count the fleet once for each."""
    fleet = "|".join(metric.name for metric in TALLIED)
    for expression in EXPRESSIONS.values():
        of_each = expression.replace("rate(", "(")  # how fast each server's tells that it rises
        for found in re.finditer(rf"(\w+)(?: by \([^)]*\))? ?\(+(?:{fleet})\b", of_each):
            assert found[1] in {"max", "min", "absent"}, expression


def test_every_metric_is_shown_on_the_dashboard():
    shown = {metric_of(name).name for one in EXPRESSIONS.values() for name in re.findall(r"cyborg_reconciler_\w+", one)}
    assert shown == set(METRICS)


def test_alerts_are_raised_when_they_should_be():
    """By stories of what is told when, as Prometheus' own tool tells them."""
    if not PROMTOOL:
        missing("promtool", MISSING)
    stories = Path(__file__).with_name("alert_rules.yml")
    done = subprocess.run([str(PROMTOOL), "test", "rules", stories], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_say_how_bad_it_is_and_what_to_do():
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[mh]", rule["for"])


def test_panels_have_their_own_numbers_and_places():
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    taken = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        assert cells.isdisjoint(taken), panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
