# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whoever gives back, while it is being prepared, while it is in use, while others wait: it is all back in the end."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from devagent.errors import NotPrepared
from devagent.model.plan import Step
from devagent.model.preparation import Refusal, RefusalKind
from devagent.model.user import User
from devagent.prepare.runs import Strangers, nobody

from ...prepare.scenes import ALICE, BOB
from .one_host import PATIENCE_S, Agent


def test_a_release_during_the_preparation_ends_it_and_leaves_nothing(agent: Agent, clients: ThreadPoolExecutor) -> None:
    before = agent.host.machine.state()
    reached, go_on = threading.Event(), threading.Event()

    def hold(step: Step) -> None:
        reached.set()
        go_on.wait(PATIENCE_S)

    agent.host.doing = hold
    asked = clients.submit(agent.put, ALICE, 2)
    assert reached.wait(PATIENCE_S)
    released = clients.submit(agent.own.delete, ALICE, PATIENCE_S)
    agent.until(lambda: agent.own._jobs[ALICE].cancelled.is_set())
    go_on.set()
    assert released.result() == (None, 204)
    with pytest.raises(NotPrepared, match="released while it was being prepared"):
        asked.result()
    assert agent.host.machine.state() == before
    assert agent.states() == {}


def test_a_release_ends_the_waiting_for_a_busy_device_for_good(small: Agent, clients: ThreadPoolExecutor) -> None:
    small.prepared(ALICE)
    waiting = clients.submit(small.put, BOB)
    small.until(lambda: small.own.is_at_work(BOB))
    assert small.own.delete(BOB, PATIENCE_S) == (None, 204)
    small.own.delete(ALICE, PATIENCE_S)
    with pytest.raises(NotPrepared):
        waiting.result()
    assert small.states() == {}
    assert small.host.bound == set()


def test_a_release_is_not_answered_by_a_recovery_that_is_under_way(agent: Agent, clients: ThreadPoolExecutor) -> None:
    """The upkeep saw it half done just before it was ready, and has it recovered: there is nothing left to do."""
    agent.prepared(ALICE)
    reached, go_on = threading.Event(), threading.Event()
    recover = agent.own.keeper.executor.recover

    def hold(consumer: str, strangers: Strangers = nobody) -> Refusal | None:
        reached.set()
        go_on.wait(PATIENCE_S)
        return recover(consumer, strangers)

    agent.own.keeper.executor.recover = hold  # type: ignore[method-assign]
    agent.own.recover(ALICE)
    assert reached.wait(PATIENCE_S)
    released = clients.submit(agent.own.delete, ALICE, PATIENCE_S)
    go_on.set()
    assert released.result() == (None, 204)
    assert agent.host.bound == set()


def test_a_release_waits_for_who_has_the_device_open_and_says_who(agent: Agent) -> None:
    (address,) = agent.prepared(ALICE)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    assert agent.own.delete(ALICE, 0)[1] == 202
    agent.until(lambda: agent.own.get(ALICE)["error"]["holders"])
    (holder,) = agent.own.get(ALICE)["error"]["holders"]
    assert (holder["pid"], holder["command"]) == (4711, "qemu-system-x86")
    assert (agent.own.get(ALICE)["state"], agent.own.get(ALICE)["handles"]) == ("releasing", [])
    agent.host.users.clear()
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)
    assert agent.host.bound == set()


def test_who_gives_back_what_the_upkeep_tries_just_then_has_all_of_its_own_time(
    agent: Agent, clients: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """What the upkeep tries has little time, for nobody waits for it; who has asked meanwhile does."""
    (address,) = agent.prepared(ALICE)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    looked, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        looked.set()
        go_on.wait(PATIENCE_S)

    agent.host.seen = hold
    agent.own.release(ALICE, 0)
    assert looked.wait(PATIENCE_S)
    released = clients.submit(agent.own.delete, ALICE, PATIENCE_S)
    time.sleep(0.2)  # it waits for the release that is under way
    go_on.set()
    agent.until(lambda: f"{ALICE} is not released" in caplog.text)
    agent.host.users.clear()
    assert released.result() == (None, 204)
    assert agent.host.bound == set()


def test_what_was_in_use_when_it_was_to_be_released_is_released_later_though_nobody_asks_again(agent: Agent) -> None:
    (address,) = agent.prepared(ALICE)
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    agent.settings.prepare_deadline = 0
    with pytest.raises(NotPrepared, match="qemu-system-x86"):
        agent.own.delete(ALICE, PATIENCE_S)
    agent.settings.prepare_deadline = 60
    with pytest.raises(NotPrepared, match=r"is being released, which waits: .* qemu-system-x86") as refused:
        agent.put(ALICE)
    assert refused.value.kind == "retry"
    agent.restart()
    looks = len(agent.host.looks)
    for _ in range(3):
        agent.keep_up()
    assert len(agent.host.looks) == looks + 1
    assert agent.states() == {ALICE: "releasing"}
    agent.host.users.clear()
    agent.now += 31
    agent.keep_up()
    assert agent.states() == {}
    assert agent.host.bound == set()


def test_others_wait_for_what_is_in_use_and_to_be_released_as_for_any_other(
    small: Agent, clients: ThreadPoolExecutor
) -> None:
    (address,) = small.prepared(ALICE)
    small.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    small.settings.prepare_deadline = 0
    with pytest.raises(NotPrepared, match="qemu-system-x86"):
        small.own.delete(ALICE, PATIENCE_S)
    small.settings.prepare_deadline = 60
    small.host.users.clear()
    looks = len(small.host.looks)
    waiting = clients.submit(small.prepared, BOB)
    small.until(lambda: len(small.host.looks) > looks + 1 or waiting.done())
    small.keep_up()
    assert waiting.result() == {address}


def test_many_recoveries_that_hang_hold_up_no_release(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    agent.prepared(ALICE)
    go_on, others = threading.Event(), [f"{number:08x}-27d4-4a3c-9a3e-0c1d2e3f4a5b" for number in range(8)]

    def hang(consumer: str, strangers: Strangers = nobody) -> Refusal | None:
        go_on.wait(PATIENCE_S)
        return Refusal(RefusalKind.RETRY, "its driver hangs")

    monkeypatch.setattr(agent.own.keeper.executor, "recover", hang)
    for each in others:
        agent.own.recover(each)
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)
    assert all(map(agent.own.is_at_work, others))
    go_on.set()
    agent.until(lambda: not any(map(agent.own.is_at_work, others)))
    assert f"{others[0]} is not finished or undone: its driver hangs" in caplog.text
    assert "is not released" not in caplog.text
