# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps Placement equal to the desired tree: one request a cycle at rest, and few when something changes.

Never written to: the compute node's own provider, which is Nova's, and every provider that is not ours.
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from devagent import errors
from devagent.inventory import coexistence
from devagent.inventory.diff import Action, Change, compare, diff, gone, same_inventories
from devagent.model.provider import Provider, ProviderTree
from devagent.placement import carry, contests
from devagent.placement.client import PlacementClient
from devagent.placement.creation import Creation
from devagent.placement.patience import TRIES, Patience
from devagent.placement.reader import Reader
from devagent.placement.state import Memory
from devagent.placement.writer import Writer, drained

LOG = logging.getLogger(__name__)

# Generations start anew when a provider is deleted and made again, so trust in them is not for ever.
_FULL_READ: Final = 24 * 3600.0

Done = Callable[[Change], None]
Step = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Survey:
    """The listing of a compute node's tree: its own provider and all below it, by UUID."""

    root: Provider
    listed: Mapping[str, Provider]


@dataclass(slots=True)
class Report:
    """What one cycle did.

    `failures` are by the name of the provider; `owned` devices are reported by Nova or Cyborg already;
    `held` providers are closed to new consumers until those who have them are gone; `postponed` counts
    what was left for the next cycle.
    """

    changes: list[Change] = field(default_factory=list)
    failures: dict[str, errors.PlacementError] = field(default_factory=dict)
    owned: list[coexistence.Owned] = field(default_factory=list)
    held: list[Provider] = field(default_factory=list)
    postponed: int = 0


class Reporter:
    """Reports one desired tree after the other; `memory` may come from before a restart.

    `clock` gives epoch seconds.
    """

    def __init__(
        self,
        client: PlacementClient,
        memory: Memory | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.client, self._patience, self._clock = client, Patience(sleep), clock
        self._keep(memory or Memory(""))
        if self.memory.microversion is not None:
            client.version = self.memory.microversion

    def survey(self, compute_id: str | None, hostname: str, *, tries: int = TRIES) -> Survey:
        """Finds the compute node's provider, by UUID if Nova's is known, else by name, and lists its tree.

        One request, or two the first time that only the name is known, each tried so many times while Placement
        stumbles. Raises RootProviderMissing if nova-compute has not made it yet.
        """
        remembered = self.memory.root if self.memory.root_name == hostname else None
        for root in filter(None, (compute_id, None if compute_id else remembered)):
            listed = self._reader.tree(root, tries)
            if root in listed and (compute_id or listed[root].name == hostname):
                return Survey(listed[root], listed)
        found = None if compute_id else self._patience.call(lambda: self.client.find(hostname), tries)
        if found is None:
            raise errors.RootProviderMissing(_missing(compute_id, hostname))
        return Survey(found, self._reader.tree(found.uuid, tries))

    def read(self, root: str) -> dict[str, Provider]:
        """Gives the whole tree of `root` as Placement has it, Nova's providers too. Raises PlacementError."""
        return {uuid: self._reader.read(entry) for uuid, entry in self._reader.tree(root).items()}

    def plan(self, desired: ProviderTree, survey: Survey | None = None) -> Report:
        """Says what a report would change, as the `changes` and `owned` of a report, and writes nothing."""
        report = Report()
        report.changes += self._changes(desired, survey, report)[0]
        return report

    def report(
        self,
        desired: ProviderTree,
        survey: Survey | None = None,
        *,
        done: Done | None = None,
        step: Step | None = None,
        most: int | None = None,
    ) -> Report:
        """Makes Placement equal to `desired`; tells `done` each change, and `step` how many of how many are made.

        A change counts as done only when its inventory is there, which for new providers comes last.
        One provider that fails never holds up the others. With `most`, the changes of this cycle are
        no more than that. Raises PlacementError if nothing could be read, or as soon as Placement is
        gone or refuses the credentials.
        """
        report = Report()
        try:
            changes, actual = self._changes(desired, survey, report)
            report.postponed = max(0, len(changes) - most) if most is not None else 0
            self._change(self._free_names(changes[:most], actual, report), report, done, step)
        finally:
            self.memory.microversion = self.client.negotiated
        return report

    def purge(self, desired: ProviderTree) -> Report:
        """Deletes our providers that are not `desired`, children first; what is in use stays and is a failure.

        For a nova-compute that has them cached, builds on this host fail for up to 300 s afterwards.
        """
        report = Report()
        for entry in self.purgeable(desired):
            try:
                self.client.delete(entry.uuid)
            except errors.PlacementNotFound:
                LOG.debug("%s: deleted by somebody else", entry.name)
            except (errors.PlacementConflict, errors.PlacementUnreachable) as error:
                report.failures[entry.name] = error
                continue
            self.memory.forget(entry.uuid)
            report.changes.append(Change(Action.RETIRE, entry, entry))
        return report

    def purgeable(self, desired: ProviderTree, survey: Survey | None = None) -> list[Provider]:
        """Gives our providers that are not `desired`, children first; none that is unknown or has such below it."""
        listed = survey.listed if survey is not None else self._reader.tree(desired.root)
        doomed = {entry.uuid: entry for entry in gone(desired, listed)}
        for entry in listed.values():
            if entry.uuid not in doomed:
                for above in _ancestors(entry, listed):
                    doomed.pop(above, None)
        return sorted(doomed.values(), key=lambda one: len(_ancestors(one, listed)), reverse=True)

    def _keep(self, memory: Memory) -> None:
        self.memory = memory
        self._reader = Reader(self.client, memory, self._patience)
        self._writer = Writer(self.client, memory, self._reader, self._patience)

    def _changes(
        self, desired: ProviderTree, survey: Survey | None, report: Report
    ) -> tuple[list[Change], dict[str, Provider]]:
        """Compares `desired` with what Placement has, and gives the changes and our providers as they are.

        What others own or fight over, and what waits for its consumers, is left out and said.
        """
        listed = survey.listed if survey is not None else self._reader.tree(desired.root)
        if desired.root not in listed:
            raise errors.RootProviderMissing(f"Placement has no provider {desired.root} for this compute node")
        self._begin(listed[desired.root])
        report.owned = self._reader.owned(desired, listed.values())
        desired = coexistence.without(desired, report.owned)
        before = dict(self.memory.providers)
        wanted = desired.by_uuid()
        ours = (entry for entry in listed.values() if entry.is_ours or entry.uuid in wanted)
        actual = self._reader.complete(ours)
        changes = diff(desired, actual)
        contests.judge(self.memory.contests, changes, before, wanted, self._clock())
        changes = tuple(change for change in changes if not self._contested(change, report))
        return [change for change in changes if not self._waits(change, report)], actual

    def _begin(self, root: Provider) -> None:
        """Forgets what is remembered of another tree, or was last read in full too long ago."""
        if self.memory.root != root.uuid:
            self._keep(Memory(root.uuid))
        self.memory.root_name = root.name
        if not 0 <= self._clock() - self.memory.full_read < _FULL_READ:
            self.memory.providers.clear()
            # Not to the second a day, or all hosts that started together would read together for ever.
            spread = random.uniform(0, _FULL_READ / 4)  # noqa: S311 - spreads load, hides nothing
            self.memory.full_read = self._clock() - spread

    def _contested(self, change: Change, report: Report) -> bool:
        contest = contests.ongoing(self.memory.contests, change.after.uuid, self._clock())
        if contest is not None:
            report.failures[change.after.name] = contest
        return contest is not None

    def _waits(self, change: Change, report: Report) -> bool:
        """Tells whether nothing is left to do but to wait until nobody holds what should go."""
        before, after = change.before, change.after
        going = [] if before is None else [name for name in before.inventories if name not in after.inventories]
        if before is None or not going or change.action is Action.REPLACE or change.moves or change.sets_traits:
            return False
        closed = same_inventories(drained(before.inventories, after.inventories), before.inventories)
        if not closed or not self._reader.in_use(before, going):
            return False
        report.held.append(before)
        return True

    def _free_names(self, changes: Sequence[Change], actual: Mapping[str, Provider], report: Report) -> list[Change]:
        """Takes away the names that a change needs from those of our providers that have them now.

        So that devices can swap addresses, or all move up by one when buses are numbered anew.
        """
        holders = {provider.name: provider for provider in actual.values()}
        needed = {change.after.name: change for change in changes if change.before is None or change.moves}
        freed: dict[str, Provider] = {}
        for name, change in needed.items():
            holder = holders.get(name)
            replaced = change.action is Action.REPLACE and change.before == holder
            if holder is not None and holder.uuid != change.after.uuid and not replaced:
                try:
                    freed[holder.uuid] = self._free(holder)
                except errors.PlacementError as error:
                    _fail(report, holder, error)
        return [_renamed(change, freed) for change in changes]

    def _free(self, holder: Provider) -> Provider:
        return self._writer.make(replace(holder, name=holder.former_name), holder, create=False)

    def _change(self, changes: Sequence[Change], report: Report, done: Done | None, step: Step | None) -> None:
        def made(change: Change, result: Provider) -> None:
            if not same_inventories(change.after.inventories, result.inventories):
                report.held.append(result)
            created = change.action in (Action.CREATE, Action.REPLACE)
            if created or compare(result, change.before) is not None:
                report.changes.append(replace(change, after=result))
                if done is not None:
                    done(report.changes[-1])

        self._writer.ensure_names(change.after for change in changes)
        creates = {change.after.uuid: change for change in changes if change.action is Action.CREATE}
        creation = Creation(self._writer, self._clock, _counter(len(creates), step))
        for wanted, outcome in creation.create([change.after for change in creates.values()]):
            if isinstance(outcome, errors.PlacementError):
                _fail(report, wanted, outcome)
            else:
                made(creates[wanted.uuid], outcome)
        for change in changes:
            if change.action is Action.CREATE:
                continue
            try:
                made(change, self._one(change))
            except errors.PlacementError as error:
                _fail(report, change.after, error)

    def _one(self, change: Change) -> Provider:
        if change.action is Action.REPLACE and change.before is not None:
            return carry.take_over(self._writer, change.before, change.after)
        return self._writer.make(change.after, change.before, create=change.action is not Action.RETIRE)


def _renamed(change: Change, freed: Mapping[str, Provider]) -> Change:
    """Gives the change from what its provider is after its name was taken away."""
    before = freed.get(change.before.uuid) if change.before is not None else None
    if before is None:
        return change
    after = replace(change.after, name=before.name) if change.action is Action.RETIRE else change.after
    return replace(change, before=before, after=after)


def _counter(total: int, step: Step | None) -> Callable[[], None] | None:
    """Turns calls without argument into `step(1, total)`, `step(2, total)` and so on."""
    if step is None:
        return None
    numbers = itertools.count(1)
    return lambda: step(next(numbers), total)


def _fail(report: Report, provider: Provider, error: errors.PlacementError) -> None:
    """Notes a provider's failure; where Placement itself is gone, the others need not be tried."""
    gone = isinstance(error, errors.PlacementUnreachable) and error.status is None
    refused = isinstance(error, errors.PlacementDenied) and error.status == 401
    if gone or refused:
        raise error
    report.failures[provider.name] = error


def _missing(compute_id: str | None, hostname: str) -> str:
    """Says that the compute node's provider is missing; what Nova calls its host matters only without Nova's UUID."""
    if compute_id:
        what = f"with the UUID {compute_id}"
        cure = "if it has run here, Nova's file compute_id, of which this UUID is, is another host's or an old one"
    else:
        what = f"called {hostname!r}"
        cure = "if it has another name, set [DEFAULT] host to what `openstack hypervisor list` shows"
    return f"Placement has no provider {what} for this compute node. nova-compute makes it at its first start; {cure}"


def _ancestors(provider: Provider, listed: Mapping[str, Provider]) -> list[str]:
    """Gives the UUIDs above a provider, its parent first."""
    above: list[str] = []
    parent = provider.parent
    while parent is not None and parent in listed and parent not in above:
        above.append(parent)
        parent = listed[parent].parent
    return above
