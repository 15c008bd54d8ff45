# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who is late, by which clock, and what is told of it."""

from __future__ import annotations

from devagent.service.beats import Beats


class Clocks:
    """A monotonic clock and one on the wall, that a test sets."""

    def __init__(self) -> None:
        self.monotonic, self.wall = 100.0, 1_700_000_000.0

    def beats(self) -> Beats:
        return Beats(lambda: self.monotonic, lambda: self.wall)


def test_a_loop_is_late_after_its_own_limit_and_no_longer_after_a_beat() -> None:
    clocks = Clocks()
    beats = clocks.beats()
    beats.expect("quick", 10)
    beats.expect("slow", 100)
    clocks.monotonic += 11
    assert beats.late() == ("quick",)
    beats.beat("quick")
    assert beats.late() == ()
    clocks.monotonic += 101
    assert beats.late() == ("quick", "slow")


def test_a_clock_that_jumps_makes_nobody_late() -> None:
    clocks = Clocks()
    beats = clocks.beats()
    beats.expect("loop", 10)
    for jump in (+1e9, -2e9):
        clocks.wall += jump
        assert beats.late() == ()


def test_a_loop_that_fails_but_goes_on_is_told_apart_from_one_that_is_silent() -> None:
    clocks = Clocks()
    beats = clocks.beats()
    beats.expect("loop", 10)
    beats.beat("loop", "Placement is away", failed=True)
    (pulse,) = beats.pulses()
    assert (pulse.late, pulse.failed, pulse.detail, pulse.at) == (False, True, "Placement is away", clocks.wall)


def test_who_was_dismissed_is_not_missed_and_a_late_beat_of_it_counts_nothing() -> None:
    clocks = Clocks()
    beats = clocks.beats()
    beats.expect("loop", 10)
    beats.dismiss("loop")
    beats.beat("loop")
    clocks.monotonic += 100
    assert beats.late() == ()
    assert beats.pulses() == ()
