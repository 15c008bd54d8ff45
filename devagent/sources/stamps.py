# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Tells whether all that was read of a function, here and apart, is of one and the same device.

A card may be pulled out while it is looked at, and it or another be there again before the look ends: what was read is
then some of the one and some of the other. Each file of sysfs has a number, which the kernel gives in turn and not to
the next one that comes (__kernfs_new_node in fs/kernfs/dir.c: idr_alloc_cyclic). So the number of a function's modalias
is taken before anything is read of it, and once more after everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from devagent.model.pci import Function
from devagent.sources.host import Tree

# It comes and goes with the entry by which the function is found (bus_add_device and bus_remove_device in
# drivers/base/bus.c), so that it also tells what is being removed and still has a directory.
FILE: Final = "modalias"

Stamps = Mapping[str, object]
"""What each function had for a number before it was read; None: there was none."""


class Parted(NamedTuple):
    """Of what was read, the addresses at which nothing is any more, and those at which something else is."""

    gone: frozenset[str] = frozenset()
    torn: frozenset[str] = frozenset()

    @property
    def away(self) -> frozenset[str]:
        """Those of which nothing that was read counts."""
        return self.gone | self.torn

    def left(self, functions: Mapping[str, Function]) -> dict[str, Function]:
        """Gives the functions without these, and without their VFs."""
        away = self.away
        return {address: each for address, each in functions.items() if not {address, each.physfn} & away}


def parted(host: Tree, folder: str, stamps: Stamps, addresses: Iterable[str]) -> Parted:
    """Compares the functions at these addresses in `folder` with what they were; a capture stays as it is."""
    if not host.machine:
        return Parted()
    now = {address: host.stamp(f"{folder}/{address}/{FILE}") for address in addresses}
    gone = frozenset(address for address, stamp in now.items() if stamp is None)
    torn = frozenset(address for address, stamp in now.items() if stamp != stamps.get(address))
    return Parted(gone, torn - gone)
