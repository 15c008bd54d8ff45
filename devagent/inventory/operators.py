# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What operators say of a device's health: it counts until it ends, is shown as theirs, and hides no lost device."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from devagent.inventory import evidence
from devagent.model.health import Book, Condition, Evidence, Health, Override, State

OVERRIDES: Final = (State.HEALTHY, State.SUSPECT, State.UNHEALTHY)
"""What an operator may say; that a device is lost, nobody can say away."""


def verdict(condition: Condition, now: float) -> Health:
    """Gives the health that counts: an override that holds wins, but it is shown, and hides no lost device."""
    monitors, said = condition.health, condition.override
    if said is None or not said.holds(now):
        return monitors
    reasons = [_words(said)]
    if monitors.reasons:
        reasons.append(f"monitors say {monitors.state}: {'; '.join(monitors.reasons)}")
    return Health(State.LOST if monitors.state is State.LOST else said.state, tuple(reasons))


def override(book: Book, name: str, said: Override, now: float) -> Book:
    """Notes an operator's word.

    Raises KeyError for an unknown device, ValueError for a state that nobody can set or a time that is none.
    """
    if said.state not in OVERRIDES:
        raise ValueError(f"{said.state} cannot be set: {', '.join(OVERRIDES)} can")
    noted = evidence.noted(book[name], Evidence(now, _words(said), "override"))
    return {**book, name: replace(noted, override=said)}


def clear(book: Book, name: str, by: str, now: float) -> Book:
    """Forgets override, flaps and all that is wrong but what the last look itself saw. Raises KeyError."""
    old = evidence.noted(book[name], Evidence(now, f"cleared by {by}", "override"))
    left = tuple(each for each in old.troubles if each.present)
    worst = max((each.health.state for each in left), key=lambda state: state.rank, default=None)
    health = Health(worst or State.UNMONITORED, tuple(reason for each in left for reason in each.health.reasons))
    cleared = replace(old, health=health, troubles=left, flaps=(), override=None, recovered=False)
    return {**book, name: replace(cleared, clean=0, since=now if health.state is not old.health.state else old.since)}


def _words(said: Override) -> str:
    return f"set to {said.state} by {said.by}{_until(said)}: {said.reason}"


def _until(said: Override) -> str:
    if said.until is None:
        return ""
    try:
        return f" until {datetime.fromtimestamp(said.until, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, OSError, ValueError):
        raise ValueError(f"{said.until} is no time that a calendar has") from None
