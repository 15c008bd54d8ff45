# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Follows what is wrong with one device, source by source: believed at once, over only after clean checks.

Each source answers for itself: a monitor that is silent ends nothing that it found, and a good PCIe link
ends nothing that the driver found. Checks are counted, not seconds, so that no clock can end a trouble.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from devagent.inventory import aer, health
from devagent.model.device import Device
from devagent.model.health import Condition, End, Health, State, Trouble

DRIVER, LINK, AER, FLAPPING = "driver", "link", "aer", "flapping"
# A source each for the kernel's error recovery and for every XID; a storm of different ones is bounded.
_MOST: Final = 16


@dataclass(frozen=True, slots=True)
class Observed:
    """What one look saw of a device: each source's word, None where it is silent.

    `counters` are the error counters, `action` the recovery action that the GPU's driver names.
    """

    said: Mapping[str, Health | None]
    counters: Mapping[str, int]
    action: str | None

    @property
    def calm(self) -> bool:
        """Whether no source says that anything is wrong."""
        return not any(each is not None and each.state.is_trouble for each in self.said.values())


def observe(device: Device, old: Condition) -> Observed:
    """Asks all sources about a device; the counters are compared with those of the last look."""
    counters = aer.counts(device.function)
    said = {
        DRIVER: health.driver(device.claim),
        LINK: health.link(device.function),
        AER: aer.judge(old.counters, counters),
    }
    return Observed(said, counters or old.counters, device.claim.gpu.recovery_action if device.claim.gpu else None)


def found(
    troubles: Iterable[Trouble], seen: Observed, old: Condition, *, counts: bool, clean_checks: int
) -> tuple[Trouble, ...]:
    """Gives the troubles after a look; unless it `counts` as a check, it can only make things worse."""
    kept = []
    sources = {trouble.source: trouble for trouble in troubles}
    for source in (*sources, *(source for source in seen.said if source not in sources)):
        word, trouble = seen.said.get(source), sources.get(source)
        held = State.UNMONITORED if trouble is None else trouble.health.state
        if word is not None and word.state.is_trouble and word.state.rank >= held.rank:
            # A counter that rose is what happened, not what is: an operator can clear it.
            kept.append(Trouble(source, word, present=source != AER))
        elif trouble is not None:
            better = _is_better(trouble, seen, old)
            kept += _counted(replace(trouble, present=False), word, counts and better, clean_checks)
    return tuple(kept)


def _counted(trouble: Trouble, word: Health | None, clean: bool, clean_checks: int) -> list[Trouble]:
    """Counts a clean check, and ends the trouble with the last of them; what is still said remains."""
    if not clean:
        return [trouble]
    if trouble.clean + 1 < clean_checks:
        return [replace(trouble, clean=trouble.clean + 1)]
    return [Trouble(trouble.source, word)] if word is not None and word.state.is_trouble else []


def _is_better(trouble: Trouble, seen: Observed, old: Condition) -> bool:
    """Tells whether the look is evidence that the trouble is over. Silence is none, nor is an unknown action."""
    if trouble.end is not End.CHECKS:
        return False
    if trouble.source in (LINK, AER):
        return seen.said[trouble.source] is not None
    silent = seen.said[DRIVER] is None and (old.monitor is not None or trouble.source == DRIVER)
    asks = seen.action not in (None, "none") or (old.action is not None and seen.action is None)
    return not silent and not asks and (trouble.source == DRIVER or seen.calm)


def struck(troubles: Iterable[Trouble], new: Trouble) -> tuple[Trouble, ...]:
    """Adds what an occurrence brought; of one source the worse remains, and its clean checks begin anew."""
    others = {trouble.source: trouble for trouble in troubles}
    before = others.pop(new.source, None)
    if before is not None and before.health.state.rank > new.health.state.rank:
        new = replace(before, clean=0)
    kept = sorted((*others.values(), new), key=lambda each: each.health.state.rank, reverse=True)
    return tuple(kept[:_MOST])


def released(troubles: Iterable[Trouble], *ends: End) -> tuple[Trouble, ...]:
    """Says that what one of `ends` waits for was seen: only clean checks are left to wait for."""
    return tuple(
        replace(each, end=End.CHECKS, clean=0, present=False) if each.end in ends else each for each in troubles
    )


def total(troubles: Iterable[Trouble], seen: Observed, device: Device, monitor: str | None) -> Health:
    """Gives the health that follows: the worst trouble, else what the driver says, or why nobody says anything."""
    held = sorted(troubles, key=lambda each: each.health.state.rank, reverse=True)
    silent = seen.said[DRIVER] is None and monitor is not None
    if held:
        reasons = [reason for each in held for reason in each.health.reasons]
        if silent and not all(each.present for each in held):
            reasons.append("nothing watches it now: `devagent health clear` once it is cured")
        return Health(held[0].health.state, tuple(reasons))
    if not silent:
        return Health(State.HEALTHY) if seen.said[DRIVER] is not None else Health()
    if device.function.driver != monitor:  # given away, or on its way: its monitor cannot see it there
        return Health()
    why = device.claim.failure or f"the driver {monitor} told how it is before, and says nothing now"
    return Health(State.UNMONITORED, (why,))
