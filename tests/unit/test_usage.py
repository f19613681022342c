# SPDX-License-Identifier: Apache-2.0
"""What is told of devices' usage, for how long, of how many; and that it goes from one process to another."""

import threading

import msgspec
import pytest

from cyborg_reconciler.adapters.relay import BYTES, Relay, forget
from cyborg_reconciler.agent.drivers import dummy, pci
from cyborg_reconciler.conductor.usage import DEVICES, Usage
from cyborg_reconciler.documents.rest.agent import UsageTold
from cyborg_reconciler.hardware import MEASURED, MEASURES

GPU = "0000:3b:00.0"


class Clock:
    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def usage(clock):
    return Usage(lasts_s=180, most=3, clock_s=clock)


def one(address=GPU, **metrics):
    return UsageTold(address, metrics or {"temperature_celsius": 41.0})


def test_the_last_word_counts_until_its_host_falls_silent(usage, clock):
    usage.note("a", [one(temperature_celsius=41.0, utilisation_ratio=0.5)])
    usage.note("b", [one()])
    clock.s = 100
    usage.note("a", [one(temperature_celsius=43.0)])
    assert usage.tally() == {("a", GPU, "temperature_celsius"): 43.0, ("b", GPU, "temperature_celsius"): 41.0}
    clock.s = 181
    assert set(usage.tally()) == {("a", GPU, "temperature_celsius")}
    usage.note("a", [])
    assert usage.tally() == {}


def test_there_are_as_many_numbers_as_there_may_be_and_no_host_takes_what_is_the_others(usage):
    usage.note("a", [one(f"dummy:{number}") for number in range(9)])
    usage.note("b", [one(f"dummy:{number}") for number in range(2)])
    assert sorted(key[:2] for key in usage.tally()) == [("a", "dummy:0"), ("a", "dummy:1"), ("b", "dummy:0")]
    bound = Usage(180, 100_000)
    bound.note("a", [one(f"dummy:{number}", **dict.fromkeys(MEASURES, 1.0)) for number in range(1000)])
    assert len(bound.tally()) == DEVICES * len(MEASURES)


def test_no_name_is_taken_that_no_driver_of_ours_has(usage):
    numbers = {"made_up": 1.0, "link_width": float("inf"), "link_up": float("nan"), "utilisation_ratio": 0.5}
    usage.note("a", [one("made-up", **numbers), one("0000:3b:00.9"), one(f"{GPU}\n"), one(GPU, **numbers)])
    assert usage.tally() == {("a", GPU, "utilisation_ratio"): 0.5}


def test_what_drivers_of_ours_measure_are_just_these_names():
    assert {*pci.ERRORS, *pci.ATTRIBUTES, *pci.NETWORK, "temperature_celsius"} == MEASURES
    (device,) = dummy.DummyDriver(1).discover({})
    assert dummy.DummyDriver(1).usage(device).keys() <= MEASURES
    assert MEASURED.fullmatch(device.address)


def test_a_follower_hears_what_is_known_and_then_what_is_new_of_one_host_or_of_all(usage):
    usage.note("a", [one()])
    usage.note("b", [one()])
    first = usage.since(0)
    assert [msgspec.json.decode(document)["host"] for _, document in first] == ["a", "b"]
    assert usage.since(first[-1][0]) == []
    usage.note("a", [one()])
    assert [msgspec.json.decode(document)["host"] for _, document in usage.since(first[-1][0])] == ["a"]
    assert [msgspec.json.decode(document)["host"] for _, document in usage.since(0, "b")] == ["b"]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"host": "a", "at": "never", "usage": []}', b"[" * 10_000])
def test_what_is_none_of_ours_is_nothing(usage, data):
    usage.take(data)
    assert usage.tally() == {}


def test_what_one_process_was_told_the_others_hear(tmp_path):
    heard, all_heard = Usage(180, 10), threading.Event()

    def take(data):
        heard.take(data)
        all_heard.set()

    one_end, other_end = Relay(tmp_path, lambda _data: None), Relay(tmp_path, take, "other")
    (tmp_path / "relay-77.sock").touch()  # of one that was killed
    told = Usage(180, 10)
    told.relay = one_end.tell
    told.note("a", [one()])
    assert all_heard.wait(60)
    assert heard.tally() == told.tally() != {}
    one_end.tell(b"x" * (BYTES + 1))  # more than fits is nothing, and no error
    other_end.close()
    told.note("a", [one()])
    one_end.close()
    assert [path.name for path in tmp_path.iterdir()] == ["relay-77.sock"]
    forget(tmp_path, 77)
    assert not [*tmp_path.iterdir()]


def test_where_no_socket_can_be_had_that_is_said(tmp_path):
    with pytest.raises(OSError, match=r"too long|AF_UNIX"):
        Relay(tmp_path / ("x" * 200), lambda _data: None)
