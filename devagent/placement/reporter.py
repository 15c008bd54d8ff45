# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes Placement equal to the desired tree: reads, compares, changes, and reads again on conflict.

Never written to: the compute node's own provider, which is Nova's, and every provider that is not ours.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from devagent import errors
from devagent.inventory.diff import Action, Change, compare, diff
from devagent.model.provider import Inventory, Provider, ProviderTree
from devagent.placement.client import PlacementClient

LOG = logging.getLogger(__name__)

IN_USE: Final = "placement.inventory.inuse"
NAME_TAKEN: Final = "placement.duplicate_name"
_TRIES: Final = 8
_BACKOFF: Final = 0.05  # seconds; doubles with each try, with full jitter

# What a re-read can cure: somebody was quicker, or Placement stumbled (it answers lost races with 500 too).
_TRANSIENT: Final = (errors.PlacementConflict, errors.PlacementUnreachable)


@dataclass(slots=True)
class Report:
    """What one cycle did: the changes made, and the errors by the name of the provider."""

    changes: list[Change] = field(default_factory=list)
    failures: dict[str, errors.PlacementError] = field(default_factory=dict)


class Reporter:
    """Reports one desired tree after the other through one client."""

    def __init__(self, client: PlacementClient, sleep: Callable[[float], None] = time.sleep) -> None:
        self.client, self._sleep = client, sleep
        self._known_names: set[str] = set()

    def find_root(self, compute_id: str | None, hostname: str | None) -> Provider:
        """Gives the compute node's provider, by UUID if Nova's is known, else by name.

        Raises RootProviderMissing if nova-compute has not made it yet.
        """
        if compute_id is not None:
            root = self.client.tree(compute_id).get(compute_id)
        else:
            root = self.client.find(hostname) if hostname else None
        if root is None:
            what = f"with the UUID {compute_id}" if compute_id else f"called {hostname!r}"
            raise errors.RootProviderMissing(
                f"Placement has no provider {what} for this compute node. nova-compute makes it at its first start; "
                "if it has another name, set [DEFAULT] host to what `openstack hypervisor list` shows"
            )
        return root

    def read(self, root: str) -> dict[str, Provider]:
        """Gives the whole tree of `root` as Placement has it, Nova's providers too. Raises PlacementError."""
        return {uuid: self._read(entry) for uuid, entry in self.client.tree(root).items()}

    def plan(self, desired: ProviderTree) -> tuple[Change, ...]:
        """Reads what Placement has and gives what must change. Raises PlacementError."""
        listed = self.client.tree(desired.root)
        if desired.root not in listed:
            raise errors.RootProviderMissing(f"Placement has no provider {desired.root} for this compute node")
        wanted = desired.by_uuid()
        ours = {uuid: entry for uuid, entry in listed.items() if entry.is_ours or uuid in wanted}
        return diff(desired, {uuid: self._read(entry) for uuid, entry in ours.items()})

    def report(self, desired: ProviderTree, done: Callable[[Change], None] | None = None) -> Report:
        """Makes Placement equal to `desired` and tells `done` each change made.

        One provider that fails never holds up the others; its children wait, as they cannot be made.
        Raises PlacementError only if nothing could even be read.
        """
        report = Report()
        changes = self.plan(desired)
        self._ensure_names(changes)
        failed: set[str] = set()
        for change in changes:
            try:
                if change.after.parent in failed:
                    raise errors.PlacementNotFound(f"its parent {change.after.parent} could not be made")
                made = self._persist(change, desired)
            except errors.PlacementError as error:
                failed.add(change.after.uuid)
                report.failures[change.after.name] = error
                if isinstance(error, errors.PlacementDenied):
                    return report
            else:
                if made is not None:
                    report.changes.append(made)
                    if done is not None:
                        done(made)
        return report

    def _read(self, entry: Provider) -> Provider:
        """Completes a listing's entry with inventories and traits of one and the same generation."""
        for _ in range(_TRIES):
            generation, inventories = self.client.inventories(entry.uuid)
            again, traits = self.client.traits(entry.uuid)
            if generation == again:
                break
        return replace(entry, generation=generation, inventories=inventories, traits=traits)

    def _ensure_names(self, changes: tuple[Change, ...]) -> None:
        traits = {trait for change in changes if change.sets_traits for trait in change.after.traits}
        classes = {name for change in changes if change.sets_inventories for name in change.after.inventories}
        self.client.ensure_traits(traits - self._known_names)
        for name in sorted(classes - self._known_names):
            self.client.ensure_resource_class(name)
        self._known_names |= traits | classes

    def _persist(self, change: Change, desired: ProviderTree) -> Change | None:
        """Applies one change and gives it as it was made; None if somebody else had made it already.

        What somebody else did meanwhile is read, compared and tried again.
        """
        current: Change | None = change
        for attempt in range(1, _TRIES + 1):
            if current is None:
                break
            try:
                return self._apply(current)
            except _TRANSIENT as error:
                if attempt == _TRIES:
                    raise
                LOG.debug("%s: %s; read again (%d)", change.after.name, error, attempt)
                self._sleep(random.uniform(0, _BACKOFF * 2**attempt))  # noqa: S311 - spreads retries, hides nothing
                current = self._again(change, desired)
                if current is not None and current.before is None and error.code == NAME_TAKEN:
                    raise  # by a provider elsewhere, or it would have been in the tree
        return None

    def _again(self, change: Change, desired: ProviderTree) -> Change | None:
        entry = self.client.tree(desired.root).get(change.after.uuid)
        actual = self._read(entry) if entry is not None else None
        if change.action is not Action.RETIRE:
            return compare(change.after, actual)
        if actual is None or not actual.inventories:
            return None
        return Change(Action.RETIRE, actual, replace(actual, inventories={}))

    def _apply(self, change: Change) -> Change:
        """Makes one change: the provider, then its traits, then its inventories.

        In this order no scheduler ever sees an inventory without the traits that say what it is.
        """
        after = change.after
        if change.before is None:
            generation = self.client.create(after)
        else:
            generation = change.before.generation or 0
            if change.moves:
                self.client.update(after)
        if change.sets_traits:
            generation = self.client.set_traits(after.uuid, generation, after.traits)
        if change.sets_inventories:
            return self._set_inventories(change, generation)
        return change

    def _set_inventories(self, change: Change, generation: int) -> Change:
        after = change.after
        try:
            self.client.set_inventories(after.uuid, generation, after.inventories)
        except errors.PlacementConflict as error:
            if error.code != IN_USE or change.before is None:
                raise
            drained = _drained(change.before.inventories, after.inventories)
            self.client.set_inventories(after.uuid, generation, drained)
            return replace(change, after=replace(after, inventories=drained))
        return change


def _drained(before: Mapping[str, Inventory], after: Mapping[str, Inventory]) -> dict[str, Inventory]:
    """Keeps each class that should go, wholly reserved: who has it keeps it, nobody else gets it."""
    going = {name: inventory for name, inventory in before.items() if name not in after}
    return {**{name: replace(inventory, reserved=inventory.total) for name, inventory in going.items()}, **after}
