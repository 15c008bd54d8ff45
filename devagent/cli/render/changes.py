# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What would change, or did, in Placement: `+ ~ -` and a provider on the first line, what of it below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from devagent.cli.render.printable import printable
from devagent.inventory.diff import Action, Change, same_inventories
from devagent.model.provider import Inventory


def lines(change: Change, names: Mapping[str, str]) -> list[str]:
    """Gives the change with all its parts; `names` are those of all providers by UUID."""
    return [headline(change), *map(printable, _parts(change, names))]


def headline(change: Change) -> str:
    """Gives the change as one line: sign, name, and what the provider has afterwards."""
    has = ", ".join(_words(name, inventory) for name, inventory in sorted(change.after.inventories.items()))
    if change.action is Action.RETIRE:
        has = f"in use, closed to new consumers: {has}" if has else "emptied and kept"
    # Three signs are enough for a reader: that a provider takes over is said below it.
    sign = Action.UPDATE if change.action is Action.REPLACE else change.action
    return printable(f"{sign} {change.after.name}" + (f"  {has}" if has else ""))


def _parts(change: Change, names: Mapping[str, str]) -> Iterator[str]:
    before, after = change.before, change.after
    if change.action is Action.REPLACE and before is not None:
        yield f"    takes the place of {before.uuid}, of the same name"
    elif before is not None and change.moves:
        above = [names.get(provider.parent or "", str(provider.parent)) for provider in (before, after)]
        yield f"    {before.name} below {above[0]} -> {after.name} below {above[1]}"
    had = before.traits if before else frozenset()
    yield from (f"    + {name}" for name in sorted(after.traits - had))
    yield from (f"    - {name}" for name in sorted(had - after.traits))
    if before is not None:
        yield from _inventories(before.inventories, after.inventories)


def _inventories(before: Mapping[str, Inventory], after: Mapping[str, Inventory]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        old = {name: before[name]} if name in before else {}
        new = {name: after[name]} if name in after else {}
        if not same_inventories(old, new):
            texts = (_words(name, one[name]) if one else "none" for one in (old, new))
            yield f"    {' -> '.join(texts)}"


def _words(name: str, inventory: Inventory) -> str:
    return f"{name} {inventory.total}" + (f" ({inventory.reserved} reserved)" if inventory.reserved else "")
