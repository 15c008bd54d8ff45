# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes one provider what it should be, however often somebody else gets in between."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from devagent import errors
from devagent.inventory.diff import Change, compare, same_inventories
from devagent.model.provider import Inventory, Provider
from devagent.placement.client import REPARENT, PlacementClient
from devagent.placement.reader import Reader
from devagent.placement.state import Memory

LOG = logging.getLogger(__name__)

IN_USE: Final = "placement.inventory.inuse"
NAME_TAKEN: Final = "placement.duplicate_name"
_TRIES: Final = 8
_TRIES_UNCONNECTED: Final = 3
_BACKOFF: Final = 0.05  # seconds; doubles with each try, with full jitter
_LONGEST_WAIT: Final = 30.0

# What a re-read can cure: somebody was quicker, or Placement stumbled (it answers lost races with 500 too).
TRANSIENT: Final = (errors.PlacementConflict, errors.PlacementUnreachable)


class Writer:
    """Writes to Placement with retries; every write is one that can be repeated."""

    def __init__(
        self, client: PlacementClient, memory: Memory, reader: Reader, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.client, self.memory, self.reader, self._sleep = client, memory, reader, sleep

    def make(self, wanted: Provider, actual: Provider | None, *, fill: bool = True) -> Provider:
        """Makes the provider `wanted` out of `actual` and gives what Placement then has, with its generation.

        That is `wanted`, or while something is in use that should go, the same closed to new consumers;
        without `fill`, its inventories are left as they are. Raises PlacementError once re-reading does
        not help.
        """
        for attempt in range(1, _TRIES + 1):
            target = wanted if fill else replace(wanted, inventories=actual.inventories if actual else {})
            try:
                change = compare(target, actual)
                result = self._apply(change) if change is not None else replace(target, generation=_generation(actual))
            except (*TRANSIENT, errors.PlacementNotFound, errors.PlacementRejected) as error:
                self.memory.forget(wanted.uuid)
                if not self._curable(error, wanted, attempt):
                    raise
                self.wait(error, attempt)
                entry = self.client.provider(wanted.uuid)
                if entry is None and isinstance(error, errors.PlacementConflict) and error.code == NAME_TAKEN:
                    raise  # by a provider elsewhere, as it is not ours under this UUID
                actual = self.reader.read(entry) if entry is not None else None
            else:
                self.memory.remember(result)
                return result
        raise AssertionError("the last try raises")

    def ensure_names(self, providers: Iterable[Provider]) -> None:
        """Makes sure that all custom traits and classes of `providers` exist, asking only about new ones."""
        traits = {name for provider in providers for name in provider.traits} - self.memory.names
        classes = {name for provider in providers for name in provider.inventories} - self.memory.names
        for attempt in range(1, _TRIES + 1):
            try:
                self.client.ensure_traits(traits)
                for name in sorted(classes):
                    self.client.ensure_resource_class(name)
            except TRANSIENT as error:
                if attempt == _TRIES or (error.status is None and attempt >= _TRIES_UNCONNECTED):
                    raise
                self.wait(error, attempt)
            else:
                self.memory.names |= traits | classes
                return

    def wait(self, error: errors.PlacementError, attempt: int) -> None:
        """Waits before the next try: longer each time, spread at random, and as long as a proxy asks."""
        LOG.debug("%s; read again (%d)", error, attempt)
        spread = random.uniform(0, _BACKOFF * 2**attempt)  # noqa: S311 - spreads retries, hides nothing
        self._sleep(min(max(error.retry_after, spread), _LONGEST_WAIT))

    def _curable(self, error: errors.PlacementError, wanted: Provider, attempt: int) -> bool:
        if isinstance(error, errors.PlacementRejected):
            # Somebody may have deleted a custom trait or class that we remember: make sure anew, once.
            known = self.memory.names & {*wanted.traits, *wanted.inventories}
            self.memory.names -= known
            if known:
                self.ensure_names([wanted])
            return bool(known)
        if isinstance(error, errors.PlacementUnreachable) and error.status is None:
            return attempt < _TRIES_UNCONNECTED
        return attempt < _TRIES

    def _apply(self, change: Change) -> Provider:
        """Makes one change: the provider, then its traits, then its inventories.

        In this order no scheduler ever sees an inventory without the traits that say what it is.
        """
        before, after = change.before, change.after
        if before is None:
            generation = self.client.create(after)
        else:
            generation = _generation(before)
            if change.moves:
                self._move(before, after)
        if change.sets_traits:
            generation = self.client.set_traits(after.uuid, generation, after.traits)
        if not change.sets_inventories:
            return replace(after, generation=generation)
        return self._set_inventories(replace(after, generation=generation), before.inventories if before else {})

    def _move(self, before: Provider, after: Provider) -> None:
        if before.parent != after.parent and self.client.version < REPARENT:
            raise errors.PlacementRejected(
                f"{before.name} cannot be moved below {after.parent}: this Placement knows how only from microversion "
                "1.37 (Wallaby) on; upgrade it, or set [inventory] nest back to what it was"
            )
        self.client.update(after)

    def _set_inventories(self, after: Provider, before: Mapping[str, Inventory]) -> Provider:
        generation = _generation(after)
        try:
            return replace(after, generation=self.client.set_inventories(after.uuid, generation, after.inventories))
        except errors.PlacementConflict as error:
            if error.code != IN_USE:
                raise
        held = drained(before, after.inventories)
        if not same_inventories(held, before):
            generation = self.client.set_inventories(after.uuid, generation, held)
        return replace(after, inventories=held, generation=generation)


def drained(before: Mapping[str, Inventory], after: Mapping[str, Inventory]) -> dict[str, Inventory]:
    """Gives what a provider can have while classes that should go are in use.

    Who holds them keeps them, nobody else gets any; classes that come in their place wait, since they
    are the same hardware.
    """
    going = {name: inventory for name, inventory in before.items() if name not in after}
    staying = {name: inventory for name, inventory in after.items() if name in before}
    return {**{name: replace(inventory, reserved=inventory.total) for name, inventory in going.items()}, **staying}


def _generation(provider: Provider | None) -> int:
    if provider is None or provider.generation is None:
        raise ValueError("only a provider that was read has a generation")
    return provider.generation
