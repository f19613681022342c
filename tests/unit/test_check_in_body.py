# SPDX-License-Identifier: Apache-2.0
"""Which words of agents are taken? None that the database has no room for, or would write otherwise than they are."""

import json
from datetime import UTC, datetime

import pytest

from cyborg_reconciler.conductor.check_ins import parse_check_in
from cyborg_reconciler.documents.rest.agent import CheckInBody
from cyborg_reconciler.errors import RequestInvalidError

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)

#: Each text of a check-in by its path, with one that is taken.
TEXTS = {
    ("agent_version",): "0.1.0",
    ("boot_id",): "b",
    ("fingerprint",): "f",
    ("sent_at",): "2026-01-05T12:00:00Z",
    **{("drivers", 0, name): "pci" for name in ("name", "type", "status", "endpoint")},
    ("status", 0, "address"): "0000:3b:00.0",
    ("status", 0, "driver"): "pci",
    ("usage", 0, "address"): "0000:3b:00.0",
    ("hardware", 0, "driver"): "dummy",
    ("hardware", 0, "devices", 0, "uuid"): "11111111-2222-3333-4444-555555555555",
    ("hardware", 0, "devices", 0, "address"): "dummy:0",
    ("hardware", 0, "devices", 0, "acc_specs", "device_type"): "CRYPTO",
    ("hardware", 0, "devices", 0, "acc_specs", "acc_type"): "VIRTUAL",
    ("hardware", 0, "devices", 0, "acc_specs", "vendor_id"): "8086",
    ("hardware", 0, "devices", 0, "acc_specs", "product_id"): "4940",
}


def said():
    device = {"uuid": "", "address": "", "acc_specs": {}, "acc_status": {}}
    whole = {
        "epoch": 1,
        "sequence": 1,
        "drivers": [{}],
        "status": [{"health": "Healthy"}],
        "usage": [{"metrics": {"power_watts": 1.5}}],
        "hardware": [{"driver": "", "devices": [device]}],
    }
    for path, text in TEXTS.items():
        put(whole, path, text)
    return whole


def put(tree, path, value):
    for step in path[:-1]:
        tree = tree[step]
    tree[path[-1]] = value


def take(whole):
    return CheckInBody().validate_json(json.dumps(whole).encode())


def test_all_of_it_is_taken():
    assert take(said()).hardware[0].devices[0].acc_specs.vendor_id == "8086"


@pytest.mark.parametrize("path", TEXTS, ids=str)
def test_a_text_has_no_line_end_and_no_control_character(path):
    for wrong in (f"{TEXTS[path]}\n", f"\0{TEXTS[path]}"[: len(TEXTS[path]) or 1], "\x7f"):
        whole = said()
        put(whole, path, wrong)
        with pytest.raises(RequestInvalidError):
            take(whole)


def test_a_metric_is_a_name():
    whole = said()
    whole["usage"][0]["metrics"] = {"power_watts\n": 1.5}
    with pytest.raises(RequestInvalidError):
        take(whole)


def test_there_are_no_more_of_a_kind_than_a_host_can_have():
    for name, most in (("done", 256), ("hardware", 256)):
        one = 1 if name == "done" else {"driver": "dummy", "devices": []}
        assert take({**said(), name: [one] * most})
        with pytest.raises(RequestInvalidError):
            take({**said(), name: [one] * (most + 1)})
    whole = said()
    device = whole["hardware"][0]["devices"][0]
    whole["hardware"] = [{"driver": name, "devices": [device] * number} for name, number in (("a", 1024), ("b", 1024))]
    assert parse_check_in("compute-1", take(whole), NOON)
    whole["hardware"].append({"driver": "c", "devices": [device]})
    with pytest.raises(RequestInvalidError) as refused:
        parse_check_in("compute-1", take(whole), NOON)
    assert [(one.path, one.message) for one in refused.value.problems] == [
        ("$.hardware", "has more than 2048 devices in all")
    ]


def test_a_driver_is_told_of_once_since_all_its_devices_are_told_together():
    whole = said()
    device = whole["hardware"][0]["devices"][0]
    whole["hardware"] = [
        {"driver": name, "devices": devices} for name, devices in (("a", [device]), ("b", []), ("a", []))
    ]
    with pytest.raises(RequestInvalidError) as refused:
        parse_check_in("compute-1", take(whole), NOON)
    assert [(one.path, one.message) for one in refused.value.problems] == [
        ("$.hardware[2].driver", "a is told of already")
    ]


def test_its_schema_has_patterns_as_all_readers_of_json_schema_know_them():
    schema = json.dumps(CheckInBody().json_schema())
    assert "[0-9a-f]{4}$" in schema
    assert r"\\Z" not in schema
