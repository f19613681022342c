# SPDX-License-Identifier: Apache-2.0
"""How often somebody may do something, and who counts as one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyborg_reconciler.errors import TooManyRequestsError
from cyborg_reconciler.testing import FixedClock
from cyborg_reconciler_api.rates import Buckets, Limits, site_of


def test_so_many_pass_in_a_period_and_the_next_is_told_how_long_to_wait():
    buckets = Buckets(3)
    assert [buckets.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert buckets.take("a", 0.0) == 20.0
    assert buckets.take("b", 0.0) == 0.0
    assert buckets.take("a", 10.0) == 10.0
    assert buckets.take("a", 20.0) == 0.0
    assert buckets.take("a", 20.0) > 0.0


def test_to_look_takes_nothing():
    buckets = Buckets(1)
    assert [buckets.look("a", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    buckets.take("a", 0.0)
    assert buckets.look("a", 0.0) == buckets.take("a", 0.0) == 60.0
    assert buckets.look("a", 60.0) == 0.0


def test_a_bucket_is_never_more_than_full():
    buckets = Buckets(2)
    buckets.take("a", 0.0)
    assert [buckets.take("a", 10_000.0) == 0.0 for _ in range(3)] == [True, True, False]


def test_with_a_size_of_none_nothing_is_limited_or_remembered():
    buckets = Buckets(0)
    assert not any(buckets.take("a", 0.0) for _ in range(100))
    assert not buckets._levels


def test_memory_is_bounded_and_who_was_not_seen_for_longest_begins_anew():
    buckets = Buckets(1, remembered=2)
    for key in ("a", "b", "a", "c"):
        buckets.take(key, 0.0)
    assert len(buckets._levels) == 2
    assert buckets.take("a", 0.0) > 0.0
    assert buckets.take("b", 0.0) == 0.0


@settings(max_examples=100)
@given(st.lists(st.floats(0.0, 100.0), max_size=60))
def test_whoever_asks_whenever_never_gets_more_than_a_full_bucket_and_what_ran_in(steps):
    buckets, now_s, passed = Buckets(5), 0.0, 0
    for step in steps:
        now_s += step
        passed += buckets.take("a", now_s) == 0.0
        assert passed <= 5 + now_s * 5 / 60 + 1e-6


@pytest.fixture
def limits():
    clock = FixedClock()
    return Limits(2, 3, 4, lambda: clock.now().timestamp()), clock


def test_an_address_may_fail_so_often_a_minute_and_others_have_their_own_count(limits):
    limited, clock = limits
    for _ in range(2):
        limited.check_failures("192.0.2.7")
        limited.fail("192.0.2.7")
    for refused in (limited.check_failures, limited.fail):
        with pytest.raises(TooManyRequestsError) as caught:
            refused("192.0.2.7")
        assert caught.value.retry_after_s == 30.0
    limited.fail("192.0.2.8")
    clock.move(30)
    limited.check_failures("192.0.2.7")
    limited.fail("192.0.2.7")


def test_all_addresses_of_a_network_of_version_6_are_one(limits):
    limited, _ = limits
    limited.fail("2001:db8::1")
    limited.fail("2001:db8::2")
    with pytest.raises(TooManyRequestsError):
        limited.fail("2001:db8::3")
    limited.fail("2001:db8:0:1::3")


def test_a_caller_has_so_many_requests_a_minute_and_is_named_beyond_that(limits):
    limited, clock = limits
    for _ in range(3):
        limited.call("ci")
    with pytest.raises(TooManyRequestsError, match="of ci") as caught:
        limited.call("ci")
    assert caught.value.retry_after_s == 20.0
    limited.call("other")
    clock.move(20)
    limited.call("ci")


@pytest.mark.parametrize(
    ("peer", "site"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_one_peer_is_an_address_and_of_version_6_its_network(peer, site):
    assert site_of(peer) == site
