# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""VF indexes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.model.ranges import format_ranges, parse_ranges


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([5], "5"), ([3, 2, 1, 0, 6, 6], "0-3,6"), ([0, 1], "0-1"), ([0, 2, 4], "0,2,4"), ([99999], "99999")],
)
def test_runs_are_written_as_ranges(numbers: list[int], text: str) -> None:
    assert format_ranges(numbers) == text


@pytest.mark.parametrize(("text", "numbers"), [("0", {0}), (" 0 - 2 , 7 ", {0, 1, 2, 7}), ("3-3,1", {1, 3})])
def test_spaces_and_order_do_not_matter(text: str, numbers: set[int]) -> None:
    assert set(parse_ranges(text)) == numbers


@pytest.mark.parametrize("text", ["", ",", "1,", "a", "-1", "1-", "1-2-3", "0x1", "100000", "\u0661", "1 2"])
def test_what_is_no_range_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no VF index and no range such as 0-7"):
        parse_ranges(text)


def test_a_range_that_runs_backwards_is_named() -> None:
    with pytest.raises(ValueError, match="the range 7-3 runs backwards"):
        parse_ranges("0, 7-3")


@given(st.frozensets(st.integers(0, 99999), min_size=1))
def test_what_is_written_is_read_back(numbers: frozenset[int]) -> None:
    assert parse_ranges(format_ranges(numbers)) == numbers


@given(st.frozensets(st.integers(0, 300), min_size=1))
def test_the_shortest_text_is_written(numbers: frozenset[int]) -> None:
    starts = sum(number - 1 not in numbers for number in numbers)
    assert format_ranges(numbers).count(",") == starts - 1
