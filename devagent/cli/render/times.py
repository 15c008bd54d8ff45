# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Times of the agent's documents in words."""

from __future__ import annotations

from datetime import datetime
from typing import Final

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


def span(seconds: float) -> str:
    """Gives `20 s`, `5 min`, `2 h 5 min` or `3 d 4 h`."""
    left = max(0, int(seconds))
    for number, (size, unit) in enumerate(_UNITS):
        if left >= size:
            smaller, name = _UNITS[number + 1] if number + 1 < len(_UNITS) else (size, "")
            rest = left % size // smaller
            return f"{left // size} {unit} {rest} {name}" if rest else f"{left // size} {unit}"
    return f"{left} s"


def since(at: str | None, now: float) -> str:
    """Gives how long ago a time of a document was; `?` where it is unknown."""
    return "?" if at is None else span(now - _epoch(at))


def until(at: str, now: float) -> str:
    """Gives how long it is until a time of a document."""
    return span(_epoch(at) - now)


def _epoch(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
