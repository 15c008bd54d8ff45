# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Knows whether every loop of the agent makes progress: what the watchdog is fed by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pulse:
    """One loop: `at` is when it last made progress (epoch seconds), `detail` what it is at or what it failed with."""

    name: str
    late: bool
    failed: bool
    at: float
    detail: str | None


@dataclass(slots=True)
class _Entry:
    limit: float
    last: float
    at: float
    detail: str | None = None
    failed: bool = False


class Beats:
    """Takes the beats of the loops, each of which may be silent for its own limit in seconds.

    `monotonic` decides who is late, so that a clock that jumps makes nobody so; `clock` is what people are shown.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, clock: Callable[[], float] = time.time) -> None:
        self._monotonic, self._clock = monotonic, clock
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    def expect(self, name: str, limit: float) -> None:
        """Expects beats of a loop from now on."""
        with self._lock:
            self._entries[name] = _Entry(limit, self._monotonic(), self._clock())

    def beat(self, name: str, detail: str | None = None, *, failed: bool = False) -> None:
        """Takes a beat; `failed` loops go on, but not as they should."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None:
                entry.last, entry.at = self._monotonic(), self._clock()
                entry.detail, entry.failed = detail, failed

    def dismiss(self, name: str) -> None:
        """Expects no more beats of a loop that was stopped."""
        with self._lock:
            self._entries.pop(name, None)

    def pulses(self) -> tuple[Pulse, ...]:
        """Gives every loop, in the order in which they were started."""
        with self._lock:
            now = self._monotonic()
            return tuple(
                Pulse(name, now - entry.last > entry.limit, entry.failed, entry.at, entry.detail)
                for name, entry in self._entries.items()
            )

    def late(self) -> tuple[str, ...]:
        """Gives the loops that have been silent for too long."""
        return tuple(pulse.name for pulse in self.pulses() if pulse.late)
