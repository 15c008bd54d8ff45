# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Follows the health of all devices from look to look, with what happened in between, and over reboots."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from devagent.inventory import evidence, happenings, operators, troubles
from devagent.inventory.troubles import Observed
from devagent.model.claim import Mode
from devagent.model.device import Decision, Device, Share
from devagent.model.health import Book, Condition, End, Given, Health, Kept, State, Trouble
from devagent.model.occurrence import Occurrence

_GONE_FOR: Final = 30 * 86400.0
_MOST_GONE: Final = 256


@dataclass(frozen=True, slots=True)
class Rules:
    """How health is judged: [health] clean_checks, flap_limit, flap_window (seconds) and xids."""

    clean_checks: int = 3
    flap_limit: int = 3
    flap_window: float = 3600.0
    xids: Mapping[int, str] = field(default_factory=dict)


def follow(
    devices: Iterable[Device],
    book: Book,
    occurrences: Iterable[Occurrence],
    now: float,
    rules: Rules,
    *,
    checked: Collection[str] | None = None,
    complete: bool = True,
) -> Book:
    """Gives the book after a look at `devices` and what happened before it.

    A look counts as a clean check of the devices in `checked` alone (addresses; None: of all): one that an
    event caused finds what is worse, but must not end anything sooner. Unless the look was `complete`, a
    device that is missing may only be unread.
    """
    happened = happenings.by_address(occurrences)
    present = {device.key: device for device in devices}
    followed = {
        name: _followed(
            device,
            book.get(name),
            happenings.of_device(device, happened),
            now,
            rules,
            counts=checked is None or device.address in checked,
        )
        for name, device in present.items()
    }
    missing = {name: condition for name, condition in book.items() if name not in present}
    return {**_remembered(_gone(missing, now) if complete else missing, now), **followed}


def settled(devices: Iterable[Device], book: Book, now: float) -> tuple[Device, ...]:
    """Gives the devices with the health that counts: the operator's word, else what is followed.

    A device that must not be given is often one that cannot be read either, a GPU off the bus above all. It
    is then decided about as it was before, or what was offered of it would stay open.
    """
    return tuple(_settled(device, book[name], now) if (name := device.key) in book else device for device in devices)


def _settled(device: Device, condition: Condition, now: float) -> Device:
    health, given, decision = operators.verdict(condition, now), condition.given, device.decision
    if decision.unknown and health.state.is_fenced and given is not None:
        reason = f"{decision.reason}; it is closed as it was given before"
        decision = Decision(
            True, reason, given.rule, Mode(given.mode), given.resource_class, given.total, frozenset(given.traits),
            shares=tuple(Share(*each) for each in given.shares),
        )  # fmt: skip
    return replace(device, health=health, decision=decision)


def resume(kept: Kept, boot_id: str | None) -> Kept:
    """Gives what was kept as it stands in the boot `boot_id`.

    A reboot resets every device, so XIDs and failed recoveries have only clean checks to wait for; error
    counters and the kernel log begin anew. What monitors found, flaps and operators' words stay.
    """
    if boot_id is None or kept.boot_id is None or boot_id == kept.boot_id:
        return replace(kept, boot_id=boot_id or kept.boot_id)
    return Kept({name: _rebooted(condition) for name, condition in kept.book.items()}, boot_id)


def _rebooted(old: Condition) -> Condition:
    freed = troubles.released(old.troubles, End.RESET, End.RECOVERY)
    anew = tuple(replace(each, clean=0) for each in freed)
    return replace(old, troubles=anew, counters={}, action=None)


def _gone(missing: Mapping[str, Condition], now: float) -> dict[str, Condition]:
    """Says of those that are missing since when they are."""
    return {name: each if each.gone is not None else replace(each, gone=now) for name, each in missing.items()}


def _remembered(missing: Mapping[str, Condition], now: float) -> dict[str, Condition]:
    """Gives those of the missing devices that may still come back; the latest to go if they are too many."""
    gone = [(each.gone, name) for name, each in missing.items() if each.gone is not None]
    recent = [name for since, name in sorted(gone) if now - since < _GONE_FOR][-_MOST_GONE:]
    unread = [name for name, each in missing.items() if each.gone is None]
    return {name: missing[name] for name in (*recent, *unread)}


def _followed(
    device: Device,
    before: Condition | None,
    happened: Iterable[Occurrence],
    now: float,
    rules: Rules,
    *,
    counts: bool,
) -> Condition:
    old = before or Condition(since=now)
    seen = troubles.observe(device, old)
    held = old.troubles
    if _was_reset(device, old, seen):
        held = troubles.released(held, End.RESET, End.RECOVERY)
    known = troubles.found(held, seen, old, counts=counts, clean_checks=rules.clean_checks)
    told = evidence.news(held, known, now)
    # Last, so that no look ends what was told at the same time.
    acts = seen.action is not None or old.action is not None
    for occurrence in happened:
        known, left = happenings.happened(device, known, occurrence, now, rules.xids, acts=acts)
        told += left
    return _concluded(device, evidence.noted(old, *told), known, seen, now, rules)


def _was_reset(device: Device, old: Condition, seen: Observed) -> bool:
    """Tells whether the device went through a reset since the last look, by what can be seen of it."""
    rebound = "driver" not in device.function.unread and device.function.driver != old.driver
    obeyed = old.action not in (None, "none") and seen.action == "none"
    return old.gone is not None or rebound or obeyed


def _concluded(
    device: Device, old: Condition, known: tuple[Trouble, ...], seen: Observed, now: float, rules: Rules
) -> Condition:
    """Draws the conclusion from the troubles: the state, since when, and whether it goes to and fro."""
    driver = old.driver if "driver" in device.function.unread else device.function.driver
    monitor = driver if seen.said[troubles.DRIVER] is not None else old.monitor
    health = troubles.total(known, seen, device, monitor)
    was, is_ = old.health.state.is_fenced, health.state.is_fenced
    flaps = _flaps(old, now, rules, again=is_ and not was and old.recovered)
    if 0 < rules.flap_limit <= len(flaps):
        known = troubles.struck(known, _flapping(len(flaps), rules))
        health = troubles.total(known, seen, device, monitor)
    same = health.state is old.health.state
    return replace(
        old,
        health=health,
        since=min(old.since, now) if same else now,
        clean=min((each.clean for each in known), default=0),
        flaps=flaps,
        override=old.override if old.override and old.override.holds(now) else None,
        counters=dict(seen.counters),
        troubles=known,
        driver=driver,
        monitor=monitor,
        action=_action(old, driver, seen),
        recovered=old.recovered or (was and not is_),
        gone=None,
        given=_given(device.decision, old.given),
    )


def _flaps(old: Condition, now: float, rules: Rules, *, again: bool) -> tuple[float, ...]:
    """Gives when the device became unhealthy again of late, no more often than it takes to be flapping."""
    flaps = tuple(min(each, now) for each in old.flaps if now - each < rules.flap_window)
    return (*flaps, now)[-max(1, rules.flap_limit) :] if again else flaps


def _given(decision: Decision, before: Given | None) -> Given | None:
    """Gives how the device is given, or was before nothing could be decided."""
    if decision.unknown:
        return before
    if not decision.managed or decision.mode is None or decision.resource_class is None or not decision.total:
        return None
    traits = tuple(sorted(decision.traits))
    shares = tuple((each.resource_class, each.total, each.closed) for each in decision.shares)
    return Given(decision.mode.value, decision.resource_class, decision.total, decision.rule, traits, shares)


def _action(old: Condition, driver: str | None, seen: Observed) -> str | None:
    """Gives the recovery action that was last named; another driver knows nothing of it."""
    if seen.action is not None or driver != old.driver:
        return seen.action
    return old.action


def _flapping(times: int, rules: Rules) -> Trouble:
    text = (
        f"flapping: unhealthy again {times} times within {rules.flap_window / 60:.0f} min; "
        "clear it with `devagent health clear`"
    )
    return Trouble(troubles.FLAPPING, Health(State.UNHEALTHY, (text,)), End.CLEAR, present=False)
