# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds out what Placement has with the fewest requests: one listing, and the rest only where it moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from devagent.errors import PlacementConflict, PlacementNotFound
from devagent.inventory import coexistence
from devagent.model.provider import Provider, ProviderTree
from devagent.placement.client import PlacementClient
from devagent.placement.patience import TRIES, Patience
from devagent.placement.state import Memory


class Reader:
    """Reads the tree of one compute node, trusting what is remembered while the generation stands still."""

    def __init__(self, client: PlacementClient, memory: Memory, patience: Patience) -> None:
        self.client, self.memory, self.patience = client, memory, patience

    def tree(self, root: str, tries: int = TRIES) -> dict[str, Provider]:
        """Lists the tree of `root`. Raises PlacementError."""
        return self.patience.call(lambda: self.client.tree(root), tries)

    def complete(self, entries: Iterable[Provider]) -> dict[str, Provider]:
        """Completes listed providers with inventories and traits, from memory where that is still true.

        One that was deleted since it was listed is left out.
        """
        providers = {}
        for entry in entries:
            try:
                providers[entry.uuid] = self.memory.recall(entry) or self.read(entry)
            except PlacementNotFound:
                self.memory.forget(entry.uuid)
        return providers

    def find(self, uuid: str) -> Provider | None:
        """Reads one provider in full; None if it is not there."""
        entry = self.patience.call(lambda: self.client.provider(uuid))
        try:
            return self.read(entry) if entry is not None else None
        except PlacementNotFound:
            return None

    def read(self, entry: Provider) -> Provider:
        """Reads a provider's inventories and traits. Raises PlacementConflict if they never stand still."""
        provider = self.patience.call(lambda: self._read_once(entry))
        self.memory.remember(provider)
        return provider

    def _read_once(self, entry: Provider) -> Provider:
        generation, inventories = self.client.inventories(entry.uuid)
        again, traits = self.client.traits(entry.uuid)
        if generation != again:
            raise PlacementConflict(f"{entry.name} changed while it was read")
        return replace(entry, generation=generation, inventories=inventories, traits=traits)

    def owned(self, desired: ProviderTree, listed: Iterable[Provider]) -> list[coexistence.Owned]:
        """Gives the devices that Nova or Cyborg report already; only providers named as theirs are read."""
        addresses = {address for own in desired.devices.values() for address in own}
        named = [entry for entry in listed if coexistence.address_of(entry) in addresses]
        return coexistence.owned(desired, self.complete(named).values())

    def in_use(self, provider: Provider, classes: Iterable[str]) -> bool:
        """Tells whether anybody holds resources of one of `classes`."""
        usages = self.patience.call(lambda: self.client.usages(provider.uuid))
        return any(usages.get(name, 0) for name in classes)
