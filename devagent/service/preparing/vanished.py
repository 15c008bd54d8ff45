# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds the consumers that hold nothing any more in Placement of what is prepared for them.

every reconcile_interval   all that are old enough and that no process was seen to use, and soon after the start
after a hint               those that it names, at once and some times more
half a minute later        those that were found to hold nothing for the first time

A hint says that something happened to a virtual machine, never that its devices are free: Nova tells of it before it
gives the allocation back, or after others have it. Whoever is found twice in a row to hold nothing is gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from devagent.errors import PlacementError
from devagent.model.preparation import Preparation
from devagent.service.preparing.allocations import Allocations, Standing
from devagent.service.settings import Settings

LOG = logging.getLogger(__name__)

_AFTER_A_HINT_S: Final = (0.0, 2.0, 5.0, 15.0, 45.0)
_AGAIN_S: Final = 30.0
_FIRST_S: Final = 60.0
"""After the start, so that what happened while no agent was there is found within minutes."""
_YOUNG_S: Final = 120.0
"""Nobody is looked for before without a hint: what builds it may be about to use it."""


class Vanished:
    """`hint` may be called from any thread, the rest from one; `monotonic` says what is due, `clock` how old it is."""

    def __init__(
        self,
        allocations: Allocations,
        settings: Callable[[], Settings],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._allocations, self._settings = allocations, settings
        self._monotonic, self._clock = monotonic, clock
        self._lock = threading.Lock()
        self._hints: dict[str, tuple[float, ...]] = {}
        """By consumer, the times at which it is still to be looked for."""
        self._unknown: set[str] = set()
        self._moved: set[str] = set()
        self._next_check = monotonic() + min(_FIRST_S, settings().reconcile_interval)

    def hint(self, consumers: Iterable[str]) -> None:
        """Has these consumers looked for soon, whatever was known of them."""
        now = self._monotonic()
        with self._lock:
            for consumer in consumers:
                self._hints[consumer] = tuple(now + later for later in _AFTER_A_HINT_S)

    def due_in(self, at_most: float) -> float:
        """Gives the seconds until a hint wants to be looked after, and no more than `at_most`."""
        with self._lock:
            due = [times[0] for times in self._hints.values()]
        return max(0.0, min([at_most, *(at - self._monotonic() for at in due)]))

    def find(self, prepared: Iterable[Preparation], idle: Iterable[Preparation]) -> list[Preparation]:
        """Gives those of `prepared` that are gone, as far as it is time to ask.

        `idle` are those of them that no process was seen to use. While Placement does not answer nobody is gone.
        """
        if not self._settings().check_allocations:
            return []
        known = {each.consumer: each for each in prepared}
        now = self._monotonic()
        asked = {name: known[name] for name in self._hinted(now) if name in known}
        if now >= self._next_check:
            self._next_check = now + self._settings().reconcile_interval
            # Who was begun later than now is old, and the clock was set back.
            at = self._clock()
            asked |= {each.consumer: each for each in idle if not 0 <= at - each.created < _YOUNG_S}
            self._unknown &= asked.keys()
        self._moved &= known.keys()
        try:
            return [found for found in asked.values() if self._is_gone(found, known.keys())]
        except PlacementError as error:
            LOG.warning("whether consumers still hold their devices cannot be told: %s", error)
            return []

    def _hinted(self, now: float) -> list[str]:
        with self._lock:
            due = [name for name, times in self._hints.items() if times[0] <= now]
            left = {name: tuple(at for at in times if at > now) for name, times in self._hints.items()}
            self._hints = {name: times for name, times in left.items() if times}
        return due

    def _is_gone(self, found: Preparation, consumers: Iterable[str]) -> bool:
        consumer = found.consumer
        standing = self._allocations.standing(consumer, found.groups, set(consumers) - {consumer})
        if standing is Standing.MOVED and consumer not in self._moved:
            LOG.info("%s is kept: another consumer holds its devices in Placement, as while it is moved", consumer)
            self._moved.add(consumer)
        if standing is not Standing.GONE:
            self._unknown.discard(consumer)
            return False
        before = consumer in self._unknown
        self._unknown.add(consumer)
        if not before:
            with self._lock:
                self._hints.setdefault(consumer, (self._monotonic() + _AGAIN_S,))
        return before
