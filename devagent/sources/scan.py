# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Takes one snapshot of a host from all the sources: first the quick ones, then, apart, those that may hang.

A look at some devices only reads these again, with their VFs, and leaves all else as an earlier look saw it. What
keeps a device from being given away is read anew with every look, since a device that came may be among it: what the
host itself uses, and what Nova's configuration takes.

What is pulled out while it is looked at is gone, and what is then plugged in is looked at again, as often as `_AGAIN`
says. After that it is unknown: nothing is said of it that is half of the one device and half of the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from devagent.errors import Unreadable
from devagent.model.known import Known
from devagent.model.nova import NovaDevices
from devagent.model.pci import Function
from devagent.model.snapshot import HostFacts, Problem, Snapshot
from devagent.nvml_gate import NvmlGate
from devagent.places import STATE_PATH
from devagent.sources import (
    function_files,
    kfd,
    known,
    modules,
    names,
    nova,
    nvml,
    pci,
    processes,
    serials,
    slow,
    system,
    told,
)
from devagent.sources.again import Again, read_again
from devagent.sources.apart import Look, look_apart
from devagent.sources.host import Tree
from devagent.sources.host_use import users
from devagent.sources.stamps import Parted, parted

Asks = Callable[[Function], frozenset[str]]
"""Tells which attributes are to be asked of a device, with a time limit."""

_Problems = defaultdict[str, list[Problem]]
"""What each source found, but for those that are read anew with every look."""

_KFD: Final = frozenset({kfd.SOURCE})
_AGAIN: Final = 2
_TORN: Final = (
    "was pulled out and plugged in each time it was looked at: it is unknown until the next look; look at dmesg if it "
    "goes on"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A snapshot, and what a later look at some devices builds on.

    `facts` are what the host says of itself, `outcomes` what was answered apart, `problems` what each source found
    that is not read anew with every look, `ids` of which devices the names were looked up. `torn` are the addresses at
    which one device was replaced by another meanwhile.
    """

    snapshot: Snapshot
    facts: HostFacts
    outcomes: told.Outcomes
    problems: Mapping[str, list[Problem]]
    ids: frozenset[tuple[str, str]]
    torn: frozenset[str] = frozenset()


def scan(
    host: Tree,
    reads: pci.Reads,
    asks: Asks,
    *,
    state_path: str = STATE_PATH,
    remembered: tuple[Known, ...] = (),
    earlier: Seen | None = None,
    only: frozenset[str] = frozenset(),
    users_too: bool = False,
) -> Seen:
    """Looks at everything that discovery needs; never raises for what a host may hold.

    With what was seen `earlier` it looks `only` at the devices with these addresses, there or gone. `remembered` is
    what earlier looks settled about devices; a look at everything adds it to what the file below `state_path` says.
    With `users_too` a look at some devices asks anew who has any device open, as one at everything does.
    """
    taking = _Taking(host, reads, asks, NvmlGate(Path(state_path)), users_too)
    seen = None if earlier is None else taking.some(earlier, only, remembered)
    if seen is None:
        seen = taking.all(state_path, remembered)
        taking = replace(taking, users_too=True)
    for _ in range(_AGAIN if seen.torn else 0):
        for address in seen.torn:
            host.forget(f"{pci.DEVICES}/{address}")
        seen = taking.some(seen, seen.torn, seen.snapshot.known) or taking.all(state_path, remembered)
        if not seen.torn:
            break
    return seen


class _Uses(NamedTuple):
    """What is read anew with every look."""

    host_use: dict[str, str]
    host_use_known: bool
    nova: NovaDevices
    notes: tuple[str, ...]
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class _Taking:
    """A look while it is taken."""

    host: Tree
    reads: pci.Reads
    asks: Asks
    gate: NvmlGate
    users_too: bool = False

    def all(self, state_path: str, remembered: tuple[Known, ...]) -> Seen:
        """Looks at everything."""
        problems: _Problems = defaultdict(list)
        stamps: dict[str, object] = {}
        facts = system.facts(self.host, problems["system"])
        functions: dict[str, Function] = {}
        unknown: frozenset[str] = frozenset()
        complete = True
        try:
            functions, unknown = pci.scan(self.host, self.reads, problems["pci"], stamps)
        except Unreadable as error:
            problems["pci"].append(Problem(function_files.SOURCE, None, str(error)))
            complete = False
        settled = known.load(self.host, state_path, problems["known"])
        devices = _devices(functions)
        looks = [*self._looks(devices), kfd.look(any(map(kfd.sees, devices.values())))]
        if devices:
            looks.append(processes.look(self.host, problems["processes"]))
        outcomes = look_apart(self.host, looks)
        uses = self._uses()
        lost = parted(self.host, pci.DEVICES, stamps, devices.keys() | unknown)
        outcomes = told.without(outcomes, lost.away)
        functions = lost.left(functions)
        functions |= self._told(_devices(functions), outcomes, facts.kernel, problems)
        functions |= told.with_nodes(_devices(functions), outcomes)
        all_known = (*settled, *_not_among(settled, remembered))
        snapshot = Snapshot(facts, functions, unknown=unknown, complete=complete, known=all_known)
        return self._finished(Seen(snapshot, facts, outcomes, problems, frozenset()), problems, uses, lost)

    def some(self, earlier: Seen, only: frozenset[str], remembered: tuple[Known, ...]) -> Seen | None:
        """Looks at some devices; None if that needs a look at everything: there were none, or will be none."""
        before, found, stamps = earlier.snapshot, list[Problem](), dict[str, object]()
        if not before.complete or not earlier.ids:
            return None
        try:
            again = read_again(self.host, self.reads, found, stamps, before.functions, only)
        except Unreadable:
            return None
        devices, functions = _devices(again.functions), _in_place(before.functions, again)
        if not _devices(functions):
            return None
        problems: _Problems = defaultdict(list, {source: list(each) for source, each in earlier.problems.items()})
        problems["pci"] = [each for each in problems["pci"] if each.device not in again.touched] + found
        touched = [before.functions[address] for address in again.touched & before.functions.keys()]
        anew = _KFD if any(map(kfd.sees, (*devices.values(), *touched))) else frozenset()
        sees_kfd = bool(anew) and any(map(kfd.sees, _devices(functions).values()))
        looks, whole = [*self._looks(devices), kfd.look(sees_kfd)], anew
        if self.users_too:
            problems["processes"], whole = [], anew | {processes.SOURCE}
            looks.append(processes.look(self.host, problems["processes"]))
        now = look_apart(self.host, looks)
        uses = self._uses()
        lost = parted(self.host, pci.DEVICES, stamps, devices.keys() | again.unknown)
        now, gone = told.without(now, lost.away), again.gone | lost.away
        outcomes = told.merged(earlier.outcomes, now, again.touched, gone, whole)
        devices, functions = lost.left(devices), lost.left(functions)
        functions |= self._told(devices, outcomes, earlier.facts.kernel, problems)
        functions |= told.with_nodes(_devices(functions) if anew else {}, outcomes)
        unknown = (before.unknown - again.touched) | again.unknown
        snapshot = replace(before, host=earlier.facts, functions=functions, unknown=unknown, known=remembered)
        return self._finished(Seen(snapshot, earlier.facts, outcomes, problems, earlier.ids), problems, uses, lost)

    def _looks(self, devices: Mapping[str, Function]) -> Iterator[Look]:
        """Gives what is asked of the devices themselves and their drivers."""
        yield slow.look({function.address: self.asks(function) for function in devices.values()})
        yield serials.look(devices)
        yield nvml.look([each.address for each in devices.values() if nvml.sees(each)], self.gate)

    def _told(
        self, devices: Mapping[str, Function], outcomes: told.Outcomes, kernel: str | None, problems: _Problems
    ) -> dict[str, Function]:
        """Gives the devices with what was answered about them, and the drivers that could be theirs."""
        functions = {address: told.told(function, outcomes) for address, function in devices.items()}
        return functions | modules.matched(self.host, kernel, functions.values(), problems["modules"])

    def _uses(self) -> _Uses:
        """Reads what is read anew with every look; before the devices are compared, since it is about these."""
        problems, notes = list[Problem](), dict[str, None]()
        host_use, known_all = users.host_use(self.host, problems)
        return _Uses(host_use, known_all, nova.devices(self.host, problems, notes), tuple(notes), problems)

    def _finished(self, seen: Seen, problems: _Problems, uses: _Uses, lost: Parted) -> Seen:
        """Adds what was read anew, and what follows from the whole."""
        facts, functions = seen.facts, seen.snapshot.functions
        for source in problems if lost.away else ():
            problems[source] = [each for each in problems[source] if each.device not in lost.away]
        problems["pci"] += [Problem(function_files.SOURCE, address, _TORN) for address in sorted(lost.torn)]
        devices = _devices(functions).values()
        ids, found = frozenset((each.vendor_id, each.device_id) for each in devices), seen.snapshot.names
        if ids <= seen.ids:
            ids = seen.ids
        else:
            problems["names"] = []
            found = names.names(self.host, devices, problems["names"])
        iommu = facts.iommu or any(function.iommu_group is not None for function in functions.values())
        nodes = {function.numa_node for function in functions.values() if function.numa_node is not None}
        every = chain(*problems.values(), told.problems(seen.outcomes), uses.problems)
        snapshot = replace(
            seen.snapshot,
            host=replace(facts, iommu=iommu, numa_nodes=tuple(sorted(nodes.union(facts.numa_nodes)))),
            functions=functions,
            unknown=(seen.snapshot.unknown - lost.gone) | lost.torn,
            host_use={address: use for address, use in uses.host_use.items() if address not in lost.away},
            host_use_known=uses.host_use_known,
            users=told.users(seen.outcomes),
            names=found,
            nova=uses.nova,
            notes=tuple(dict.fromkeys((*told.notes(seen.outcomes), *uses.notes))),
            problems=tuple(every),
        )
        # Of the host's own, each look at some devices may find the same again.
        unique = {source: list(dict.fromkeys(each)) for source, each in problems.items()}
        return replace(seen, snapshot=snapshot, problems=unique, ids=ids, torn=lost.torn)


def _devices(functions: Mapping[str, Function]) -> dict[str, Function]:
    return {address: function for address, function in functions.items() if function.detailed}


def _in_place(before: Mapping[str, Function], again: Again) -> dict[str, Function]:
    """Gives the functions in bus order: those that were not touched, and those that were read again."""
    gone = again.gone
    merged = {address: each for address, each in before.items() if address not in gone} | again.functions
    if again.functions.keys() <= before.keys():
        return merged
    return {address: merged[address] for address in pci.in_bus_order(merged)}


def _not_among(settled: tuple[Known, ...], remembered: tuple[Known, ...]) -> Iterator[Known]:
    """Gives what is remembered and was not saved, or was lost since: who a device is must not hang on a full disk."""
    saved = {(each.ids, each.identity) for each in settled}
    return (each for each in remembered if (each.ids, each.identity) not in saved)
