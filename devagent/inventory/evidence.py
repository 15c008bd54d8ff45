# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps what was seen of a device's health: the newest of each subject, so that no storm hides what matters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from devagent.inventory import troubles
from devagent.model.health import Condition, Evidence, Trouble

_MOST: Final = 16


def news(before: Iterable[Trouble], after: Iterable[Trouble], now: float) -> list[Evidence]:
    """Gives what a look found that is new or worse, and what it found to be over; XIDs speak for themselves."""
    old, new = ({each.source: each for each in some} for some in (before, after))
    told = []
    for source, trouble in new.items():
        worse = source not in old or trouble.health.state.rank > old[source].health.state.rank
        if worse and source in (troubles.DRIVER, troubles.LINK, troubles.AER):
            told.append(Evidence(now, "; ".join(trouble.health.reasons), source))
    told += [Evidence(now, f"{source}: well again", f"{source} again") for source in old if source not in new]
    return told


def noted(old: Condition, *news: Evidence) -> Condition:
    """Adds to the evidence; the newest of each subject is kept, with how often there was one."""
    kept = {each.subject: each for each in old.evidence}
    for each in news:
        before = kept.pop(each.subject, None)
        kept[each.subject] = replace(each, times=before.times + 1) if before else each
    return replace(old, evidence=tuple(kept.values())[-_MOST:])
