# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How the planner's parts say no to each other; nothing outside the planner ever sees it raised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from devagent.model.preparation import Holder, Refusal, RefusalKind


class Refused(Exception):
    """A plan is not possible, for this reason."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


def invalid(reason: str, address: str | None = None) -> Refusal:
    """Says that the request itself is wrong, on whichever host."""
    return Refusal(RefusalKind.INVALID, reason, address)


def permanent(reason: str, address: str | None = None) -> Refusal:
    """Says that this host cannot do it, now or soon."""
    return Refusal(RefusalKind.PERMANENT, reason, address)


def retry(reason: str, address: str | None, holders: Iterable[Holder] = ()) -> Refusal:
    """Says that it is busy, and who with."""
    return Refusal(RefusalKind.RETRY, reason, address, tuple(holders))


def shortage(wanted: int, free: int, what: str, obstacles: Sequence[Refusal]) -> Refusal:
    """Says why there are not enough: it can be asked again if any of the obstacles goes away by itself."""
    busy = [each for each in obstacles if each.kind is RefusalKind.RETRY]
    if free == 0 and len(obstacles) == 1:
        return obstacles[0]
    reasons = list(dict.fromkeys(each.reason for each in busy or obstacles))
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    said = f": {'; '.join(reasons[:3])}{more}" if reasons else ""
    holders = dict.fromkeys(holder for each in busy for holder in each.holders)
    kind = RefusalKind.RETRY if busy else RefusalKind.PERMANENT
    return Refusal(kind, f"{what}: {wanted} asked for, {free} free{said}", None, tuple(holders))
