# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds out what Placement has with the fewest requests: one listing, and the rest only where it moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from devagent.inventory import coexistence
from devagent.model.provider import Provider, ProviderTree
from devagent.placement.client import PlacementClient
from devagent.placement.state import Memory

_TRIES: Final = 8


class Reader:
    """Reads the tree of one compute node, trusting what is remembered while the generation stands still."""

    def __init__(self, client: PlacementClient, memory: Memory) -> None:
        self.client, self.memory = client, memory

    def complete(self, entries: Iterable[Provider]) -> dict[str, Provider]:
        """Completes listed providers with inventories and traits, from memory where that is still true."""
        return {entry.uuid: self.memory.recall(entry) or self.read(entry) for entry in entries}

    def read(self, entry: Provider) -> Provider:
        """Reads a provider's inventories and traits, both of one and the same generation."""
        for _ in range(_TRIES):
            generation, inventories = self.client.inventories(entry.uuid)
            again, traits = self.client.traits(entry.uuid)
            if generation == again:
                break
        provider = replace(entry, generation=generation, inventories=inventories, traits=traits)
        self.memory.remember(provider)
        return provider

    def owned(self, desired: ProviderTree, listed: Iterable[Provider]) -> list[coexistence.Owned]:
        """Gives the devices that Nova or Cyborg report already; only providers named as theirs are read."""
        addresses = {address for own in desired.devices.values() for address in own}
        named = [entry for entry in listed if coexistence.address_of(entry) in addresses]
        return coexistence.owned(desired, self.complete(named).values())
