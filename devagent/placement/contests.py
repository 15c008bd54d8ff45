# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Notices who undoes time and again what we wrote, and leaves the provider to him for a while."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Final

from devagent.errors import PlacementConflict
from devagent.inventory.diff import Action, Change, compare
from devagent.model.provider import Provider
from devagent.placement.state import Contest

_TIMES: Final = 3  # in a row that somebody undoes what we wrote
_PAUSE: Final = 600.0


def judge(
    contests: MutableMapping[str, Contest],
    changes: Iterable[Change],
    before: Mapping[str, Provider],
    wanted: Iterable[str],
    now: float,
) -> None:
    """Counts for each wanted provider, by UUID, how often in a row somebody undid what we had written.

    `before` is what Placement had when we last saw or wrote it, `changes` what it lacks at `now` (epoch seconds).
    """
    undone = {change.after.uuid for change in changes if _undoes(change, before.get(change.after.uuid))}
    for uuid in wanted:
        if uuid in undone:
            contest = contests.setdefault(uuid, Contest())
            contest.count += 1
            if contest.count >= _TIMES:
                contest.until = now + _PAUSE
        elif now >= contests.get(uuid, Contest()).until:
            contests.pop(uuid, None)


def _undoes(change: Change, known: Provider | None) -> bool:
    """Tells whether a change would write what was there already."""
    if known is None or change.before is None or change.action is not Action.UPDATE:
        return False
    # An older generation is a late answer of a replicated database, nobody's doing.
    later = (change.before.generation or 0) >= (known.generation or 0)
    return later and compare(change.after, known) is None


def ongoing(contests: Mapping[str, Contest], uuid: str, now: float) -> PlacementConflict | None:
    """Says why a provider is left alone; None if it is not."""
    contest = contests.get(uuid)
    # A clock that was once far ahead must not leave the provider alone for years.
    if contest is None or not 0 < contest.until - now <= _PAUSE:
        return None
    return PlacementConflict(
        f"somebody else keeps changing it ({contest.count} times in a row): a second devagent for this host, or a "
        f"tool. It is left alone for {_PAUSE / 60:.0f} minutes; stop the other one"
    )
