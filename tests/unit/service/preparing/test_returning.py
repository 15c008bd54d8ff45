# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is being brought back is reserved in Placement exactly while no allocation covers it."""

from __future__ import annotations

import pytest

from devagent.errors import NotPrepared, PlacementUnreachable
from devagent.model.plan import Step
from devagent.model.preparation import RefusalKind
from devagent.model.user import User
from devagent.prepare.machine import StepFailed
from devagent.service.preparing.allocations import Standing

from ...prepare.scenes import ALICE, BOB, provider
from .one_host import NIC, VF, Agent

QEMU = User(4711, "qemu-system-x86", "/dev/vfio/12")


def reserved(agent: Agent) -> int:
    return dict(agent.returning.amounts().get(provider(NIC, agent.host.machine.devices), {})).get(VF, 0)


def leave(agent: Agent, consumer: str) -> None:
    """Has a consumer released whose process has not let go of its devices yet."""
    with pytest.raises(NotPrepared, match="in use"):
        agent.own.delete(consumer, 1.0)


def later(agent: Agent, seconds: float) -> None:
    agent.now += seconds
    agent.keep_up()


@pytest.fixture
def leaving(agent: Agent) -> Agent:
    """An agent that cannot take back two VFs of ALICE, since they are in use, while BOB has another."""
    agent.settings.prepare_deadline = 0.2
    agent.host.users = dict.fromkeys(agent.prepared(ALICE, 2), QEMU)
    agent.prepared(BOB)
    agent.keep_up()
    leave(agent, ALICE)
    agent.keep_up()
    return agent


def test_what_has_no_allocation_any_more_is_reserved_until_it_is_back(leaving: Agent) -> None:
    leaving.placement.unknown = {ALICE}
    assert reserved(leaving) == 0, "most releases end at once"
    later(leaving, 5.0)
    assert reserved(leaving) == 2
    leaving.host.users.clear()
    later(leaving, 30.0)
    assert leaving.states() == {BOB: "prepared"}
    later(leaving, 5.0)
    assert reserved(leaving) == 0


def test_what_an_allocation_covers_is_not_counted_twice(leaving: Agent) -> None:
    later(leaving, 5.0)
    assert reserved(leaving) == 0
    later(leaving, 5.0)
    assert reserved(leaving) == 0
    leaving.placement.unknown = {ALICE}
    later(leaving, 30.0)
    assert reserved(leaving) == 2


def test_nobody_is_asked_about_or_told_what_is_known(leaving: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    recounted = leaving.recounted

    def standing(consumer: str, *_: object) -> Standing:
        asked.append(consumer)
        return Standing.GONE

    monkeypatch.setattr(leaving.placement, "standing", standing)
    for _ in range(5):
        later(leaving, 5.0)
    assert asked == [ALICE]
    assert leaving.recounted == recounted + 1


def test_the_longer_an_allocation_stays_the_more_seldom_it_is_asked_about(
    leaving: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def standing(*_: object) -> Standing:
        asked.append(leaving.now)
        return Standing.MOVED

    monkeypatch.setattr(leaving.placement, "standing", standing)
    began = leaving.now
    for _ in range(24):
        later(leaving, 5.0)
    assert [at - began for at in asked] == [5.0, 10.0, 20.0, 40.0, 70.0, 100.0]


def test_where_nobody_checks_allocations_none_covers_anything(leaving: Agent) -> None:
    leaving.settings.check_allocations = False
    later(leaving, 5.0)
    assert reserved(leaving) == 2


def test_while_placement_does_not_answer_all_stays_as_it_is(leaving: Agent) -> None:
    leaving.placement.error = PlacementUnreachable("no route to host")
    later(leaving, 5.0)
    assert reserved(leaving) == 0
    leaving.placement.error, leaving.placement.unknown = None, {ALICE}
    later(leaving, 5.0)
    assert reserved(leaving) == 2


def test_what_is_half_undone_is_not_offered_either(agent: Agent) -> None:
    def stay(step: Step) -> None:
        raise StepFailed(RefusalKind.RETRY, f"{step.target}: the driver refuses it", step.target)

    agent.keep_up()
    agent.host.doing = stay
    # What never changed is no obstacle to the undoing: so this one lies about it, too.
    agent.host.check = lambda *_: False  # type: ignore[method-assign]
    with pytest.raises(NotPrepared):
        agent.put(ALICE)
    agent.placement.unknown = {ALICE}
    agent.keep_up()
    later(agent, 5.0)
    assert (agent.states(), reserved(agent)) == ({ALICE: "failed"}, 1)


def test_a_restart_gives_nothing_free_before_placement_was_asked(leaving: Agent) -> None:
    leaving.placement.unknown = {ALICE}
    later(leaving, 5.0)
    leaving.restart()
    assert reserved(leaving) == 2
    leaving.keep_up()
    assert reserved(leaving) == 2, "its allocation is not there"
    leaving.placement.unknown = set()
    leaving.restart()
    assert reserved(leaving) == 2
    leaving.placement.unknown = {ALICE}
    leaving.keep_up()
    assert reserved(leaving) == 2
