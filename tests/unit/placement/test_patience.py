# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How often, and after how long, something that failed is tried again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devagent import errors
from devagent.placement.patience import Patience

Fail = Callable[[], errors.PlacementError]

UNCONNECTED: Fail = lambda: errors.PlacementUnreachable("refused")  # noqa: E731
STUMBLE: Fail = lambda: errors.PlacementUnreachable("500", status=500)  # noqa: E731
RACE: Fail = lambda: errors.PlacementConflict("409", status=409)  # noqa: E731


def calls(fail: Fail, failures: int) -> tuple[int, list[float], bool]:
    """Calls something that fails so often; gives the calls, the naps, and whether it answered in the end."""
    naps: list[float] = []
    count = 0

    def ask() -> str:
        nonlocal count
        count += 1
        if count <= failures:
            raise fail()
        return "answer"

    try:
        answered = Patience(naps.append).call(ask) == "answer"
    except errors.PlacementError:
        answered = False
    return count, naps, answered


@pytest.mark.parametrize(("fail", "tries"), [(UNCONNECTED, 3), (STUMBLE, 8), (RACE, 8)])
def test_what_may_heal_is_tried_so_often(fail: Fail, tries: int) -> None:
    for failures in range(tries):
        count, naps, answered = calls(fail, failures)
        assert (count, len(naps), answered) == (failures + 1, failures, True)
    count, naps, answered = calls(fail, 100)
    assert (count, len(naps), answered) == (tries, tries - 1, False)


@pytest.mark.parametrize(
    "error", [errors.PlacementRejected, errors.PlacementDenied, errors.PlacementNotFound, errors.RootProviderMissing]
)
def test_what_will_not_heal_is_not_tried_again(error: type[errors.PlacementError]) -> None:
    assert calls(lambda: error("no"), 1) == (1, [], False)


def test_waits_grow_spread_and_stay_short() -> None:
    many = [calls(STUMBLE, 7)[1] for _ in range(50)]
    for number in range(7):
        waits = {naps[number] for naps in many}
        assert 0 <= min(waits) <= max(waits) <= 0.05 * 2 ** (number + 1)
        assert len(waits) > 40


@pytest.mark.parametrize("asked", [7.0, 30.0])
def test_what_is_asked_to_wait_is_waited_and_a_little_more(asked: float) -> None:
    waits = {
        calls(lambda: errors.PlacementUnreachable("503", status=503, retry_after=asked), 1)[1][0] for _ in range(9)
    }
    assert all(asked <= wait <= asked + 0.1 for wait in waits)
    assert len(waits) > 5  # not all in step


@pytest.mark.parametrize("asked", [31.0, 1e9])
def test_what_asks_for_too_long_is_left_for_the_next_cycle(asked: float) -> None:
    _, naps, answered = calls(lambda: errors.PlacementUnreachable("503", status=503, retry_after=asked), 1)
    assert (naps, answered) == ([], False)
