# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent discover --watch`: looks again whenever the kernel says that something changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NoReturn, TextIO

from devagent.cli import difference
from devagent.document import document
from devagent.sources.udev import Changes
from devagent.view import Look

LONGEST: Final = 30.0
"""Seconds after which it looks again in any case: not all that changes is an event."""

_REMEMBERED: Final = 20
_CLEAR: Final = "\x1b[H\x1b[2J"

Render = Callable[[Look], str]
Clock = Callable[[], datetime]


def watch(
    take: Callable[[], Look], render: Render, changes: Changes, output: TextIO, now: Clock = datetime.now
) -> NoReturn:
    """Shows what `take` sees, for ever: on a terminal drawn anew, else once and then only what differs.

    Ends by KeyboardInterrupt, or by BrokenPipeError once nobody reads any more.
    """
    screen = (_Terminal if output.isatty() else _Log)(render, output, now)
    reader = _descriptor(output)
    seen = take()
    before = document(seen)
    screen.show(seen, [])
    while True:
        changes.wait(LONGEST, reader)
        seen = take()
        after = document(seen)
        screen.show(seen, difference.lines(difference.differences(before, after)))
        before = after


class _Terminal:
    """The whole picture, with the last changes below it: where a long one ends, they are still to be seen."""

    def __init__(self, render: Render, output: TextIO, now: Clock) -> None:
        self._render, self._output, self._now = render, output, now
        self._last: deque[str] = deque(maxlen=_REMEMBERED)

    def show(self, seen: Look, changed: Sequence[str]) -> None:
        now = self._now()
        self._last.extend(f"{now:%H:%M:%S}  {line}" for line in changed)
        last = ["", "Last changes:", *self._last] if self._last else []
        text = "\n".join([self._render(seen), *last, "", f"Looked at {now:%H:%M:%S}; Ctrl-C ends."])
        self._output.write(f"{_CLEAR}{text}\n")
        self._output.flush()


class _Log:
    """The picture once, then a line for each change, so that a pipe or a file can be read as it grows."""

    def __init__(self, render: Render, output: TextIO, now: Clock) -> None:
        self._render, self._output, self._now = render, output, now
        self._begun = False

    def show(self, seen: Look, changed: Sequence[str]) -> None:
        if not self._begun:
            self._output.write(f"{self._render(seen)}\n")
        self._begun = True
        stamp = self._now().astimezone().isoformat(timespec="seconds")
        self._output.writelines(f"{stamp} {line}\n" for line in changed)
        self._output.flush()


def _descriptor(output: TextIO) -> int | None:
    """Gives the descriptor behind `output`; None if there is none."""
    try:
        return output.fileno()
    except OSError:
        return None
