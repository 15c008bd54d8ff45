# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a consumer holds in Placement what is prepared for it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from devagent.errors import PlacementError, PlacementUnreachable
from devagent.model.plan import Group
from devagent.model.preparation import Refusal, RefusalKind
from devagent.placement.client import PlacementClient
from devagent.service.settings import Settings


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
        wanted: Counter[tuple[str, str]] = Counter()
        for group in groups:
            for name, amount in group.resources.items():
                wanted[group.provider, name] += amount
        for (provider, name), amount in sorted(wanted.items()):
            has = held.get(provider, {}).get(name, 0)
            if has < amount:
                reason = f"{consumer} holds {has} {name} of resource provider {provider} in Placement, not {amount}"
                return Refusal(RefusalKind.INVALID, reason)
        return None

    def knows(self, consumer: str, providers: Iterable[str]) -> bool:
        """Tells whether a consumer holds anything of one of `providers`. Raises PlacementError."""
        return bool(self._held(consumer).keys() & set(providers))

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
