# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who is told what, once, and that nobody who is away or slow holds up anybody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devagent.errors import AgentDenied, AgentError, AgentRefused, AgentUnreachable
from devagent.notifications import lane
from devagent.notifications.lane import Events, Limits, Outcome
from devagent.notifications.relay import DUPLICATE, HOMELESS, MALFORMED, RECEIVED, WITHOUT_MEANING, Relay

SERVER = "178b0921-8f85-4257-88b6-2e743b5a975c"
DELETED = "instance.delete.end"
BUSY = AgentRefused("the journal is full", status=503, code=None, request_id=None)


class Agents:
    """The agents of all hosts: what each took, and how those are that do not take anything."""

    def __init__(self) -> None:
        self.took: list[tuple[str, dict[str, str]]] = []
        self.asked: list[str] = []
        self.trouble: dict[str, AgentError | Exception] = {}
        self.hiccups = 1 << 30
        """After so many calls trouble is over."""
        self.hanging: dict[str, threading.Event] = {}

    def hand_over(self, host: str, events: Events) -> None:
        self.asked.append(host)
        if host in self.hanging:
            assert self.hanging[host].wait(60)
        if host in self.trouble and self.asked.count(host) <= self.hiccups:
            raise self.trouble[host]
        self.took.append((host, dict(events)))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def agents() -> Agents:
    return Agents()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def relay(agents: Agents, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Relay:
    monkeypatch.setattr(lane, "_PAUSES_S", (0.001,))
    return Relay(agents.hand_over, lambda: Limits(tries=3, cool_down=30), patient=4, monotonic=clock)


def server(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012x}"


def tell(
    relay: Relay, kind: str = DELETED, host: str | None = "a", *, uid: str = SERVER, key: object = None, **data: Any
) -> bool:
    """Gives a relay one notification of a host's nova-compute, or of the conductor."""
    name = "instance_uuid" if kind.startswith("compute_task.") else "uuid"
    payload = {"nova_object.data": {name: uid, "host": None, **data}}
    return relay.take(f"nova-compute:{host}" if host else "nova-conductor:c", kind, payload, key)


def in_thread(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_what_may_free_a_device_goes_to_the_host_that_tells_it(relay: Relay, agents: Agents) -> None:
    assert tell(relay)
    assert agents.took == [("a", {SERVER: DELETED})]
    assert relay.counts[Outcome.HANDED] == 1


def test_what_means_nothing_is_taken_and_passed_on_to_nobody(relay: Relay, agents: Agents) -> None:
    assert tell(relay, "instance.create.end")
    assert tell(relay, "service.update")
    assert agents.asked == []
    assert relay.counts[WITHOUT_MEANING] == 2


def test_of_a_move_both_ends_are_told(relay: Relay, agents: Agents) -> None:
    tell(relay, "instance.resize_finish.end", "destination")
    tell(relay, "instance.resize_revert.end", "source")
    assert [host for host, _ in agents.took] == ["source", "destination"]


def test_what_the_conductor_tells_goes_where_the_instance_was_heard_of(relay: Relay, agents: Agents) -> None:
    tell(relay, "instance.create.start", "first")
    tell(relay, "instance.create.start", "second")
    assert tell(relay, "compute_task.build_instances.error", None)
    assert sorted(host for host, _ in agents.took) == ["first", "second"]
    assert tell(relay, "compute_task.build_instances.error", None, uid=server(7))
    assert relay.counts[HOMELESS] == 1


def test_the_same_message_is_passed_on_once(relay: Relay, agents: Agents) -> None:
    assert all(tell(relay, key="one") for _ in range(3))
    assert len(agents.took) == 1
    assert relay.counts[DUPLICATE] == 2
    tell(relay, key="other")
    assert len(agents.took) == 2


def test_on_a_host_only_what_concerns_it_is_passed_on(agents: Agents) -> None:
    relay = Relay(agents.hand_over, own="a")
    tell(relay, host="b")
    assert agents.took == []
    tell(relay, host="a", uid=server(1))
    tell(relay, "compute_task.build_instances.error", None, uid=server(2))
    # It was here, and another host tells the end of its move.
    tell(relay, "instance.resize_finish.end", "a", uid=server(3))
    tell(relay, "instance.resize_revert.end", "b", uid=server(3))
    assert [host for host, _ in agents.took] == ["a", "a", "a"]


def test_an_agent_that_is_away_is_tried_and_then_given_up_at_once(relay: Relay, agents: Agents) -> None:
    agents.trouble["a"] = AgentUnreachable("no agent answers")
    assert tell(relay)
    assert agents.asked == ["a"] * 3
    assert tell(relay, uid=server(1))
    assert agents.asked == ["a"] * 3
    assert relay.counts[Outcome.LEFT] == 2
    assert relay.away == 1


def test_an_agent_that_has_a_hiccup_is_told_in_a_later_try(relay: Relay, agents: Agents) -> None:
    agents.trouble["a"], agents.hiccups = BUSY, 2
    assert tell(relay)
    assert agents.took == [("a", {SERVER: DELETED})]
    assert (relay.counts[Outcome.HANDED], relay.counts[Outcome.LEFT], relay.away) == (1, 0, 0)


@pytest.mark.parametrize(
    "answer", [AgentDenied("its certificate"), AgentRefused("no role", status=403, code=None, request_id=None)]
)
def test_who_refuses_is_not_asked_again_at_once(relay: Relay, agents: Agents, answer: AgentError) -> None:
    agents.trouble["a"] = answer
    assert tell(relay)
    assert agents.asked == ["a"]


def test_an_agent_that_is_back_is_told_what_it_missed(relay: Relay, agents: Agents, clock: Clock) -> None:
    agents.trouble["a"] = AgentUnreachable("no agent answers")
    for number in range(300):
        tell(relay, uid=server(number))
    relay.again()
    assert agents.asked == ["a"] * 3, "it is left alone for a while"
    clock.now += 31
    relay.again()
    assert agents.asked == ["a"] * 4, "who was away is tried once"
    del agents.trouble["a"]
    clock.now += 31
    relay.again()
    assert [len(events) for _, events in agents.took] == [256, 44]
    assert relay.away == 0
    relay.again()
    assert len(agents.took) == 2


def test_what_comes_while_an_agent_is_told_goes_with_its_next_call(relay: Relay, agents: Agents) -> None:
    hold = agents.hanging["a"] = threading.Event()
    threads = [in_thread(lambda: tell(relay, uid=server(0)))]
    until(lambda: agents.asked)
    threads += [in_thread(lambda n=n: tell(relay, uid=server(n))) for n in (1, 2, 3)]  # type: ignore[misc]
    until(lambda: relay.counts[RECEIVED] == 4)
    time.sleep(0.05)
    hold.set()
    for thread in threads:
        thread.join(60)
    assert [len(events) for _, events in agents.took] == [1, 3]
    assert relay.counts[Outcome.HANDED] == 4


def test_slow_agents_hold_up_nobody_else(relay: Relay, agents: Agents, clock: Clock) -> None:
    holds = {f"slow-{n}": threading.Event() for n in range(4)}
    agents.hanging |= holds
    threads = [in_thread(lambda n=n: tell(relay, host=f"slow-{n}", uid=server(n))) for n in range(4)]  # type: ignore[misc]
    until(lambda: len(agents.asked) == 4)
    clock.now += 2
    assert tell(relay, host="slow-0", uid=server(9)), "four wait already, so this one does not"
    assert relay.counts[Outcome.LEFT] == 1
    assert tell(relay, host="quick")
    assert agents.took == [("quick", {SERVER: DELETED})]
    assert relay.longest == 2
    for hold in holds.values():
        hold.set()
    for thread in threads:
        thread.join(60)
    assert relay.counts[Outcome.HANDED] == 5


def test_at_the_end_what_is_on_its_way_goes_back_to_the_broker(agents: Agents, clock: Clock) -> None:
    relay = Relay(agents.hand_over, lambda: Limits(tries=3), monotonic=clock)
    agents.trouble["a"] = AgentUnreachable("no agent answers")
    given_back: list[bool] = []
    thread = in_thread(lambda: given_back.append(not tell(relay, key="one")))
    until(lambda: agents.asked)
    relay.end()
    thread.join(60)
    assert given_back == [True]
    assert relay.counts[Outcome.ENDING] == 1


def test_a_fault_of_ours_ends_one_message_and_nothing_else(
    relay: Relay, agents: Agents, caplog: pytest.LogCaptureFixture
) -> None:
    agents.trouble["a"] = ZeroDivisionError("in the client")
    assert tell(relay)
    assert tell(relay, uid=server(1))
    assert relay.counts[MALFORMED] == 2
    assert caplog.text.count("a notification is dropped") == 1
    assert tell(relay, host="b")
    assert agents.took == [("b", {SERVER: DELETED})]


def test_a_broken_message_is_told_once_of_each_kind(relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
    for kind in (DELETED, DELETED, "instance.create.error"):
        assert relay.take("nova-compute:a", kind, {"instance_id": SERVER}, "x")
    assert relay.counts[MALFORMED] == 3
    assert len([line for line in caplog.text.splitlines() if "is dropped" in line]) == 2


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["nova_object.data", "uuid", "host", "x"]), inner),
)


@given(anything, st.sampled_from([DELETED, "compute_task.x.error"]) | anything, anything, anything)
@settings(max_examples=50)
def test_whatever_comes_is_done_with(publisher: Any, kind: Any, payload: Any, key: Any) -> None:
    relay = Relay(Agents().hand_over)
    assert relay.take(publisher, kind, payload, key)
    assert (relay.counts[RECEIVED], relay.longest) == (1, 0)
