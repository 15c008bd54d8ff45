# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Resource providers, their inventories and traits: as wanted and as Placement has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "devagent:"
"""How the name of every provider of ours begins: neither Nova's nor Cyborg's begin so."""

MAX_INT: Final = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Inventory:
    """One resource class of one provider, with Placement's own defaults (placement 16, POST inventories)."""

    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int = MAX_INT
    step_size: int = 1
    allocation_ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider; `generation` is Placement's, None while it exists only as a wish."""

    uuid: str
    name: str
    parent: str | None
    inventories: Mapping[str, Inventory] = field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    generation: int | None = None

    @property
    def is_ours(self) -> bool:
        """Whether devagent made it, which the name alone tells."""
        return self.name.startswith(PREFIX)


@dataclass(frozen=True, slots=True)
class ProviderTree:
    """The providers below `root` (the compute node's UUID), parents before children.

    `devices` maps a provider's UUID to the address of the device that it stands for.
    """

    root: str
    providers: tuple[Provider, ...] = ()
    devices: Mapping[str, str] = field(default_factory=dict)

    def by_uuid(self) -> dict[str, Provider]:
        """Gives the providers by UUID."""
        return {provider.uuid: provider for provider in self.providers}
