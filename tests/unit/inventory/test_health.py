# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What one look says of a device: its driver's word and its PCIe link; the worst counts."""

from __future__ import annotations

import pytest

from devagent.inventory.health import driver, judge, link
from devagent.model.health import Health, State

from ..worlds import claim, function

LOST = "it does not answer on PCIe (its registers read all ones): reboot this host"


def files(width: str, most: str = "16", **more: str) -> dict[str, str]:
    return {"current_link_width": width, "max_link_width": most, **more}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (files("16"), Health(State.HEALTHY)),
        (files("8"), Health(State.SUSPECT, ("its PCIe link has 8 of 16 lanes",))),
        (files("63", "63", current_link_speed="Unknown"), Health(State.LOST, (LOST,))),
        (files("255", current_link_speed="Unknown speed"), Health(State.LOST, (LOST,))),
        (files("63", "63", power_state="D3cold"), None),  # no power: it answers when it is woken
        (files("0", "0", current_link_speed="Unknown"), None),  # in the chipset: there is no link
        (files("0"), None),
        ({"current_link_width": "8"}, None),
        ({}, None),
    ],
)
def test_a_link_says_how_it_is(attributes: dict[str, str], expected: Health | None) -> None:
    assert link(function(attributes=attributes)) == expected


def test_a_good_link_alone_says_nothing_of_the_device() -> None:
    of = function(attributes=files("16"))
    assert judge(of, claim(of)) == Health()


def test_a_driver_that_says_nothing_is_told_from_one_that_finds_it_well() -> None:
    of, well = function(), Health(State.HEALTHY)
    assert driver(claim(of)) is None
    assert driver(claim(of, health=Health())) is None
    assert driver(claim(of, health=well)) is well
    assert judge(of, claim(of, health=well)) == well


def test_the_worst_counts_with_all_reasons() -> None:
    of = function(attributes=files("8"))
    sick = claim(of, health=Health(State.UNHEALTHY, ("broken",)))
    assert judge(of, sick) == Health(State.UNHEALTHY, ("broken", "its PCIe link has 8 of 16 lanes"))
