# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The host of bench.event: what happens to it, and the words of the kernel about that."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from unit.changing import links

from bench.scan import PCI

VFS: Final = 256
XID: Final = "NVRM: Xid (PCI:{slot}): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that happens: the host changes, and is told by a last word; then so many of the device are offered."""

    name: str
    address: str
    change: Callable[[], None]
    tell: Callable[[], object]
    offered: int
    debounced: bool = True


class Part:
    """Functions of the described host that come and go together, with all links that lead to them."""

    def __init__(self, root: Path, aside: Path, addresses: Iterable[str]) -> None:
        self._places = {(root / PCI / "devices" / each).resolve(): aside / each for each in addresses}
        leading = (root / link for link, to in links(root) if root / to in self._places)
        self._links = {link: link.readlink() for link in leading if link.parent not in self._places}

    def out(self) -> None:
        """Takes them out."""
        for link in self._links:
            link.unlink()
        for place, aside in self._places.items():
            place.rename(aside)

    def back(self) -> None:
        """Puts them back."""
        for place, aside in self._places.items():
            aside.rename(place)
        for link, to in self._links.items():
            link.symlink_to(to)


class Host:
    """The described host with its GPU and its PF, and the words of this machine's kernel about these."""

    def __init__(self, top: Path, gpu: str, pf: str) -> None:
        self.gpu, self.pf, self._machine = gpu, pf, top / "machine"
        root, aside = top / "host", top / "aside"
        self._numvfs = root / PCI / "devices" / pf / "sriov_numvfs"
        vfs = [link.readlink().name for link in self._numvfs.parent.resolve().glob("virtfn*")]
        assert len(vfs) == VFS, vfs
        self._card, self._vfs = Part(root, aside, [gpu]), Part(root, aside, vfs)
        self._log = os.open(top / "log", os.O_RDWR)  # for as long as the daemon reads
        self._said = 0

    def event(self, address: str, times: int = 1) -> None:
        """Has the kernel say so many times that a device has changed."""
        with (self._machine / "bus/pci/devices" / address / "uevent").open("wb", buffering=0) as file:
            for _ in range(times):
                file.write(b"change")

    def xid(self) -> None:
        """Says in the log that the GPU is off the bus."""
        self._said += 1
        text = XID.format(slot=self.gpu.rpartition(".")[0])
        os.write(self._log, f"4,{self._said},{time.monotonic_ns() // 1000},-;{text}\n".encode())

    def make_vfs(self) -> None:
        """Lets the PF have its VFs."""
        self._vfs.back()
        self._numvfs.write_text(f"{VFS}\n")

    def remove_vfs(self) -> None:
        """Takes them away."""
        self._vfs.out()
        self._numvfs.write_text("0\n")

    def kinds(self, clear: Callable[[], object]) -> Iterator[Kind]:
        """Gives all that happens, in an order after which everything is as before; `clear` clears the GPU's health."""
        gpu, pf = (lambda: self.event(self.gpu)), (lambda: self.event(self.pf))
        yield Kind("an event, nothing changed", self.gpu, lambda: None, gpu, 1)
        yield Kind("GPU unplugged", self.gpu, self._card.out, gpu, 0)
        yield Kind("GPU plugged", self.gpu, self._card.back, gpu, 1)
        yield Kind("XID 79 in the log", self.gpu, lambda: None, self.xid, 0, debounced=False)
        yield Kind("health cleared by the API", self.gpu, lambda: None, clear, 1, debounced=False)
        yield Kind(f"{VFS} VFs removed, one event", self.pf, self.remove_vfs, pf, 0)
        yield Kind(f"{VFS} VFs made, one event", self.pf, self.make_vfs, pf, VFS)
        for name, change, offered in (("removed", self.remove_vfs, 0), ("made", self.make_vfs, VFS)):
            yield Kind(f"{VFS} VFs {name}, {VFS} events", self.pf, self._in_a_burst(change), pf, offered)

    def _in_a_burst(self, change: Callable[[], None]) -> Callable[[], None]:
        def changed() -> None:
            change()
            self.event(self.pf, VFS - 1)

        return changed
