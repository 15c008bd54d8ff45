# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What happened when: what the test asked, what came back, and what the kernel said of its devices."""

from __future__ import annotations

import threading
import time


class Timeline:
    """The events of one guest, in order; any thread may add to it."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._events: list[tuple[float, str, str]] = []
        self._lock = threading.Lock()

    def add(self, who: str, what: str) -> None:
        """Notes an event."""
        with self._lock:
            self._events.append((time.monotonic() - self._start, who, what))

    @property
    def now(self) -> float:
        """Seconds since the guest was started."""
        return time.monotonic() - self._start

    def since(self, start: float = 0) -> str:
        """Gives the events from `start` on, one per line; questions that wait for something are shown once."""
        with self._lock:
            events = [event for event in self._events if event[0] >= start]
        lines = []
        for nr, (when, who, what) in enumerate(events):
            if nr < 2 or (who, what) != events[nr - 2][1:]:
                lines.append(f"{when:9.3f}  {who:6}  {what}")
        return "\n".join(lines)
