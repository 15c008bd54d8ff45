# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One Python contestant's turn of bench.scan, in a process of its own: does its work several times over.

    python -m bench.scan_turn scan|discover|pyudev|record ROUNDS ROOT

Prints a line per round: nanoseconds of wall-clock and of CPU time, and how many functions were found;
`record` prints instead what the scan asked for, as bench/scan.c reads it.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devagent import registry
from devagent.discovery import discover
from devagent.inventory.default_policy import DEFAULT
from devagent.sources import pci, roots
from devagent.sources.host import Directory, Tree


def main(kind: str, rounds: int, root: Path) -> None:
    """Takes the turn."""
    if kind == "record":
        with Noting(root) as tree:
            pci.scan(tree, registry.load().reads, [])
        print("\n".join(tree.asked))  # noqa: T201 - its output
    elif kind == "pyudev":
        repeat(rounds, pyudev())
    else:
        drivers = registry.load()
        with roots.open_root(root) as host:
            repeat(
                rounds, lambda: len(pci.scan(host, drivers.reads, [])[0]) if kind == "scan" else found(host, drivers)
            )


def found(host: Tree, drivers: registry.Registry) -> int:
    """Gives the number of devices, which is that of functions for none."""
    return len(discover(host, drivers, DEFAULT).devices)


def pyudev() -> Callable[[], int]:
    """Gives what lists the functions of the machine's /sys with their properties and groups, as pyudev does it."""
    from pyudev import Context  # noqa: PLC0415 - the other contestants do not need it

    context = Context()

    def listed() -> int:
        devices: list[Any] = list(context.list_devices(subsystem="pci"))
        return len([(dict(device.properties), device.driver) for device in devices])

    return listed


def repeat(rounds: int, work: Callable[[], int]) -> None:
    """Does the work, first once unmeasured, and says what it took with the children that it had."""
    work()
    for _ in range(rounds):
        wall, cpu = time.perf_counter_ns(), _cpu()
        count = work()
        print(time.perf_counter_ns() - wall, _cpu() - cpu, count)  # noqa: T201 - its output


def _cpu() -> int:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + int((children.ru_utime + children.ru_stime) * 1e9)


class Noting(Directory):
    """Notes what is asked: `r` a file, `l` a link, `d` a directory's names, `s` whether something is there."""

    def __init__(self, path: str | os.PathLike[str], *, dir_fd: int | None = None, prefix: str = "") -> None:
        super().__init__(path, dir_fd=dir_fd)
        self.prefix = prefix
        self.asked: list[str] = []

    def below(self, path: str) -> Noting:
        """Opens a directory; what is asked of it is noted here."""
        below = Noting(path, dir_fd=self._fd, prefix=f"{self.prefix}{path}/")
        below.asked = self.asked
        return below

    def link(self, path: str) -> str | None:
        """Notes `l`."""
        self.asked.append(f"l {self.prefix}{path}")
        return super().link(path)

    def has(self, path: str) -> bool:
        """Notes `s`."""
        self.asked.append(f"s {self.prefix}{path}")
        return super().has(path)

    def stamp(self, path: str) -> int | None:
        """Notes `s`."""
        self.asked.append(f"s {self.prefix}{path}")
        return super().stamp(path)

    def _list(self, path: str) -> list[str]:
        self.asked.append(f"d {self.prefix}{path}")
        return super()._list(path)

    def _read(self, path: str, limit: int, *, whole: bool = False, offset: int = 0) -> bytes | None:
        self.asked.append(f"r {self.prefix}{path}")
        return super()._read(path, limit, whole=whole, offset=offset)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
