# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Takes the cycles in which Placement's allocations are compared with the host, and tells what does not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from devagent.errors import PlacementError
from devagent.inventory.reconcile import Key, Scene, Unexplained, Verdict, held_addresses, reconcile, watched
from devagent.placement.holders import Holders

LOG = logging.getLogger(__name__)

_CYCLES: Final = 2
Tell = Callable[[frozenset[str], tuple[tuple[str, str], ...]], None]
"""Gets the addresses of devices that somebody has allocated, and (address, what) of all that does not fit."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Something found, and in how many cycles in a row."""

    finding: Unexplained
    cycles: int = 1

    @property
    def counts(self) -> bool:
        """Whether it stood long enough to be told."""
        return self.cycles >= _CYCLES


class Reconciler:
    """Has no thread of its own: somebody calls `cycle`.

    `scene` gives what is known of the host and of Placement, None while that is too little; `holders`
    knows who holds what; `tell` gets the outcome.
    """

    def __init__(self, scene: Callable[[], Scene | None], holders: Holders, tell: Tell) -> None:
        self._scene, self._holders, self._tell = scene, holders, tell
        self._standing: dict[Key, Standing] = {}
        self._error: str | None = None

    @property
    def told(self) -> tuple[Standing, ...]:
        """What does not fit, in the order of addresses."""
        return tuple(one for _, one in sorted(self._standing.items()) if one.counts)

    def cycle(self) -> bool:
        """Compares once; tells whether it could.

        It cannot before the first look and listing, nor while Placement does not answer. Then all that
        was found stays as it was.
        """
        scene = self._scene()
        if scene is None:
            return False
        try:
            self._compare(scene)
        except PlacementError as error:
            self._failed(str(error))
            return False
        self._error = None
        return True

    def _compare(self, scene: Scene) -> None:
        holdings = self._holders.update({uuid: entry.generation for uuid, entry in watched(scene).items()})
        verdict = reconcile(scene, holdings)
        if verdict.found:  # what is told must rest on what Placement says now
            holdings = self._holders.confirm(each.provider for each in verdict.found)
            verdict = reconcile(scene, holdings)
        before, self._standing = self._standing, follow(self._standing, verdict)
        _log(before, self._standing)
        self._tell(held_addresses(scene, holdings), tuple((one.finding.address, one.finding.what) for one in self.told))

    def _failed(self, error: str) -> None:
        if error != self._error:
            LOG.warning("who holds devices in Placement could not be read; what was found before stays: %s", error)
        self._error = error


def follow(standing: Mapping[Key, Standing], verdict: Verdict) -> dict[Key, Standing]:
    """Gives what stands after one more cycle.

    What was found about a provider that was not judged this time stays as it was.
    """
    after = {key: one for key, one in standing.items() if one.finding.provider in verdict.unjudged}
    for each in verdict.found:
        before = standing.get(each.key)
        after[each.key] = Standing(each, before.cycles + 1) if before else Standing(each)
    return after


def _log(before: Mapping[Key, Standing], after: Mapping[Key, Standing]) -> None:
    """Says once that something does not fit, and once that it is over."""
    for key, one in sorted(after.items()):
        if one.counts and not (key in before and before[key].counts):
            _say(logging.WARNING, "%s: %s", one)
    for key, one in sorted(before.items()):
        if one.counts and key not in after:
            _say(logging.INFO, "%s: no longer so: %s", one)


def _say(level: int, text: str, one: Standing) -> None:
    address = one.finding.address
    LOG.log(level, text, address, one.finding.what, extra={"device": address})
