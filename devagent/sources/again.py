# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads some PCI functions again: those that an event was about, with what belongs to them, and no other.

A VF leads to its PF, by its own link and by what was seen before, and a PF is read with all its VFs. So what one
event costs does not depend on how many functions the host has: the list of functions and the directories of the
drivers are not read, of each VF its own link `driver` instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from devagent.errors import Unreadable
from devagent.model.pci import Function, is_address
from devagent.model.snapshot import Problem
from devagent.sources.function_files import last
from devagent.sources.host import Tree
from devagent.sources.pci import DEVICES, Reads, Scan, in_bus_order


class Again(NamedTuple):
    """What was read: the `functions` that are there; `touched` are the addresses of which nothing earlier counts."""

    functions: dict[str, Function]
    unknown: frozenset[str]
    touched: frozenset[str]

    @property
    def gone(self) -> frozenset[str]:
        """The addresses at which nothing is any more."""
        return self.touched - self.functions.keys()


def read_again(
    host: Tree,
    reads: Reads,
    problems: list[Problem],
    stamps: dict[str, object],
    earlier: Mapping[str, Function],
    only: frozenset[str],
) -> Again:
    """Reads the functions at the addresses `only`, there or gone, after an `earlier` look at all of them.

    What is amiss goes to `problems`, what each device was before it was read to `stamps`.
    Raises Unreadable if the directory of functions itself cannot be opened.
    """
    with host.below(DEVICES) as devices:
        scan = _Some(host, devices, reads, problems, stamps, earlier, only)
        functions, unknown = scan.run()
        return Again(functions, unknown, scan.touched | scan.found.keys())


class _Some(Scan):
    """A scan of some functions; `touched` are those that are read, or were there and are gone."""

    def __init__(
        self,
        host: Tree,
        devices: Tree,
        reads: Reads,
        problems: list[Problem],
        stamps: dict[str, object],
        earlier: Mapping[str, Function],
        only: frozenset[str],
    ) -> None:
        self.earlier, self.only = earlier, frozenset(filter(is_address, only))
        self.touched: frozenset[str] = frozenset()
        super().__init__(host, devices, reads, problems, stamps)

    def listed(self) -> list[str]:
        """Gives the addresses of what is there of the wanted, their PFs, and the VFs that these had."""
        pfs = {pf for address in self.only for pf in self._pfs(address)}
        return self._with_vfs(self.only | pfs)

    def related(self) -> list[str]:
        """Gives what may belong to what was read though no link says so."""
        return self._with_vfs(frozenset(self._going()))

    @cached_property
    def bound(self) -> None:
        """Is not known: the directories of the drivers have links to all functions."""

    def _pfs(self, address: str) -> Iterator[str]:
        before = self.earlier.get(address)
        if before is not None and before.physfn is not None:
            yield before.physfn
        try:
            now = last(self.devices.link(f"{address}/physfn"))
        except Unreadable:  # who reads its PF notes it
            return
        if now is not None and is_address(now):
            yield now

    def _with_vfs(self, addresses: frozenset[str]) -> list[str]:
        vfs = {each.address for each in self.earlier.values() if each.physfn in addresses} if addresses else set()
        self.touched |= addresses | vfs
        return [address for address in in_bus_order(addresses | vfs) if self.devices.has(address)]

    def _going(self) -> Iterator[str]:
        """Gives what was not read of the pairs of a PF and a VF that is being removed, which is told by its ids."""
        found = [each for each in self.found.values() if each is not None and each.physfn is None]
        vf_ids = {(each.vendor_id, each.sriov.vf_device_id) for each in found if each.sriov and each.sriov.vf_device_id}
        ids = {(each.vendor_id, each.device_id) for each in found if each.sriov is None and not each.is_bridge}
        for each in self.earlier.values():
            if each.physfn is not None or each.address in self.found:
                continue
            theirs, mine = (each.sriov.vf_device_id, ids) if each.sriov else (each.device_id, vf_ids)
            if (each.vendor_id, theirs) in mine:
                yield each.address
