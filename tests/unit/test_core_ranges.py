# SPDX-License-Identifier: Apache-2.0
"""Ranges of VF indexes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyborg_reconciler.core import ranges


@pytest.mark.parametrize(
    ("text", "count", "indexes"),
    [("0-3", 8, [0, 1, 2, 3]), ("5", 8, [5]), ("*", 2, [0, 1]), ("2-*", 4, [2, 3]), ("4-*", 2, []), ("6-7", 2, [6, 7])],
)
def test_a_range_has_the_indexes_that_it_says(text: str, count: int, indexes: list[int]) -> None:
    assert list(ranges.expand(text, count)) == indexes
    assert all(ranges.within(text, index) for index in indexes)


@pytest.mark.parametrize("text", ["", "-", "1-x", "*", "one", "1-2-3", "-1", "0-99999999999"])
def test_what_a_record_cannot_have_as_a_range_is_none(text: str) -> None:
    assert not ranges.is_range(text)


@settings(max_examples=100)
@given(st.dictionaries(st.integers(0, 20), st.sampled_from(["a", "b"])))
def test_what_is_compressed_expands_to_itself(values: dict[int, str]) -> None:
    found = [(index, value) for text, value in ranges.compress(values) for index in ranges.expand(text, 0)]
    assert found == sorted(values.items())
    assert all(ranges.is_range(text) for text, _ in ranges.compress(values))
