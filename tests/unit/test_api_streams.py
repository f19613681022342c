# SPDX-License-Identifier: Apache-2.0
"""What a stream of events promises: what is new, in order, from where one was, for half a minute, to few at a time."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.stores.pages import Page, PageQuery
from cyborg_reconciler_api.streams import BusyError, Streams


class Trail:
    """An audit trail in memory: kinds, numbered from 1. When broken, it cannot be read."""

    def __init__(self, *kinds):
        self.kinds, self.broken, self.up_to, self.asked = list(kinds), False, 0, set()

    def newest(self):
        self.asked.add(threading.current_thread().name)
        if self.broken:
            raise JournalError(wanted="the journal", found="it is locked")
        return len(self.kinds)

    def forgotten(self):
        return self.up_to

    def page(self, wanted: PageQuery) -> Page:
        after = int(wanted.marker)
        found = [
            (number, kind)
            for number, kind in enumerate(self.kinds, 1)
            if number > after and wanted.equal.get("kind") in {None, kind}
        ]
        shown = found[: wanted.limit]
        documents = [json.dumps({"number": number, "kind": kind}) for number, kind in shown]
        return Page(documents, str(shown[-1][0]) if shown else "", len(found) > len(shown))


def told(stream):
    """What a stream tells until it ends: the numbers and kinds of its events."""
    blocks = [piece for piece in stream if piece.startswith(b"id: ")]
    events = [msgspec.json.decode(block.split(b"data: ")[1]) for block in blocks]
    assert all(f"id: {event['number']}\n" in block.decode() for event, block in zip(events, blocks, strict=True))
    stream.close()
    return [(event["number"], event["kind"]) for event in events]


def test_it_resumes_after_the_number_that_is_known_and_ends_when_its_time_is_up():
    streams = Streams(Trail("a", "b", "c"), most=1, lifetime_s=0)
    stream = streams.open(PageQuery(), 1)
    assert told(stream) == [(2, "b"), (3, "c")]
    assert next(stream, None) is None


@pytest.mark.parametrize(("after", "is_told"), [(-1, False), (0, False), (1, True), (2, False)])
def test_who_goes_on_from_before_what_is_forgotten_is_told_so_first(after, is_told):
    trail = Trail("a", "b", "c")
    trail.up_to = 2
    stream = Streams(trail, most=1, lifetime_s=0).open(PageQuery(), after)
    next(stream)
    pieces = list(stream)
    assert (pieces[:1] == [b'event: forgotten\ndata: {"up_to":2}\n\n']) is is_told


def test_without_a_number_it_begins_with_what_happens_from_now_on():
    trail = Trail("before")
    stream = Streams(trail, most=1, lifetime_s=0).open(PageQuery(), -1)
    trail.kinds.append("after")
    assert told(stream) == [(2, "after")]


def test_what_is_not_wanted_is_passed_over_and_not_read_again():
    stream = Streams(Trail(*"abababab"), most=1, lifetime_s=0).open(PageQuery(equal={"kind": "b"}), 0)
    assert told(stream) == [(2, "b"), (4, "b"), (6, "b"), (8, "b")]
    nothing = Streams(Trail(*"aaaa"), most=1, lifetime_s=0).open(PageQuery(equal={"kind": "b"}), 0)
    assert told(nothing) == []
    assert nothing.after == 4


def test_more_than_is_read_at_once_comes_in_several_reads():
    stream = Streams(Trail(*["a"] * 1000), most=1, lifetime_s=0).open(PageQuery(), 0)
    assert [number for number, _ in told(stream)] == list(range(1, 1001))


def test_a_number_that_is_yet_to_come_waits_for_it_and_disturbs_nobody():
    trail = Trail("a")
    streams = Streams(trail, most=2, lifetime_s=0, heartbeat_s=0)
    assert told(streams.open(PageQuery(), 10**15)) == []
    assert not streams.wait_beyond(1, 0)


def test_while_nothing_happens_there_are_signs_of_life():
    stream = Streams(Trail(), most=1, lifetime_s=60, heartbeat_s=0).open(PageQuery(), -1)
    assert [next(stream) for _ in range(3)][1:] == [b": still here\n\n"] * 2
    stream.close()


def test_what_happens_meanwhile_wakes_those_who_wait():
    trail = Trail()
    streams = Streams(trail, most=1, lifetime_s=60, heartbeat_s=60)
    stream = streams.open(PageQuery(), -1)
    next(stream)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, stream)
        trail.kinds.append("a")
        assert b'"kind": "a"' in waiting.result(timeout=60)
    stream.close()


def test_there_are_only_so_many_and_one_that_is_closed_makes_room():
    streams = Streams(Trail(), most=2)
    first, second = streams.open(PageQuery(), -1), streams.open(PageQuery(), -1)
    with pytest.raises(BusyError):
        streams.open(PageQuery(), -1)
    first.close()
    first.close()
    third = streams.open(PageQuery(), -1)
    with pytest.raises(BusyError):
        streams.open(PageQuery(), -1)
    second.close()
    third.close()


def test_one_that_has_begun_ends_when_the_database_goes_away():
    trail = Trail("a")
    stream = Streams(trail, most=1, lifetime_s=60).open(PageQuery(), 0)
    next(stream)
    trail.broken = True
    assert list(stream) == []


def test_while_nothing_happens_no_stream_asks_the_database_itself():
    trail = Trail("a")
    stream = Streams(trail, most=1, lifetime_s=60, heartbeat_s=0).open(PageQuery(), -1)
    assert [next(stream) for _ in range(2)][1] == b": still here\n\n"
    trail.asked.discard(threading.current_thread().name)
    assert [next(stream) for _ in range(100)] == [b": still here\n\n"] * 100
    assert trail.asked <= {"events"}
    stream.close()


def test_one_that_waits_ends_when_the_database_goes_away():
    trail = Trail("a")
    stream = Streams(trail, most=1, lifetime_s=3600, heartbeat_s=3600).open(PageQuery(), 0)
    assert [next(stream) for _ in range(2)][1].startswith(b"id: 1\n")
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, stream)
        trail.broken = True
        assert rest.result(timeout=60) == []
    stream.close()


def test_none_is_opened_while_the_database_is_away():
    trail = Trail("a")
    trail.broken = True
    streams = Streams(trail, most=1, lifetime_s=0)
    with pytest.raises(JournalError):
        streams.open(PageQuery(), -1)
    trail.broken = False
    assert told(streams.open(PageQuery(), 0)) == [(1, "a")]
