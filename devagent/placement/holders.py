# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who holds allocations of our providers, asked for only where that may have changed.

Whoever gains something of a provider moves its generation; whoever gives it back by DELETE, or moves
away, does not (measured on Placement 16.0.0). So that nobody holds a provider is true as long as its
generation stands, and costs nothing to know. That somebody does is believed for some hours, and asked
again before anything is said because of it.

Requests: none while nothing moves, one per provider that moved, and once one per provider after a restart.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from devagent.errors import PlacementNotFound
from devagent.inventory.reconcile import Holding
from devagent.placement.patience import Patience

Read = Callable[[str], tuple[int, Holding]]
"""Gives generation and holding of a provider by its UUID, with one request. Raises PlacementError."""

_TRUST_HELD: Final = 6 * 3600.0
# A provider that is deleted and made again starts at generation 0, and may reach the one that we know.
_TRUST_FREE: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was read, at which generation, and until when (by the clock) it is believed."""

    generation: int
    holding: Holding
    until: float


class Holders:
    """Keeps who holds what; `clock` gives seconds and never goes back."""

    def __init__(
        self, read: Read, patience: Patience | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._patience, self._clock = read, patience or Patience(), clock
        self._readings: dict[str, _Reading] = {}
        self._fresh: set[str] = set()

    def update(self, generations: Mapping[str, int | None]) -> dict[str, Holding]:
        """Gives the holdings of the providers whose `generations` a listing told; others are forgotten.

        One that was deleted since is left out. Raises PlacementError; what was read until then is kept.
        """
        self._fresh.clear()
        self._readings = {uuid: one for uuid, one in self._readings.items() if uuid in generations}
        for uuid, generation in generations.items():
            known = self._readings.get(uuid)
            if known is None or known.generation != generation or self._clock() >= known.until:
                self._read(uuid)
        return self._holdings()

    def confirm(self, uuids: Iterable[str]) -> dict[str, Holding]:
        """Gives the same, after reading those of `uuids` that the last update did not read. Raises PlacementError."""
        for uuid in sorted(set(uuids) - self._fresh):
            self._read(uuid)
        return self._holdings()

    def _read(self, uuid: str) -> None:
        self._readings.pop(uuid, None)
        try:
            generation, holding = self._patience.call(lambda: self._ask(uuid))
        except PlacementNotFound:
            return
        trust = _TRUST_HELD if holding else _TRUST_FREE
        # Not all at the same time, on this host or on those that were started with it.
        until = self._clock() + trust * random.uniform(0.75, 1.0)  # noqa: S311 - spreads load, hides nothing
        self._readings[uuid] = _Reading(generation, holding, until)
        self._fresh.add(uuid)

    def _holdings(self) -> dict[str, Holding]:
        return {uuid: one.holding for uuid, one in self._readings.items()}
