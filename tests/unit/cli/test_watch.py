# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TextIO

import pytest

from devagent.cli.render import table, tree
from devagent.cli.watch import LONGEST, watch
from devagent.model.happened import Happened
from devagent.sources.udev import Changes, Interval
from devagent.view import Look

from .pictures import gpu, look, troubled


class Times(Changes):
    """Reports a change so many times, then ends as Ctrl-C does."""

    def __init__(self, times: int) -> None:
        self.left, self.waited = times, list[float]()

    def wait(self, seconds: float, reader: int | None = None) -> Happened:
        self.waited.append(seconds)
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return Happened(everything=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def now() -> datetime:
    return datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)


def watched(output: TextIO, *looks: Look) -> Times:
    seen, changes = iter(looks), Times(len(looks) - 1)
    render = tree.render if output.isatty() else table.render
    with pytest.raises(KeyboardInterrupt):
        watch(lambda: next(seen), render, changes, output, now)
    return changes


def shown(output: io.StringIO) -> Sequence[str]:
    return output.getvalue().split("\n")


def test_a_pipe_gets_the_table_once_and_then_only_what_changes() -> None:
    output = io.StringIO()
    changes = watched(output, look(), look(), look(gpu()), look(gpu()), look())
    begun = table.render(look()).split("\n")
    assert list(shown(output)[: len(begun)]) == begun
    stamps = [line.partition(" ") for line in shown(output)[len(begun) :] if line]
    assert [line for _, _, line in stamps] == [
        "+ 0000:3b:00.0 gpu NVIDIA A100, given: given whole",
        "- 0000:3b:00.0 gpu NVIDIA A100, given: given whole",
    ]
    assert {datetime.fromisoformat(stamp) for stamp, _, _ in stamps} == {now()}
    assert set(changes.waited) == {LONGEST}


def test_a_terminal_is_drawn_anew_with_the_last_changes_below() -> None:
    output = Terminal()
    watched(output, look(), look(gpu()))
    screens = output.getvalue().split("\x1b[H\x1b[2J")
    assert len(screens) == 3
    assert screens[1] == f"{tree.render(look())}\n\nLooked at 12:30:15; Ctrl-C ends.\n"
    assert screens[2] == (
        f"{tree.render(look(gpu()))}\n\nLast changes:\n12:30:15  + 0000:3b:00.0 gpu NVIDIA A100, given: given whole\n"
        "\nLooked at 12:30:15; Ctrl-C ends.\n"
    )


def test_only_the_last_changes_are_remembered() -> None:
    output = Terminal()
    watched(output, *[look(gpu()) if number % 2 else look() for number in range(60)])
    last = output.getvalue().rpartition("Last changes:\n")[2].split("\n\n")[0]
    assert len(last.split("\n")) == 20


def test_no_name_can_move_the_cursor() -> None:
    output = Terminal()
    watched(output, look(), troubled())
    assert all(line.isprintable() for line in output.getvalue().replace("\x1b[H\x1b[2J", "").split("\n"))


def test_it_ends_as_soon_as_nobody_reads_any_more() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as output:
        looks = 0

        def take() -> Look:
            nonlocal looks
            looks += 1
            if looks == 2:
                os.close(reader)
            return look()

        with pytest.raises(BrokenPipeError):
            watch(take, table.render, Interval(0.01), output, now)
    assert looks == 2
