# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the log is told of the devices: each thing once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from devagent.discovery import Discovery
from devagent.inventory.build import Nest
from devagent.model.device import Device
from devagent.model.health import Health, State
from devagent.model.snapshot import HostFacts, Problem
from devagent.service import news
from devagent.service.facts import Refused, Seen
from devagent.view import Look

from ..worlds import function, managed

GPU = managed(function())
Told = Callable[[Seen | None, Seen], list[str]]


def seen(*devices: Device, problems: tuple[Problem, ...] = (), refused: tuple[Refused, ...] = ()) -> Seen:
    view = Look(Discovery(HostFacts(), devices, problems), "h", Nest.NUMA)
    return Seen(view, 0.0, 0.0, True, refused=refused)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    def tell(before: Seen | None, after: Seen) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            news.log(before, after)
        return [f"{record.levelname} {getattr(record, 'device', '-')} {record.message}" for record in caplog.records]

    return tell


def test_the_first_look_is_one_line(told: Told) -> None:
    assert told(None, seen(GPU)) == ["INFO - the host has 1 device; given are 1"]


def test_nothing_new_is_nothing_said(told: Told) -> None:
    sick = replace(GPU, health=Health(State.UNHEALTHY, ("XID 79",)))
    known = seen(sick, problems=(Problem("nvml", GPU.address, "does not answer"),))
    assert told(known, known) == []


def test_devices_come_and_go_by_name(told: Told) -> None:
    (line,) = told(seen(), seen(GPU))
    assert line.startswith(f"INFO {GPU.address} appeared: ")
    (line,) = told(seen(GPU), seen())
    assert line.startswith(f"WARNING {GPU.address} is gone: ")


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (
            Health(State.HEALTHY),
            Health(State.UNHEALTHY, ("XID 79: off the bus",)),
            "ERROR {} is unhealthy (was healthy); no new virtual machine gets it: XID 79: off the bus",
        ),
        (Health(), Health(State.SUSPECT, ("link x8",)), "WARNING {} is suspect (was unmonitored): link x8"),
        (Health(State.LOST, ("gone",)), Health(State.HEALTHY), "INFO {} is healthy again (was lost)"),
    ],
)
def test_a_change_of_health_says_what_follows_from_it(told: Told, before: Health, after: Health, line: str) -> None:
    assert told(seen(replace(GPU, health=before)), seen(replace(GPU, health=after))) == [line.format(GPU.address)]


def test_that_nothing_was_monitored_and_now_all_is_well_is_no_news(told: Told) -> None:
    well = replace(GPU, health=Health(State.HEALTHY))
    assert told(seen(GPU), seen(well)) == []


def test_a_problem_and_a_refusal_are_told_when_they_are_new(told: Told) -> None:
    problem, refused = Problem("nvml", GPU.address, "does not answer"), Refused(GPU.address, "16 VFs", "it has 8")
    lines = told(seen(GPU), seen(GPU, problems=(problem,), refused=(refused,)))
    assert lines == [f"ERROR {GPU.address} 16 VFs: it has 8", f"WARNING {GPU.address} nvml: does not answer"]


def test_a_device_that_is_no_longer_given_says_why(told: Told) -> None:
    decision = replace(GPU.decision, managed=False, reason="rule spare ignores it")
    assert told(seen(GPU), seen(replace(GPU, decision=decision))) == [
        f"INFO {GPU.address} is not given: rule spare ignores it"
    ]
