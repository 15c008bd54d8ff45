# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes one provider what it should be, however often somebody else gets in between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from devagent import errors
from devagent.inventory.diff import Change, compare, same_inventories
from devagent.model.provider import Inventory, Provider
from devagent.placement.client import REPARENT, PlacementClient
from devagent.placement.patience import TRANSIENT, Patience
from devagent.placement.reader import Reader
from devagent.placement.state import Memory

IN_USE: Final = "placement.inventory.inuse"
NAME_TAKEN: Final = "placement.duplicate_name"


class Writer:
    """Writes to Placement with retries; every write is one that can be repeated."""

    def __init__(self, client: PlacementClient, memory: Memory, reader: Reader, patience: Patience) -> None:
        self.client, self.memory, self.reader, self.patience = client, memory, reader, patience

    def make(self, wanted: Provider, actual: Provider | None, *, fill: bool = True, create: bool = True) -> Provider:
        """Makes the provider `wanted` out of `actual` and gives what Placement then has, with its generation.

        That is `wanted`, or while something is in use that should go, the same closed to new consumers;
        without `fill`, its inventories are left as they are. Without `create`, one that somebody deleted
        stays so. Raises PlacementError once re-reading does not help.
        """
        attempt = 1
        while True:
            target = wanted if fill else replace(wanted, inventories=actual.inventories if actual else {})
            try:
                change = compare(target, actual)
                result = self._apply(change) if change is not None else _as(actual)
            except (*TRANSIENT, errors.PlacementNotFound, errors.PlacementRejected) as error:
                self.memory.forget(wanted.uuid)
                if not self._curable(error, wanted, attempt):
                    raise
                actual = self.reader.find(wanted.uuid)
                if actual is None and not create:
                    return replace(wanted, inventories={}, generation=None)
                if actual is None and error.code == NAME_TAKEN:
                    self._check_name(wanted, error)
                attempt += 1
            else:
                self.memory.remember(result)
                return result

    def ensure_names(self, providers: Iterable[Provider]) -> None:
        """Makes sure that all custom traits and classes of `providers` exist, asking only about new ones."""
        wanted = list(providers)
        traits = {name for provider in wanted for name in provider.traits} - self.memory.names
        classes = {name for provider in wanted for name in provider.inventories} - self.memory.names
        self.patience.call(lambda: self.client.ensure_traits(traits))
        for name in sorted(classes):
            self.patience.call(partial(self.client.ensure_resource_class, name))
        self.memory.names |= traits | classes

    def _curable(self, error: errors.PlacementError, wanted: Provider, attempt: int) -> bool:
        if isinstance(error, errors.PlacementRejected):
            # Somebody may have deleted a custom trait or class that we remember: make sure anew, once.
            known = self.memory.names & {*wanted.traits, *wanted.inventories}
            self.memory.names -= known
            if known:
                self.ensure_names([wanted])
            return bool(known) and attempt == 1
        return self.patience.again(error, attempt)

    def _check_name(self, wanted: Provider, error: errors.PlacementError) -> None:
        """Finds who has the name of a provider that is not there.

        Raises PlacementConflict if another has it. If it is `wanted` itself, or nobody, the answers came
        from databases that are not yet the same, and trying again helps.
        """
        holder = self.patience.call(lambda: self.client.find(wanted.name))
        if holder is not None and holder.uuid != wanted.uuid:
            raise errors.PlacementConflict(
                f"its name is taken by the provider {holder.uuid} of another compute node; if that compute node is no "
                f"more, delete it: openstack resource provider delete {holder.uuid}",
                status=error.status,
                code=error.code,
            )

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


def _as(actual: Provider | None) -> Provider:
    if actual is None:
        raise ValueError("a provider that is not there differs from any that is wanted")
    return actual


def _generation(provider: Provider) -> int:
    if provider.generation is None:
        raise ValueError("only a provider that was read has a generation")
    return provider.generation
