# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A loop survives what its turns raise, beats, and ends when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from devagent.errors import PlacementUnreachable
from devagent.service import loop
from devagent.service.beats import Beats, Pulse
from devagent.service.loop import Loop


class Turns(Loop):
    """Does what it was given, one after the other, and then waits."""

    name = "turns"

    def __init__(self, beats: Beats, *turns: Callable[[Loop], None]) -> None:
        super().__init__(beats)
        self.turns, self.done = list(turns), threading.Event()

    def turn(self) -> None:
        if self.turns:
            self.turns.pop(0)(self)
        else:
            self.done.set()
            self.stopping.wait(60)


@pytest.fixture(autouse=True)
def without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_PAUSE", 0.0)


def run(one: Turns) -> None:
    one.start()
    assert one.done.wait(60)
    one.stop()
    one.wait(60)


def test_what_a_turn_raises_is_told_and_the_next_turn_comes() -> None:
    beats = Beats()
    told: list[Pulse] = []

    def fail(_: Loop) -> None:
        raise PlacementUnreachable("Placement is away")

    def look(_: Loop) -> None:
        told.extend(beats.pulses())

    run(Turns(beats, fail, look))
    (pulse,) = told
    assert (pulse.failed, pulse.detail) == (True, "Placement is away")


def test_an_error_that_nobody_expected_is_told_with_its_kind() -> None:
    beats = Beats()
    told: list[Pulse] = []

    def fail(_: Loop) -> None:
        raise KeyError("x")

    run(Turns(beats, fail, lambda _: told.extend(beats.pulses())))
    assert told[0].detail == "KeyError: 'x'"


def test_a_pause_ends_with_the_agent() -> None:
    paused = threading.Event()

    def pause(one: Loop) -> None:
        paused.set()
        one.pause(3600)

    one = Turns(Beats(), pause)
    one.start()
    assert paused.wait(60)
    one.stop()
    one.wait(60)
    assert not one._thread.is_alive()
    assert not one.done.is_set()
