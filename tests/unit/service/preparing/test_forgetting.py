# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""An operator ends a release that never would: nobody else has the devices until he says that they are in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devagent.errors import NoSuchPreparation, NotPrepared
from devagent.model.health import State
from devagent.model.plan import Step
from devagent.model.preparation import RefusalKind
from devagent.model.user import User
from devagent.prepare.machine import StepFailed
from devagent.service.facts import Seen
from devagent.service.health_book import HealthBook
from devagent.service.preparing.forgetting import Forgetting

from ...prepare.scenes import ALICE, BOB, provider
from .one_host import NIC, Agent, started


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    for made in started(tmp_path, vfs=4):
        vars(made.settings).update(clean_checks=3, flap_limit=3, flap_window=3600.0, xids={})
        yield made


@pytest.fixture
def book(agent: Agent) -> HealthBook:
    """The health of the devices of one look."""
    found = HealthBook(lambda: agent.settings)
    found.follow(agent.host.view().found, (), time.time(), checked=None)
    return found


@pytest.fixture
def resisting(agent: Agent) -> Agent:
    """An agent that has prepared a VF for ALICE and cannot bring it back."""
    agent.prepared(ALICE)
    agent.host.doing = resist
    with pytest.raises(NotPrepared, match="the driver refuses it"):
        agent.own.delete(ALICE, 30.0)
    assert agent.states() == {ALICE: "releasing"}
    return agent


def resist(step: Step) -> None:
    raise StepFailed(RefusalKind.PERMANENT, f"{step.target}: the driver refuses it", step.target)


def forget(agent: Agent, book: HealthBook, consumer: str = ALICE, *, offer: bool = False) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    forgetting = Forgetting(agent.facts, book, "drive is dead", "uid 0 (root), pid 1", offer=offer)
    agent.own.forget(consumer, lambda each: found.extend(forgetting.devices(each)))
    return found


def unhealthy(book: HealthBook) -> list[str]:
    said = [each.override for each in book.current.values() if each.override]
    return [each.reason for each in said if each.state is State.UNHEALTHY]


def test_what_is_forgotten_is_withheld_and_held_by_nobody(
    resisting: Agent, book: HealthBook, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        (device,) = forget(resisting, book)
    assert (device["address"], device["withheld"]) == (NIC, True)
    assert unhealthy(book) == [f"drive is dead (forgotten: {ALICE})"]
    assert resisting.states() == {}
    for word in (ALICE, "uid 0 (root), pid 1", "drive is dead", "the driver refuses it", *device["functions"]):
        assert word in caplog.text
    with pytest.raises(NoSuchPreparation):
        forget(resisting, book)


def test_what_is_to_be_offered_is_offered(resisting: Agent, book: HealthBook) -> None:
    (device,) = forget(resisting, book, offer=True)
    assert (device["withheld"], unhealthy(book)) == (False, [])
    resisting.host.doing = lambda _: None
    assert len(resisting.prepared(BOB, 4)) == 4


def test_what_is_not_there_is_unhealthy_when_it_comes_back(resisting: Agent, book: HealthBook) -> None:
    seen = resisting.facts.seen
    assert seen is not None
    without = replace(seen.view, found=replace(seen.view.found, devices=()))
    resisting.facts.seen = Seen(without, time.time(), 0.0, full=True)
    book.follow(without.found, (), time.time(), checked=None)
    (device,) = forget(resisting, book)
    assert (device["address"], device["withheld"]) == (None, True)
    book.follow(seen.view.found, (), time.time(), checked=None)
    assert unhealthy(book) == [f"drive is dead (forgotten: {ALICE})"]


def test_a_device_of_a_node_that_was_made_anew_in_placement_is_known_by_its_place(
    resisting: Agent, book: HealthBook
) -> None:
    resisting.facts.reported = replace(resisting.facts.reported, root=BOB, listed={})
    assert [each["address"] for each in forget(resisting, book)] == [NIC]
    assert unhealthy(book)


def test_another_device_at_its_place_is_left_alone(resisting: Agent, book: HealthBook) -> None:
    """The provider is still there in Placement, and the device that has the address now is not its."""
    other = provider(NIC, resisting.host.machine.devices)
    listed: Any = {other: None}
    resisting.facts.reported = replace(resisting.facts.reported, root=BOB, listed=listed)
    (device,) = forget(resisting, book)
    assert (device["address"], device["withheld"], unhealthy(book)) == (None, False, [])


def test_what_is_ready_or_in_use_is_not_forgotten(agent: Agent, book: HealthBook) -> None:
    (address,) = agent.prepared(ALICE)
    with pytest.raises(NotPrepared, match="is prepared: release it first") as refused:
        forget(agent, book)
    assert refused.value.kind == "invalid"
    agent.settings.prepare_deadline = 0.2
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    with pytest.raises(NotPrepared, match="in use"):
        agent.own.delete(ALICE, 30.0)
    with pytest.raises(NotPrepared, match="a process has it open"):
        forget(agent, book)
    assert (agent.states(), unhealthy(book)) == ({ALICE: "releasing"}, [])


def test_what_failed_and_left_nothing_behind_is_forgotten_and_its_devices_are_well(
    agent: Agent, book: HealthBook
) -> None:
    agent.host.doing = resist
    with pytest.raises(NotPrepared, match="the driver refuses it"):
        agent.put(ALICE)
    agent.restart()
    assert agent.states() == {ALICE: "failed"}
    assert forget(agent, book) == []
    assert (agent.states(), unhealthy(book)) == ({}, [])


def test_a_wipe_that_is_under_way_is_not_forgotten(
    agent: Agent, book: HealthBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devagent.service.preparing.preparations._FORGET_S", 0.01)
    agent.prepared(ALICE)
    told: list[str] = []

    def wiping(_: Step) -> None:
        with pytest.raises(NotPrepared, match="is being released just now") as refused:
            forget(agent, book)
        told.append(refused.value.kind)

    agent.host.doing = wiping
    agent.own.delete(ALICE, 30.0)
    assert (set(told), unhealthy(book)) == ({"retry"}, [])
