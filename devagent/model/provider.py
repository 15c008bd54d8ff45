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
    """One provider; `generation` is Placement's, None while it exists only as a wish.

    Of a wish, `undetermined` names the parts (`parent`, `traits`) that could not be read now: where the
    provider exists, they stay as they are.
    """

    uuid: str
    name: str
    parent: str | None
    inventories: Mapping[str, Inventory] = field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    generation: int | None = None
    undetermined: frozenset[str] = frozenset()

    @property
    def lasting_name(self) -> str:
        """The name, less what was appended when another provider took it over (see `former_name`)."""
        return self.name.removesuffix(f"~{self.uuid[:8]}")

    @property
    def former_name(self) -> str:
        """The name under which the provider waits for its end, so that another can take the lasting one."""
        return f"{self.lasting_name[:190]}~{self.uuid[:8]}"

    @property
    def is_ours(self) -> bool:
        """Whether devagent made it, which the name alone tells."""
        return self.name.startswith(PREFIX)


@dataclass(frozen=True, slots=True)
class ProviderTree:
    """The providers below `root` (the compute node's UUID), parents before children.

    `devices` maps the UUID of a device's provider to its addresses: its own, then its VFs'. `kept` are
    names of providers to leave as they are, since their devices are unknown now; with `partial` any
    other may be such too, so that none is gone.
    """

    root: str
    providers: tuple[Provider, ...] = ()
    devices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    partial: bool = False

    def by_uuid(self) -> dict[str, Provider]:
        """Gives the providers by UUID."""
        return {provider.uuid: provider for provider in self.providers}
