# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whoever asks, and whatever comes in between: who gets which VF, and what is left of it on the machine."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from devagent.api.request_id import answering, current
from devagent.errors import NoSuchPreparation, NotPrepared, PreparedOtherwise
from devagent.model.claim import Mode
from devagent.model.plan import Plan, Step
from devagent.model.policy import Match, Policy, Prepare, Rule
from devagent.model.preparation import Refusal, RefusalKind, State
from devagent.model.user import User
from devagent.prepare.machine import StepFailed
from devagent.service.preparing.sight import Sight

from ...prepare.scenes import ALICE, BOB
from .one_host import NIC, PATIENCE_S, Agent


def test_a_consumer_has_its_vfs_on_vfio_pci_until_it_gives_them_back(agent: Agent) -> None:
    before = agent.host.machine.state()
    addresses = agent.prepared(ALICE, 2)
    assert agent.host.bound == addresses
    assert agent.own.get(ALICE)["timings"].keys() >= {"placement", "looking", "planning", "doing", "journal"}
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)
    assert agent.host.machine.state() == before
    with pytest.raises(NoSuchPreparation):
        agent.own.get(ALICE)
    assert agent.own.delete(ALICE, PATIENCE_S) == (None, 204)


def test_the_same_request_again_gives_the_same_and_does_nothing(agent: Agent) -> None:
    first = agent.put(ALICE)
    agent.host.doing = lambda step: pytest.fail(f"{step} was done")
    looks = len(agent.host.looks)
    assert agent.put(ALICE) == first
    assert len(agent.host.looks) == looks
    with pytest.raises(PreparedOtherwise):
        agent.put(ALICE, 2)


def test_who_has_no_patience_is_told_that_it_goes_on_and_others_join(agent: Agent, clients: ThreadPoolExecutor) -> None:
    go_on, done = threading.Event(), list[Step]()

    def hold(step: Step) -> None:
        done.append(step)
        go_on.wait(PATIENCE_S)

    agent.host.doing = hold
    found, status = agent.put(ALICE, wait=0)
    assert (status, found["state"], found["handles"]) == (202, "preparing", [])
    with pytest.raises(PreparedOtherwise):
        agent.put(ALICE, 3, wait=0)
    others = [clients.submit(agent.put, ALICE) for _ in range(4)]
    agent.until(lambda: done)
    assert agent.states() == {ALICE: "preparing"}
    go_on.set()
    assert {(other.result()[1], str(other.result()[0]["handles"])) for other in others} == {
        (200, str(agent.own.get(ALICE)["handles"]))
    }
    assert len(done) == 1


def test_what_was_given_back_after_it_was_seen_is_planned_anew(small: Agent) -> None:
    """The VF was on vfio-pci when it was looked at, and is with its own driver when it is free."""
    (address,) = small.prepared(ALICE)

    def give_back() -> None:
        small.host.seen = lambda: None
        step = Step("bind", address, {"driver": "mlx5_core"})
        assert small.own.keeper.executor.release(ALICE, lambda _: Plan(ALICE, (step,)), PATIENCE_S) is None

    small.host.seen = give_back
    assert small.prepared(BOB) == {address}
    assert small.host.bound == {address}
    assert [step["verb"] for step in small.own.get(BOB)["steps"]] == ["bind"]


def test_what_was_given_back_after_it_was_seen_is_left_to_others_while_there_is_more(agent: Agent) -> None:
    """As it was seen, on vfio-pci, it would be the best of all: nothing would have to be done to it."""
    (address,) = agent.prepared(ALICE)

    def give_back() -> None:
        agent.host.seen = lambda: None
        step = Step("bind", address, {"driver": "mlx5_core"})
        assert agent.own.keeper.executor.release(ALICE, lambda _: Plan(ALICE, (step,)), PATIENCE_S) is None

    agent.host.seen = give_back
    looks = len(agent.host.looks)
    assert agent.prepared(BOB) != {address}
    assert len(agent.host.looks) == looks + 1


def test_who_waits_for_a_device_gets_it_when_it_is_given_back(small: Agent, clients: ThreadPoolExecutor) -> None:
    addresses = small.prepared(ALICE)
    waiting = clients.submit(small.prepared, BOB)
    small.until(lambda: small.own.is_at_work(BOB))
    small.own.delete(ALICE, PATIENCE_S)
    assert waiting.result() == addresses
    assert small.host.bound == addresses


def test_two_never_get_the_same_however_many_ask_at_once(agent: Agent, clients: ThreadPoolExecutor) -> None:
    consumers = [f"{number:08x}-27d4-4a3c-9a3e-0c1d2e3f4a5b" for number in range(4)]
    found = list(clients.map(agent.prepared, consumers))
    assert len(set().union(*found)) == 4
    assert agent.host.bound == set().union(*found)


def test_what_fails_is_undone_and_told_to_who_asks_later(agent: Agent) -> None:
    before = agent.host.machine.state()

    def fail(step: Step) -> None:
        if step.arguments["driver"] == "vfio-pci":
            raise StepFailed(RefusalKind.PERMANENT, f"{step.target}: vfio-pci refuses it", step.target)

    agent.host.doing = fail
    with pytest.raises(NotPrepared, match="vfio-pci refuses it") as refused:
        agent.put(ALICE)
    assert refused.value.kind == "permanent"
    assert agent.host.machine.state() == before
    assert agent.states() == {ALICE: "failed"}
    agent.host.doing = lambda _: None
    assert agent.prepared(ALICE)


def test_a_host_that_cannot_be_seen_is_no_place_for_anybody(agent: Agent) -> None:
    agent.host.blind = True
    with pytest.raises(NotPrepared, match="the look process hangs") as refused:
        agent.put(ALICE)
    assert refused.value.kind == "retry"
    agent.host.blind = False
    assert agent.prepared(ALICE)


def test_a_device_that_cannot_be_read_now_may_be_read_later(agent: Agent) -> None:
    """NVML is closed while another GPU changes hands: that is no reason to say that there is no such device."""
    agent.host.hazy = True
    agent.host.seen = lambda: setattr(agent.host, "hazy", len(agent.host.looks) < 2)
    assert agent.prepared(ALICE)
    agent.host.seen = lambda: None
    agent.host.hazy = True
    agent.settings.prepare_deadline = 3.0
    with pytest.raises(NotPrepared, match="unknown: nvml could not be read") as refused:
        agent.put(BOB)
    assert refused.value.kind == "retry"


@pytest.mark.parametrize("scrub", ["nvme-format", "nvme-sanitize", "gpu-reset"])
def test_what_is_known_to_resist_its_wipe_is_not_given(small: Agent, scrub: str) -> None:
    rule = Rule("vfs", mode=Mode.VF, match=Match(), prepare=Prepare(scrub=scrub))
    small.settings.policy = Policy((rule,), "test")
    small.host.resists = Refusal(RefusalKind.PERMANENT, "the policy wants it wiped, and it cannot be", NIC)
    with pytest.raises(NotPrepared, match="and it cannot be"):
        small.put(ALICE)
    assert small.host.asked == [("0000:3b:00.1", scrub)]
    assert small.host.bound == set()
    small.host.resists = None
    address = small.prepared(ALICE)
    small.host.asked.clear()
    with pytest.raises(NotPrepared, match="held by consumer"):
        small.put(BOB)
    assert address == {"0000:3b:00.1"}
    assert small.host.asked == [], "what somebody has, and may just be wiped, is left in peace"


def test_a_device_of_a_consumer_counts_as_held(agent: Agent) -> None:
    assert agent.facts.seen is not None
    assert agent.facts.holdings(agent.facts.seen.devices) is None
    agent.facts.held = frozenset()
    assert agent.facts.holdings(agent.facts.seen.devices) == frozenset()
    agent.prepared(ALICE)
    assert agent.facts.holdings(agent.facts.seen.devices) == frozenset({NIC})
    agent.own.delete(ALICE, PATIENCE_S)
    assert agent.facts.holdings(agent.facts.seen.devices) == frozenset()


def test_what_comes_of_requests_is_counted(agent: Agent) -> None:
    def counted(name: str, outcome: str) -> float | None:
        return agent.metrics._registry.get_sample_value(f"devagent_{name}_total", {"outcome": outcome})

    agent.prepared(ALICE)
    agent.prepared(ALICE)
    agent.placement.unknown = {BOB}
    with pytest.raises(NotPrepared):
        agent.put(BOB)
    assert [counted("prepares", each) for each in ("prepared", "repeated", "invalid", "retry")] == [1, 1, 1, 0]
    found = agent.own.keeper.overview()
    assert found is not None
    assert (found.states, found.releasing_since) == ({State.PREPARED: 1}, None)
    (address,) = agent.host.bound
    agent.host.users[address] = User(4711, "qemu-system-x86", "/dev/vfio/12")
    agent.settings.prepare_deadline = 0
    with pytest.raises(NotPrepared):
        agent.own.delete(ALICE, PATIENCE_S)
    waits = agent.own.keeper.overview()
    assert waits is not None
    assert waits.states == {State.RELEASING: 1}
    assert waits.releasing_since == pytest.approx(time.time(), abs=60)
    agent.host.users.clear()
    agent.settings.prepare_deadline = 60
    agent.own.delete(ALICE, PATIENCE_S)
    assert [counted("releases", each) for each in ("released", "retry")] == [1, 1]


def test_the_end_waits_for_what_is_under_way_and_begins_nothing(agent: Agent, clients: ThreadPoolExecutor) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold(step: Step) -> None:
        reached.set()
        go_on.wait(PATIENCE_S)

    agent.host.doing = hold
    asked = clients.submit(agent.prepared, ALICE)
    assert reached.wait(PATIENCE_S)
    assert not agent.own.close(0)
    with pytest.raises(NotPrepared, match="the agent is stopping"):
        agent.put(BOB)
    go_on.set()
    assert asked.result()
    agent.restart()
    assert agent.states() == {ALICE: "prepared"}


def test_one_look_serves_all_who_ask_meanwhile(agent: Agent, clients: ThreadPoolExecutor) -> None:
    sight, first = Sight(agent.host, agent.facts, lambda: agent.settings), threading.Event()
    reached, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        if not first.is_set():
            first.set()
            reached.set()
            go_on.wait(PATIENCE_S)

    agent.host.seen = hold
    early = clients.submit(sight.look, {NIC})
    assert reached.wait(PATIENCE_S)
    looks = len(agent.host.looks)
    late = [clients.submit(sight.look, {NIC}) for _ in range(5)]
    agent.until(lambda: clients._work_queue.empty())
    time.sleep(0.05)
    go_on.set()
    assert all(each.result().began > early.result().began for each in late)
    assert len(agent.host.looks) == looks + 1
    assert agent.host.looks[-1] == frozenset({NIC})


def test_refusals_name_the_reason_in_the_documents(agent: Agent) -> None:
    agent.placement.unknown = {ALICE}
    with pytest.raises(NotPrepared):
        agent.put(ALICE)
    found: Mapping[str, Any] = agent.own.get(ALICE)
    assert found["error"] == {"type": "invalid", "reason": f"{ALICE} holds nothing", "address": None, "holders": []}
    agent.own.delete(ALICE, PATIENCE_S)
    assert agent.states() == {}


def test_every_line_that_a_worker_logs_carries_the_request_that_it_works_for(agent: Agent) -> None:
    said: list[tuple[str, str | None]] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append((record.getMessage().partition(":")[0], current()))

    logger, heard = logging.getLogger("devagent"), Heard(logging.INFO)
    level = logger.level
    logger.addHandler(heard)
    logger.setLevel(logging.INFO)
    try:
        with answering("req-1"):
            agent.prepared(ALICE)
        with answering("req-2"):
            agent.own.delete(ALICE, PATIENCE_S)
        agent.prepared(BOB)
    finally:
        logger.removeHandler(heard)
        logger.setLevel(level)
    assert (f"{ALICE} is prepared", "req-1") in said
    assert (f"{ALICE} is released", "req-2") in said
    assert (f"{BOB} is prepared", None) in said
    assert all(id_ is not None for message, id_ in said if message.startswith(ALICE))
