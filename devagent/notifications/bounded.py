# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is remembered of endless messages: so much and no more, the oldest forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Bounded(Generic[Key, Value]):
    """Remembers the `limit` entries that were set last; who uses it from several threads holds a lock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def get(self, key: Key) -> Value | None:
        """Gives what was set last; None if that is forgotten."""
        return self._entries.get(key)

    def set(self, key: Key, value: Value) -> None:
        """Remembers it as the newest."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def pop(self, key: Key) -> None:
        """Forgets it."""
        self._entries.pop(key, None)

    def items(self) -> list[tuple[Key, Value]]:
        """Gives all, the oldest first."""
        return list(self._entries.items())
