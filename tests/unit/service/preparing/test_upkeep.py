# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is released without anybody asking: what expired, who vanished, and what a hint is about."""

from __future__ import annotations

import time

import pytest

from devagent.errors import PlacementUnreachable
from devagent.model.user import User

from ...prepare.scenes import ALICE, BOB
from .one_host import Agent


def test_what_nobody_used_in_time_is_released(agent: Agent) -> None:
    agent.prepared(ALICE, expires_in=60)
    agent.keep_up()
    assert agent.states() == {ALICE: "prepared"}
    agent.now += 61
    agent.keep_up()
    assert agent.states() == {}
    assert agent.host.bound == set()


@pytest.mark.parametrize("jump", [365 * 86400.0, -365 * 86400.0])
def test_a_clock_that_is_set_makes_nothing_expire_and_hides_nobody_who_is_gone(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    agent.prepared(ALICE, expires_in=60)
    agent.prepared(BOB)
    agent.placement.unknown = {BOB}
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    agent.jump = jump
    for waited, expected in ((0, {ALICE, BOB}), (59, {ALICE, BOB}), (1, {BOB}), (31, set())):
        agent.now += waited
        agent.keep_up()
        assert set(agent.states()) == expected


def test_what_was_used_once_never_expires(agent: Agent) -> None:
    (address,) = agent.prepared(ALICE, expires_in=60)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    agent.see()
    agent.keep_up()
    agent.host.users.clear()
    agent.see()
    agent.restart()
    agent.now += 61
    agent.keep_up()
    assert agent.own.get(ALICE)["expires"] is None
    assert agent.states() == {ALICE: "prepared"}


def test_what_is_used_now_is_not_released_though_the_last_look_is_older(agent: Agent) -> None:
    (address,) = agent.prepared(ALICE, expires_in=60)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    agent.now += 61
    agent.keep_up()
    assert agent.states() == {ALICE: "prepared"}
    assert agent.own.get(ALICE)["expires"] is None


def test_who_is_unknown_to_placement_twice_is_released(agent: Agent) -> None:
    agent.prepared(ALICE)
    agent.prepared(BOB)
    agent.placement.unknown = {ALICE}
    for expected in ({ALICE, BOB}, {BOB}):
        agent.now += 700
        agent.keep_up()
        assert agent.states() == dict.fromkeys(expected, "prepared")
    assert len(agent.host.bound) == 1


def test_who_vanished_without_a_word_is_found_within_minutes(agent: Agent) -> None:
    agent.prepared(ALICE)
    agent.placement.unknown = {ALICE}
    for waited, expected in ((130, {ALICE: "prepared"}), (20, {ALICE: "prepared"}), (10, {})):
        agent.now += waited
        agent.keep_up()
        assert agent.states() == expected


def test_after_a_hint_who_is_unknown_is_released_within_seconds(agent: Agent) -> None:
    agent.prepared(ALICE)
    agent.prepared(BOB)
    agent.placement.unknown = {ALICE}
    assert agent.upkeep.hint([ALICE, "somebody else"]) == {ALICE}
    for waited, expected in ((0, {ALICE, BOB}), (2, {BOB})):
        assert agent.upkeep.due_in(5.0) == waited
        agent.now += waited
        agent.keep_up()
        assert agent.states() == dict.fromkeys(expected, "prepared")
    assert set(agent.placement.asked) == {ALICE}


def test_a_hint_that_comes_before_the_allocation_is_gone_is_remembered_for_a_while(agent: Agent) -> None:
    agent.prepared(ALICE)
    agent.upkeep.hint([ALICE])
    agent.keep_up()
    agent.now += 4
    agent.keep_up()
    agent.placement.unknown = {ALICE}
    for waited in (5, 12):
        assert agent.states() == {ALICE: "prepared"}
        agent.now += waited
        agent.keep_up()
    assert agent.states() == {}


def test_a_hint_about_who_holds_its_devices_still_changes_nothing_and_is_forgotten(agent: Agent) -> None:
    agent.prepared(ALICE)
    agent.upkeep.hint([ALICE])
    for _ in range(5):
        agent.keep_up()
        agent.now += 30
    assert agent.upkeep.due_in(5.0) == 5.0
    assert agent.states() == {ALICE: "prepared"}
    assert len(agent.placement.asked) <= 5


def test_after_a_hint_who_has_it_open_keeps_it(agent: Agent) -> None:
    (address,) = agent.prepared(ALICE)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    agent.placement.unknown = {ALICE}
    agent.upkeep.hint([ALICE])
    for _ in range(5):
        agent.keep_up()
        agent.now += 10
    assert agent.states() == {ALICE: "prepared"}


def test_a_virtual_machine_that_ended_after_the_last_look_is_released_after_a_hint(agent: Agent) -> None:
    (address,) = agent.prepared(ALICE)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    agent.see()
    agent.host.users.clear()
    agent.placement.unknown = {ALICE}
    agent.upkeep.hint([ALICE])
    for _ in range(2):
        agent.keep_up()
        agent.now += 2
    assert agent.states() == {}


def test_what_a_migration_holds_meanwhile_is_kept_until_that_ends(agent: Agent) -> None:
    agent.prepared(ALICE)
    agent.placement.unknown = agent.placement.moved = {ALICE}
    for _ in range(3):
        agent.now += 700
        agent.keep_up()
    assert agent.states() == {ALICE: "prepared"}
    agent.placement.moved = set()
    for _ in range(2):
        agent.now += 700
        agent.keep_up()
    assert agent.states() == {}


@pytest.mark.parametrize("why", ["it is used", "Placement does not answer", "nobody checks"])
def test_who_is_unknown_is_kept_if(agent: Agent, why: str) -> None:
    (address,) = agent.prepared(ALICE)
    agent.placement.unknown = {ALICE}
    if why == "it is used":
        agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    elif why == "nobody checks":
        agent.settings.check_allocations = False
    else:
        agent.placement.error = PlacementUnreachable("Placement is down")
    for _ in range(4):
        agent.now += 700
        agent.keep_up()
    assert agent.states() == {ALICE: "prepared"}
