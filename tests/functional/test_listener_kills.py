# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The broker, the listener and the agent are killed in every order: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import nova_beside

from . import broker, notified, running_listener
from .notified import World
from .running_daemon import folder
from .running_listener import RunningListener

pytestmark = [
    pytest.mark.skipif(not broker.SERVER.exists(), reason=broker.MISSING),
    pytest.mark.skipif(not nova_beside.PYTHON.exists(), reason=nova_beside.MISSING),
]

DELETED = "instance.delete.end"
THREE = ("broker", "listener", "agent")


class Trio:
    """What can be killed and started again."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        self.world, self._stack = world, stack
        self.listener = self._listen()

    def kill(self, what: str) -> None:
        """Ends one without a warning."""
        if what == "broker":
            self.world.broker.kill()
        elif what == "listener":
            self.listener.stop(signal.SIGKILL)
        else:
            self.world.source.agent.stop(signal.SIGKILL)

    def start(self, what: str) -> None:
        """Starts it again."""
        if what == "broker":
            self.world.broker.start()
        elif what == "listener":
            self.listener = self._listen()
        else:
            self.world.source.begin()

    def ends(self) -> str:
        """Has Nova delete an instance, and gives it."""
        host, instance = self.world.source, self.world.source.prepared()
        host.loses(instance)
        return instance

    def tell(self, instance: str) -> None:
        """Has Nova tell that it was deleted."""
        host = self.world.source
        self.world.tell(DELETED, instance, host.speaker, host.address)

    def released(self, instance: str) -> None:
        """Waits for the release, of which there is one."""
        host = self.world.source
        host.agent.until(lambda: not host.has(instance))
        assert host.agent.log.count(f"{instance} holds nothing of its devices") == 1

    def _listen(self) -> RunningListener:
        return self._stack.enter_context(running_listener.running(self.world.relay()))


@pytest.fixture(scope="module", params=["classic", "quorum"])
def trio(request: pytest.FixtureRequest, placement: str, memory: Path) -> Iterator[Trio]:
    with folder() as place, notified.world(placement, memory, place, request.param) as world, ExitStack() as stack:
        made = Trio(world, stack)
        made.listener.listening()
        yield made


@pytest.mark.parametrize(
    ("trio", "order"),
    [*(("classic", order) for order in itertools.permutations(THREE)), ("quorum", THREE)],
    indirect=["trio"],
    ids=lambda each: each if isinstance(each, str) else "-".join(each),
)
def test_all_are_killed_and_come_back_in_this_order(trio: Trio, order: tuple[str, ...]) -> None:
    kept, ended = trio.world.source.prepared(), trio.ends()
    for what in order:
        trio.kill(what)
    for what in order:
        trio.start(what)
        if what == "broker":
            trio.tell(ended)
    trio.released(ended)
    assert trio.world.source.has(kept)


def test_what_a_listener_had_in_its_hands_when_it_was_killed_comes_to_the_next(trio: Trio) -> None:
    ended, agent = trio.ends(), trio.world.source.agent
    trio.listener.listening()
    agent.process.send_signal(signal.SIGSTOP)
    trio.tell(ended)
    trio.listener.until(lambda: trio.listener.count("received") > 0)
    trio.kill("listener")
    trio.start("listener")
    agent.process.send_signal(signal.SIGCONT)
    trio.released(ended)


def test_an_agent_that_is_away_is_told_when_it_is_back(trio: Trio) -> None:
    ended = trio.ends()
    trio.kill("agent")
    before = trio.listener.listening().count("left to the reconciler")
    trio.tell(ended)
    trio.listener.until(lambda: trio.listener.count("left to the reconciler") > before)
    trio.start("agent")
    trio.released(ended)
    trio.listener.until(lambda: "away" not in trio.listener.headline)


def test_an_agent_that_does_not_answer_holds_up_no_other(trio: Trio) -> None:
    other = trio.world.destination
    instance = other.prepared()
    other.loses(instance)
    trio.listener.listening()
    trio.world.source.agent.process.send_signal(signal.SIGSTOP)
    try:
        trio.tell("178b0921-8f85-4257-88b6-2e743b5a975c")
        trio.world.tell(DELETED, instance, other.speaker, other.address)
        other.agent.until(lambda: not other.has(instance))
        assert trio.listener.process.poll() is None
    finally:
        trio.world.source.agent.process.send_signal(signal.SIGCONT)


def test_the_end_leaves_no_message_behind(trio: Trio) -> None:
    ended = trio.ends()
    trio.listener.listening()
    trio.tell(ended)
    trio.released(ended)
    assert trio.listener.stop() == 0
    queues = trio.world.broker.control("list_queues", "name", "messages", "--no-table-headers").split("\n")
    assert [line for line in queues if line.startswith("devagent-relay")] == ["devagent-relay\t0"]
    trio.start("listener")
