"""Cycling of regularization images, against dealing them out one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasweep.plan.regularization import balance_repeats


@pytest.mark.parametrize(
    ("repeats", "wanted", "expected"),
    [
        # By hand, after kohya's rule: the first round at the folder's repeats, then 1 more each, in order.
        ([1, 1, 1], 7, [3, 2, 2]),
        ([1, 1, 1, 1], 2, [1, 1, 0, 0]),
        ([5, 5], 6, [5, 5]),
        ([5, 5], 5, [5, 0]),
        ([2, 3], 8, [4, 4]),
        ([1], 0, [0]),
        ([], 5, []),
    ],
)
def test_by_hand(repeats: list[int], wanted: int, expected: list[int]) -> None:
    assert balance_repeats(repeats, wanted) == expected


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 200))
def test_as_if_dealt_one_by_one(repeats: list[int], wanted: int) -> None:
    dealt = [0] * len(repeats)
    place = 0
    while sum(dealt) < wanted:
        index = place % len(repeats)
        dealt[index] += repeats[index] if place < len(repeats) else 1
        place += 1

    assert balance_repeats(repeats, wanted) == dealt
