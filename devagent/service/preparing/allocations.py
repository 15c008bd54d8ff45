# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a consumer holds in Placement what is prepared for it.

While Nova moves a virtual machine, the migration holds what it has on the source, and the virtual machine itself what
it has on the destination; no consumer says which of the two it is (reference: nova.conductor.tasks.migrate, Nova 34).
"""

from __future__ import annotations

import enum
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Set
from typing import Any

from devagent.errors import PlacementError, PlacementNotFound, PlacementUnreachable
from devagent.model.plan import Group
from devagent.model.preparation import Refusal, RefusalKind
from devagent.placement.client import PlacementClient
from devagent.service.settings import Settings


class Standing(enum.Enum):
    """Who holds what is prepared: its consumer, one that nobody here knows and that has just as much, or nobody."""

    HELD = "held"
    MOVED = "moved"
    GONE = "gone"


class Allocations:
    """Asks Placement, one request a question; `connect` makes a client from the settings in force."""

    def __init__(self, connect: Callable[[Settings], PlacementClient], settings: Callable[[], Settings]) -> None:
        self._connect, self._settings = connect, settings
        self._lock = threading.Lock()
        self._client: PlacementClient | None = None
        self._in_force: Settings | None = None

    def lacking(self, consumer: str, groups: Iterable[Group]) -> Refusal | None:
        """Says what of `groups` the consumer does not hold; None if it holds everything, or nobody asks for that."""
        if not self._settings().check_allocations:
            return None
        try:
            held = self._held(consumer)
        except PlacementError as error:
            reason = f"whether {consumer} holds that in Placement cannot be told: {error}"
            return Refusal(RefusalKind.RETRY, reason)
        wanted = _amounts(groups)
        if not held and not wanted:
            return Refusal(RefusalKind.INVALID, f"{consumer} holds nothing in Placement")
        for (provider, name), amount in sorted(wanted.items()):
            has = held.get(provider, {}).get(name, 0)
            if has < amount:
                reason = f"{consumer} holds {has} {name} of resource provider {provider} in Placement, not {amount}"
                return Refusal(RefusalKind.INVALID, reason)
        return None

    def standing(self, consumer: str, groups: Iterable[Group], others: Set[str]) -> Standing:
        """Tells who holds what was prepared for `consumer`. Raises PlacementError.

        `others` are the consumers that have something prepared here themselves: none of them is its migration.
        Of what Nova itself gave, only that the consumer is there at all can be told.
        """
        wanted = _amounts(groups)
        providers = {provider for provider, _ in wanted}
        held = self._held(consumer).keys()
        if held & providers or (held and not providers):
            return Standing.HELD
        moved: set[str] | None = None
        for provider in sorted(providers):
            there = self._holders(provider)
            here = {name: amount for (uuid, name), amount in wanted.items() if uuid == provider}
            enough = {each for each, has in there.items() if all(has.get(name, 0) >= n for name, n in here.items())}
            moved = enough if moved is None else moved & enough
        return Standing.MOVED if (moved or set()) - others else Standing.GONE

    def _holders(self, provider: str) -> dict[str, dict[str, int]]:
        try:
            return self._connected().holding(provider)[1]
        except PlacementNotFound:
            return {}

    def _held(self, consumer: str) -> dict[str, dict[str, int]]:
        answer: Any = self._connected().allocations(consumer)
        try:
            return {uuid: dict(each["resources"]) for uuid, each in answer["allocations"].items()}
        except (KeyError, TypeError, AttributeError):
            raise PlacementUnreachable(f"what answers is no Placement: {str(answer)[:80]}") from None

    def _connected(self) -> PlacementClient:
        with self._lock:
            settings = self._settings()
            if self._client is None or settings is not self._in_force:
                self._client, self._in_force = self._connect(settings), settings
            return self._client


def _amounts(groups: Iterable[Group]) -> Counter[tuple[str, str]]:
    """Adds up how much of each class of each provider Placement gave."""
    wanted: Counter[tuple[str, str]] = Counter()
    for group in groups:
        for name, amount in group.resources.items() if group.owner is None else ():
            wanted[group.provider, name] += amount
    return wanted
