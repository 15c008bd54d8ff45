# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Locks by name: one per PF, IOMMU group or consumer, never one for the host."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from devagent.errors import DevagentError


class Busy(DevagentError):
    """Somebody else has had the lock `key` for all of the time that there was to wait."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} is at work for somebody else")
        self.key = key


@dataclass(slots=True)
class _Lock:
    lock: threading.Lock = field(default_factory=threading.Lock)
    wanted: int = 0


class Locks:
    """Any number of locks; one that nobody has or wants takes no room."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, _Lock] = {}

    def __len__(self) -> int:
        return len(self._locks)

    def __contains__(self, key: str) -> bool:
        """Tells whether somebody has the lock `key`, or waits for it."""
        return key in self._locks

    @contextmanager
    def holding(self, keys: Iterable[str], until: float) -> Iterator[None]:
        """Holds all of `keys` at once; waits for them until `until` (seconds of time.monotonic), then raises Busy."""
        held: list[str] = []
        try:
            # Everybody takes them in the same order: nobody waits for somebody who waits for him.
            for key in sorted(set(keys)):
                self._take(key, until)
                held.append(key)
            yield
        finally:
            for key in reversed(held):
                self._locks[key].lock.release()
                self._forget(key)

    def _take(self, key: str, until: float) -> None:
        with self._guard:
            lock = self._locks.setdefault(key, _Lock())
            lock.wanted += 1
        if not lock.lock.acquire(timeout=max(0.0, until - time.monotonic())):
            self._forget(key)
            raise Busy(key)

    def _forget(self, key: str) -> None:
        with self._guard:
            self._locks[key].wanted -= 1
            if not self._locks[key].wanted:
                del self._locks[key]
