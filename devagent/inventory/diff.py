# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Compares the desired provider tree with what Placement has, and orders what must change."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from devagent.inventory.build import SICK
from devagent.model.provider import Inventory, Provider, ProviderTree

_SICK: Final = frozenset(SICK.values())


class Action(enum.StrEnum):
    """What happens to a provider; the first three are the signs that `--dry-run` prints.

    REPLACE: a provider of the same name but another UUID takes over, with what is allocated.
    """

    CREATE = "+"
    UPDATE = "~"
    RETIRE = "-"
    REPLACE = ">"


@dataclass(frozen=True, slots=True)
class Change:
    """One provider that must become `after`; `before` is what Placement has, None if nothing."""

    action: Action
    before: Provider | None
    after: Provider

    @property
    def moves(self) -> bool:
        """Whether name or parent change."""
        before, after = self.before, self.after
        return before is not None and (before.name, before.parent) != (after.name, after.parent)

    @property
    def sets_traits(self) -> bool:
        """Whether the set of traits changes."""
        return self.after.traits != (self.before.traits if self.before else frozenset())

    @property
    def sets_inventories(self) -> bool:
        """Whether any inventory changes."""
        return not same_inventories(self.before.inventories if self.before else {}, self.after.inventories)


def diff(desired: ProviderTree, actual: Mapping[str, Provider]) -> tuple[Change, ...]:
    """Gives the changes in an order in which they can be made: parents first, what is gone last.

    `actual` holds the providers of the tree in Placement by UUID; those that are not ours are left
    alone. What is gone is emptied and kept: deleting a provider that nova-compute has cached breaks
    every build on this host for up to five minutes.
    """
    wanted_uuids = desired.by_uuid()
    others = (provider for provider in actual.values() if provider.uuid not in wanted_uuids)
    former = {provider.lasting_name: provider for provider in others if _stands_in_the_way(provider)}
    replaced = set()
    changes = []
    for wanted in desired.providers:
        change = compare(wanted, actual.get(wanted.uuid))
        old = former.get(wanted.name)
        if change is not None and old is not None and _takes_over(change, old):
            replaced.add(old.uuid)
            change = Change(Action.REPLACE, old, wanted)
        if change is not None:
            changes.append(change)
    retired = (provider for provider in gone(desired, actual) if provider.uuid not in replaced and provider.inventories)
    changes += [Change(Action.RETIRE, provider, replace(provider, inventories={})) for provider in retired]
    return tuple(changes)


def gone(desired: ProviderTree, actual: Mapping[str, Provider]) -> list[Provider]:
    """Gives our providers whose devices are known to be gone; what could not be read is unknown, not gone."""
    if desired.partial:
        return []
    wanted = desired.by_uuid()
    ours = (provider for provider in actual.values() if provider.is_ours and provider.uuid not in wanted)
    return [provider for provider in ours if provider.lasting_name not in desired.kept]


def _takes_over(change: Change, old: Provider) -> bool:
    """Tells whether `old` is what the changed provider was before.

    That is so if the new one is not there yet, or was made but never filled because a take-over was cut
    off. One that is established is another device, which only got the address of `old`.
    """
    cut_off = change.before is not None and not change.before.inventories and old.name != old.lasting_name
    return change.before is None or cut_off


def _stands_in_the_way(provider: Provider) -> bool:
    """Tells whether a provider that is gone has the name, or something allocated, that its successor needs."""
    return bool(provider.inventories) or provider.name == provider.lasting_name


def compare(wanted: Provider, actual: Provider | None) -> Change | None:
    """Gives the change that makes `actual` what is `wanted`; None if it is so already.

    What is undetermined of `wanted` stays as it is, or in a new provider as far as it is known.
    """
    if actual is None:
        return Change(Action.CREATE, None, replace(wanted, undetermined=frozenset()))
    parent = actual.parent if "parent" in wanted.undetermined else wanted.parent
    # How the device is, is known in any case: it is often the reason why nothing else is.
    kept = (actual.traits - _SICK) | (wanted.traits & _SICK)
    traits = kept if "traits" in wanted.undetermined else wanted.traits
    after = replace(wanted, parent=parent, traits=traits, generation=actual.generation, undetermined=frozenset())
    change = Change(Action.UPDATE, actual, after)
    return change if change.moves or change.sets_traits or change.sets_inventories else None


def same_inventories(one: Mapping[str, Inventory], other: Mapping[str, Inventory]) -> bool:
    """Tells whether both are the same to Placement."""
    return one.keys() == other.keys() and all(_comparable(one[name]) == _comparable(other[name]) for name in one)


def _comparable(inventory: Inventory) -> Inventory:
    # MariaDB keeps the ratio as a FLOAT: 0.123456789 comes back as 0.123457.
    return replace(inventory, allocation_ratio=float(f"{inventory.allocation_ratio:.6g}"))
