# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Ends child processes, and remembers those that cannot be ended because they hang in the kernel."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

# Seconds that a child has to end: once it was killed; and if it closed its pipe by itself, however busy the host is.
PATIENCE: Final = 0.1
LONG_PATIENCE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Stuck:
    """A process that hangs in the kernel: what it asked about, its number, and since when (epoch seconds).

    The `subject` is empty if it hangs in what closes the look.
    """

    look: str
    subject: str
    pid: int
    since: float

    def __str__(self) -> str:
        return f"still hangs in the kernel (since {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(self.since))})"


# By the process's number; whether it asked this machine, which a capture has nothing to do with, is the second.
_left: dict[int, tuple[Stuck, bool]] = {}


def stuck() -> tuple[Stuck, ...]:
    """Gives the processes that were left behind and hang still, the oldest first."""
    _reap()
    return tuple(each for each, _ in _left.values())


def hanging(look: str, *, machine: bool) -> tuple[Stuck, ...]:
    """Gives those of one look, on this `machine` or on captured hosts."""
    _reap()
    return tuple(each for each, asked_machine in _left.values() if (each.look, asked_machine) == (look, machine))


def leave(pid: int, look: str, subject: str, *, machine: bool) -> None:
    """Remembers a child that does not end."""
    _left[pid] = Stuck(look, subject, pid, time.time()), machine


def ended(pid: int, patience: float) -> str | None:
    """Ends the child and says how it ended; None if it does not, since it hangs in the kernel.

    With `LONG_PATIENCE` it is about to end, and is not killed.
    """
    end = time.monotonic() + patience
    killed = False
    while True:
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # somebody else has taken its end: whose the number is now, nobody knows
            return "ended its process"
        if done:
            code = os.waitstatus_to_exitcode(status)
            return f"ended its process with {signal.Signals(-code).name}" if code < 0 else "ended its process"
        if not killed and patience < LONG_PATIENCE:
            os.kill(pid, signal.SIGKILL)
            killed = True
        if time.monotonic() > end:
            return None
        time.sleep(0.001)


def _reap() -> None:
    """Takes leave of those that have come to their end since."""
    for pid in tuple(_left):
        with suppress(ChildProcessError):
            if not os.waitpid(pid, os.WNOHANG)[0]:
                continue
        del _left[pid]
