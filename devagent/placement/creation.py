# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Creates many providers: level by level, a few at a time, and their inventories in batches.

Two requests a provider are the least: Placement has no call that creates several or sets traits of
several. Inventories go out by /reshaper, 64 providers a call, where Placement lets us.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from devagent import errors
from devagent.model.provider import Provider
from devagent.placement.client import RESHAPE
from devagent.placement.patience import TRANSIENT
from devagent.placement.writer import Writer

LOG = logging.getLogger(__name__)

# Placement's cost per provider falls until about here; a larger batch meets a busy provider more often.
BATCH: Final = 64
# With a round trip of 20 ms four at once take a third of the time; a single Placement process gains nothing.
POOL: Final = 4
# A refusal is remembered this long (seconds): roles do change.
_REFUSED_FOR: Final = 24 * 3600.0

Outcome = Provider | errors.PlacementError


@dataclass(slots=True)
class Creation:
    """Creates providers with one writer; `clock` gives epoch seconds, `step` is told of each one made."""

    writer: Writer
    clock: Callable[[], float] = time.time
    step: Callable[[], None] | None = None

    def create(self, providers: Sequence[Provider]) -> Iterator[tuple[Provider, Outcome]]:
        """Creates `providers`, parents first, and gives each with what came of it as it is done.

        A provider whose parent could not be made fails with that reason.
        """
        failed: dict[str, errors.PlacementError] = {}
        made: list[tuple[Provider, Provider]] = []
        with ThreadPoolExecutor(POOL, thread_name_prefix="placement") as pool:
            for level in _levels(providers):
                for wanted, outcome in zip(level, pool.map(lambda one: self._bare(one, failed), level), strict=True):
                    if self.step is not None:
                        self.step()
                    if isinstance(outcome, errors.PlacementError):
                        failed[wanted.uuid] = outcome
                        yield wanted, outcome
                    elif wanted.inventories:
                        made.append((wanted, outcome))
                    else:
                        yield wanted, outcome
        # What turned out to exist with an inventory may be in use, which a reshape would not ask about.
        empty = [replace(wanted, generation=bare.generation) for wanted, bare in made if not bare.inventories]
        for batch in _batches(empty):
            yield from self._fill_together(batch)
        yield from self._fill((wanted, bare) for wanted, bare in made if bare.inventories)

    def _bare(self, wanted: Provider, failed: dict[str, errors.PlacementError]) -> Outcome:
        """Makes the provider with its traits, still without inventory."""
        if wanted.parent in failed:
            return errors.PlacementNotFound(f"what it stands below could not be made: {failed[wanted.parent]}")
        try:
            return self.writer.make(wanted, None, fill=False)
        except errors.PlacementError as error:
            return error

    def _fill_together(self, batch: Sequence[Provider]) -> Iterator[tuple[Provider, Outcome]]:
        """Gives the providers of a batch their inventories: all at once, or one by one where that fails."""
        if len(batch) > 1 and self._may_reshape():
            try:
                self.writer.client.reshape({one.uuid: (one.generation or 0, one.inventories) for one in batch})
            except errors.PlacementDenied:
                LOG.info("Placement lets only the role `service` reshape: inventories are set one by one")
                self.writer.memory.reshape_refused = self.clock()
            except (*TRANSIENT, errors.PlacementNotFound, errors.PlacementRejected) as error:
                LOG.debug("a batch of %d inventories failed (%s): set one by one", len(batch), error)
            else:
                # A reshape moves the generation by two; were it otherwise, the next listing would show.
                for one in batch:
                    result = replace(one, generation=(one.generation or 0) + 2)
                    self.writer.memory.remember(result)
                    yield one, result
                return
        yield from self._fill((one, replace(one, inventories={})) for one in batch)

    def _fill(self, providers: Iterable[tuple[Provider, Provider]]) -> Iterator[tuple[Provider, Outcome]]:
        for wanted, actual in providers:
            try:
                yield wanted, self.writer.make(wanted, actual)
            except errors.PlacementError as error:
                yield wanted, error

    def _may_reshape(self) -> bool:
        recently = self.clock() - self.writer.memory.reshape_refused < _REFUSED_FOR
        return self.writer.client.version >= RESHAPE and not recently


def _levels(providers: Iterable[Provider]) -> Iterator[list[Provider]]:
    """Gives the providers by depth: those whose parents are not among them, then their children, and so on."""
    waiting = {provider.uuid: provider for provider in providers}
    while waiting:
        level = [provider for provider in waiting.values() if provider.parent not in waiting]
        if not level:
            raise ValueError("providers are their own parents")
        for provider in level:
            del waiting[provider.uuid]
        yield level


def _batches(providers: Iterable[Provider]) -> Iterator[list[Provider]]:
    iterator = iter(sorted(providers, key=lambda provider: provider.uuid))
    while batch := list(islice(iterator, BATCH)):
        yield batch
