# SPDX-License-Identifier: Apache-2.0
"""When the agent looks and when it tries again: bursts of events, pauses, epochs. Times are numbers here."""

import pytest

from cyborg_reconciler.agent.schedule import (
    AT_MOST_S,
    BOOTED_S,
    LONGEST_PAUSE_S,
    LONGEST_WAIT_S,
    QUIET_S,
    Backoff,
    Debounce,
    epoch_after_refusal,
    first_delay,
    jittered,
    next_epoch,
    parse_retry_after,
)


def test_a_burst_of_events_is_one_look_when_it_is_over():
    debounce = Debounce()
    assert debounce.due is None
    for now in (100.0, 100.2, 100.4):
        debounce.note(now)
    assert debounce.due == pytest.approx(100.4 + QUIET_S)
    debounce.clear()
    assert debounce.due is None


def test_a_burst_that_never_ends_is_looked_at_all_the_same():
    debounce = Debounce()
    for tenth in range(200):
        debounce.note(tenth / 10)
    assert debounce.due == AT_MOST_S


def test_the_pause_doubles_up_to_a_limit_and_begins_anew_after_a_success():
    backoff = Backoff()
    pauses = [backoff.pause(1.0) for _ in range(12)]
    assert pauses[:4] == [1, 2, 4, 8]
    assert max(pauses) == pauses[-1] == LONGEST_PAUSE_S
    backoff.clear()
    assert backoff.pause(0.0) == 0.5


def test_what_retry_after_asks_for_is_the_least_and_not_all_come_back_at_once():
    backoff = Backoff()
    assert backoff.pause(0.0, 120.0) == 120
    assert 120 < backoff.pause(1.0, 120.0) <= 132


def test_the_interval_is_spread_by_a_tenth():
    assert jittered(60, 0.0) == pytest.approx(54)
    assert jittered(60, 1.0) == pytest.approx(66)


def test_hosts_that_booted_together_do_not_all_speak_at_once_and_an_agent_that_was_restarted_speaks_at_once():
    assert [first_delay(BOOTED_S - 1, 30, draw) for draw in (0.0, 0.5, 1.0)] == [0, 15, 30]
    assert first_delay(BOOTED_S, 30, 1.0) == 0


@pytest.mark.parametrize(
    ("stored", "unix_s", "epoch"),
    [
        (None, 1_700_000_000.9, 1_700_000_000),
        (5, 1_700_000_000, 1_700_000_000),  # the disk was rolled back
        (1_700_000_000, 1_600_000_000, 1_700_000_001),  # the clock was set back
        (1_700_000_000, 1_700_000_000, 1_700_000_001),  # two starts within a second
    ],
)
def test_an_epoch_only_rises(stored, unix_s, epoch):
    assert next_epoch(stored, unix_s) == epoch


def test_an_epoch_that_is_refused_again_and_again_soon_passes_any_that_the_conductor_may_know():
    epoch, refusals = 1_000, 0
    known = 2_000_000_000
    while epoch <= known:
        refusals += 1
        assert refusals < 100
        epoch = epoch_after_refusal(epoch, 0.0, refusals)
    assert epoch_after_refusal(1_000, 0.0, 1) == 1_001


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120),
        ("0", 0),
        ("-5", None),
        ("99999999999999999999", LONGEST_WAIT_S),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 60),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT_S),
        ("soon", None),
        ("²", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_never_believed_for_long(text, seconds):
    assert parse_retry_after(text, 0.0) == seconds
