# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Points at which the agent can be killed: before and after each journal write, verb, and write to the kernel."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from devagent.prepare.journal import Journal

WRITES: Final = (
    "begin", "intend", "undone", "finish", "failed", "again", "rebooted", "releasing", "released", "blocked",
    "forget", "held_up", "displaced",
)  # fmt: skip


class Killed(BaseException):
    """In a process that cannot really be killed: nothing of it does anything from now on."""


@dataclass
class Trap:
    """Counts the points at which somebody could be killed, and kills at one of them."""

    at: int | None = None
    kill: Callable[[], None] = lambda: None
    seen: list[str] = field(default_factory=list)

    def __call__(self, point: str) -> None:
        if self.at is not None and len(self.seen) >= self.at:
            self.kill()
        self.seen.append(point)


def raise_killed() -> None:
    """Kills in-process: every further point raises too, so that nothing more is written."""
    raise Killed


def kill_for_good() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class TrappedJournal(Journal):
    """A journal with a point before and after each of its writes."""

    trap: Callable[[str], None] = Trap()


def _trapped(name: str) -> Callable[..., None]:
    def write(self: TrappedJournal, *arguments: Any, **named: Any) -> None:
        self.trap(f"before the journal's {name}")
        getattr(Journal, name)(self, *arguments, **named)
        self.trap(f"after the journal's {name}")

    return write


for _name in WRITES:
    setattr(TrappedJournal, _name, _trapped(_name))
