# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is to be looked at: whoever wants a look says so, in any thread, and the look loop takes all of it at once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from devagent.model.occurrence import DriverLoaded, Occurrence
from devagent.service.settings import Settings

_TICK: Final = 5.0


@dataclass(slots=True)
class Wanted:
    """What is to be looked at: `everything`, or the devices at these addresses; `done` are told afterwards."""

    everything: bool = True
    addresses: set[str] = field(default_factory=set)
    occurrences: list[Occurrence] = field(default_factory=list)
    log_position: int | None = None
    check: bool = False
    done: list[threading.Event] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Whether there is a reason to look."""
        return bool(self.everything or self.addresses or self.occurrences or self.check)


class Wishes:
    """Collects them until they are taken; the clock wants something, too. `stopping` ends the wait for them."""

    def __init__(self, stopping: threading.Event, settings: Callable[[], Settings]) -> None:
        self._stopping, self._settings = stopping, settings
        self._condition = threading.Condition()
        self._wanted = Wanted()
        self._next_full = self._next_check = 0.0

    def want(
        self, addresses: Iterable[str], occurrences: Iterable[Occurrence], log_position: int | None, *, everything: bool
    ) -> None:
        """Asks for a look at these devices, or at everything; see LookLoop.want."""
        with self._condition:
            self._wanted.addresses.update(addresses)
            self._wanted.addresses.update(address for each in occurrences if (address := where(each)))
            self._wanted.occurrences.extend(occurrences)
            self._wanted.log_position = log_position if log_position is not None else self._wanted.log_position
            self._wanted.everything |= everything
            self._condition.notify_all()

    def rescan(self) -> threading.Event:
        """Asks for a look at everything that begins after now; gives what is set when it has ended."""
        done = threading.Event()
        with self._condition:
            self._wanted.everything = True
            self._wanted.done.append(done)
            self._condition.notify_all()
        return done

    def wake(self) -> None:
        """Ends the wait of who takes them."""
        with self._condition:
            self._condition.notify_all()

    def take(self) -> Wanted | None:
        """Waits for them, some seconds at most, and gives them; None if there are none."""
        with self._condition:
            now = time.monotonic()
            due = min(self._next_full, self._next_check) - now
            self._condition.wait_for(lambda: self._wanted.anything or self._stopping.is_set(), min(max(due, 0), _TICK))
            now = time.monotonic()
            full = now >= self._next_full
            self._wanted.everything |= full
            self._wanted.check |= full or now >= self._next_check
            if not self._wanted.anything:
                return None
            wanted, self._wanted = self._wanted, Wanted(everything=False)
            settings = self._settings()
            if wanted.everything:
                # Not to the second: ten thousand hosts that were switched on together would look together for ever.
                self._next_full = now + settings.scan_interval * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
            if wanted.check:
                self._next_check = now + settings.health_interval
            return wanted

    def again(self, wanted: Wanted) -> None:
        """Asks anew, and for everything, after a look that came to nothing: what happened before it still counts."""
        with self._condition:
            self._wanted.everything = True
            self._wanted.occurrences[:0] = wanted.occurrences
            if self._wanted.log_position is None:
                self._wanted.log_position = wanted.log_position
            self._wanted.done.extend(wanted.done)


def where(occurrence: Occurrence) -> str | None:
    """Gives the device that something happened to; None if it happened to all of a driver's."""
    return None if isinstance(occurrence, DriverLoaded) else occurrence.address
