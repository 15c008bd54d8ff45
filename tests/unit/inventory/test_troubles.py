# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a device, source by source: what is added, what is freed, and what all of it comes to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from devagent.inventory.troubles import Observed, observe, released, struck, total
from devagent.model.health import Condition, End, Health, State, Trouble

from .conditions import SICK, WELL, fatal, gpu


def trouble(source: str = "xid 46", state: State = State.UNHEALTHY, reason: str = "broken", **more: Any) -> Trouble:
    return replace(Trouble(source, Health(state, (reason,)), End.RESET, present=False), **more)


def seen(driver: Health | None) -> Observed:
    return Observed({"driver": driver, "link": None, "aer": None}, {}, None)


def test_of_one_source_the_worse_remains_and_begins_its_checks_anew() -> None:
    before = trouble(clean=2)
    assert struck([before], trouble(state=State.SUSPECT)) == (replace(before, clean=0),)
    assert struck([before], trouble(reason="again")) == (trouble(reason="again"),)


def test_of_many_troubles_the_worst_sixteen_are_kept() -> None:
    known: tuple[Trouble, ...] = ()
    for number in range(16):
        known = struck(known, trouble(f"xid {number}", State.SUSPECT))
    assert len(known) == 16
    kept = struck(known, trouble("xid 79", State.LOST))
    assert [each.source for each in kept] == ["xid 79", *(f"xid {number}" for number in range(15))]


def test_only_what_waits_for_one_of_these_ends_is_freed() -> None:
    waiting = trouble(clean=2, present=True)
    cleared = trouble("flapping", end=End.CLEAR, clean=1)
    assert released([waiting, cleared], End.RESET, End.RECOVERY) == (
        replace(waiting, end=End.CHECKS, clean=0, present=False),
        cleared,
    )


@pytest.mark.parametrize(
    ("present", "driver", "monitor", "is_told"),
    [
        ((False, False), None, "nvidia", True),
        ((True, False), None, "nvidia", True),
        ((True, True), None, "nvidia", False),
        ((False, False), WELL, "nvidia", False),
        ((False, False), None, None, False),
    ],
)
def test_that_nothing_watches_a_trouble_is_said_where_something_did(
    present: tuple[bool, bool], driver: Health | None, monitor: str | None, is_told: bool
) -> None:
    held = [trouble(f"xid {number}", present=each) for number, each in enumerate(present)]
    health = total(held, seen(driver), gpu(driver), monitor)
    note = ("nothing watches it now: `devagent health clear` once it is cured",)
    assert health == Health(State.UNHEALTHY, ("broken", "broken", *(note if is_told else ())))


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (None, "the driver nvidia told how it is before, and says nothing now"),
        ("NVML did not answer within 30 s", "NVML did not answer within 30 s"),
    ],
)
def test_why_nothing_is_told_any_more_is_said_as_exactly_as_it_is_known(failure: str | None, why: str) -> None:
    device = gpu(None)
    device = replace(device, claim=replace(device.claim, failure=failure))
    assert total([], seen(None), device, "nvidia") == Health(State.UNMONITORED, (why,))


def test_counters_that_are_not_shown_now_are_compared_with_those_of_before() -> None:
    old = Condition(health=SICK, counters={"aer_dev_fatal": 3})
    assert observe(gpu(), old).counters == {"aer_dev_fatal": 3}
    assert observe(gpu(files=fatal(4)), old).counters == {"aer_dev_fatal": 4, "aer_dev_nonfatal": 0}
