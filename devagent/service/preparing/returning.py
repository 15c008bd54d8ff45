# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What nobody has in Placement any more and the host does not have back yet: nobody new is sent there for it.

    release begins ── 5 s ── does its consumer still hold it in Placement? ── no ── reserved, until it is back
                               ^────────── yes: it counts as used ──────┘

Most releases end before the first question, and cost none. Of whose allocation is gone nothing is asked again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Final

from devagent.errors import NotPrepared, PlacementError
from devagent.model.preparation import State
from devagent.prepare.entry import Entry
from devagent.service.preparing.allocations import Allocations, Standing
from devagent.service.preparing.journal_keeper import JournalKeeper
from devagent.service.settings import Settings

Amounts = Mapping[str, Mapping[str, int]]
"""By the UUID of the provider and the resource class."""

_SHORT_S: Final = 5.0
"""What ends sooner is not worth a change in Placement: who is sent there meanwhile waits for longer than that."""
_SELDOM_S: Final = 30.0


@dataclass(slots=True)
class _Release:
    """One that is under way; `ask_at`, in seconds of the clock, is None once Placement counts it no more."""

    since: float
    ask_at: float | None
    reserved: bool


class Returning:
    """Counts it, and tells `changed` when it has become another amount; `monotonic` says what is due."""

    def __init__(
        self,
        keeper: JournalKeeper,
        allocations: Allocations,
        settings: Callable[[], Settings],
        changed: Callable[[], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keeper, self._allocations, self._settings = keeper, allocations, settings
        self._changed, self._monotonic = changed, monotonic
        self._known: dict[str, _Release] = {}
        self._amounts: Amounts | None = None

    def amounts(self) -> Amounts:
        """Gives what is to be reserved now."""
        if self._amounts is not None:
            return self._amounts
        # What an earlier process was at was reserved, if it was: that stays until Placement was asked.
        try:
            return _sum(filter(_is_returning, self._keeper.entries()))
        except NotPrepared:
            return {}

    def turn(self, entries: Iterable[Entry]) -> None:
        """Asks Placement what it is time to ask, and counts anew."""
        now, first = self._monotonic(), self._amounts is None
        known = {entry.preparation.consumer: entry for entry in entries}
        found = {consumer: entry for consumer, entry in known.items() if _is_returning(entry)}
        self._known = {
            consumer: self._known.get(consumer) or _Release(now, now if first else now + _SHORT_S, reserved=first)
            for consumer in found
        }
        for consumer, release in self._known.items():
            if release.ask_at is not None and now >= release.ask_at:
                self._ask(found[consumer], release, now, known.keys() - {consumer})
        amounts = _sum(entry for consumer, entry in found.items() if self._known[consumer].reserved)
        if amounts != self._amounts:
            self._amounts = amounts
            self._changed()

    def _ask(self, entry: Entry, release: _Release, now: float, others: Set[str]) -> None:
        held, covered = entry.preparation, False
        try:
            if self._settings().check_allocations:
                # What a migration holds instead counts as used, too.
                covered = self._allocations.standing(held.consumer, held.groups, others) is not Standing.GONE
        except PlacementError:
            return  # as long as it cannot be asked it can be told nothing either
        release.reserved = not covered
        release.ask_at = now + min(_SELDOM_S, now - release.since) if covered else None


def _is_returning(entry: Entry) -> bool:
    """Tells whether devices are held that no virtual machine can have."""
    state = entry.preparation.state
    return state is State.RELEASING or (state is State.FAILED and (entry.unfinished or entry.given))


def _sum(entries: Iterable[Entry]) -> dict[str, dict[str, int]]:
    amounts: dict[str, Counter[str]] = {}
    for entry in entries:
        for handle in entry.preparation.plan.handles:
            amounts.setdefault(handle.provider, Counter())[handle.resource_class] += 1
    return {provider: dict(found) for provider, found in amounts.items()}
