# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds the disks that are mounted or swapped to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from devagent.errors import Unreadable
from devagent.sources.host import Lenient, Tree
from devagent.sources.host_use import disks

_MOUNTS: Final = "proc/self/mountinfo"
_SWAPS: Final = "proc/swaps"

# File systems on disks that have a device number of their own, which leads to none of them.
_POOLED: Final = frozenset({"bcachefs", "btrfs", "zfs"})


@dataclass(frozen=True, slots=True)
class _Mount:
    """A line of mountinfo: the device's number, where it is mounted, the file system and what is mounted."""

    number: str
    point: str
    kind: str = ""
    source: str = ""

    @property
    def anonymous(self) -> bool:
        """Whether the number is not a disk's."""
        return self.number.startswith("0:")

    @property
    def is_of_disk(self) -> bool:
        """Whether a disk is below it, as far as can be told."""
        return not self.anonymous or self.kind in _POOLED or self.source.startswith("/dev/")

    @property
    def disks(self) -> str:
        """What is the same for all mounts of the same disks; of ZFS the pool, as each data set has a number."""
        return self.source.partition("/")[0] if self.kind == "zfs" else self.number


def mounts(host: Tree) -> Iterator[Iterator[tuple[str, str]]]:
    """Gives the disks of each mount of /proc/self/mountinfo, with where it is mounted.

    36 35 259:1 / /mnt rw,noatime - ext4 /dev/nvme0n1p1 rw
    48 35 0:41 / /home rw,noatime - btrfs /dev/mapper/luks-home rw

    Raises Unreadable.
    """
    text = host.file(_MOUNTS, Lenient(_disk_mounts))
    if text is None and host.machine:
        raise Unreadable(_MOUNTS, "is absent, so that no mounted disk can be seen")
    if text == "":
        raise Unreadable(_MOUNTS, "names no mount, though every host has some")
    first: dict[str, _Mount] = {}
    for _, mount in _lines(text or ""):
        if mount.is_of_disk:
            first.setdefault(mount.disks, mount)
    return (_mounted(host, mount) for mount in first.values())


def swaps(host: Tree) -> Iterator[Iterator[tuple[str, str]]]:
    """Gives the disks that are swapped to; a file's is mounted.

    Filename                Type            Size            Used            Priority
    /dev/dm-0               partition       8388604         0               -2

    Raises Unreadable.
    """
    text = host.file(_SWAPS, Lenient(_partitions)) or ""
    return (_swapped(host, _plain(line.split()[0])) for line in text.splitlines())


def has_disk(host: Tree) -> bool:
    """Tells whether any disk is mounted or swapped to. Raises Unreadable."""
    return any(next(search(host), None) is not None for search in (mounts, swaps))


def _disk_mounts(text: str) -> str:
    """Leaves the mounts of disks and that of `/`: a host without either would look like one that was not read."""
    lines = list(_lines(text))
    kept = [line for line, mount in lines if mount.is_of_disk or mount.point == "/"]
    return "".join(f"{line}\n" for line in kept or [line for line, _ in lines[:1]])


def _lines(text: str) -> Iterator[tuple[str, _Mount]]:
    for line in text.split("\n"):
        mount = _parsed(line)
        if mount is not None:
            yield line, mount


def _parsed(line: str) -> _Mount | None:
    # Only spaces part the fields; in a mount's names the kernel writes them as \040.
    head, _, tail = line.partition(" - ")
    fields, rest = head.split(" "), tail.split(" ")
    if len(fields) < 5 or not re.fullmatch("[0-9]+:[0-9]+", fields[2]):
        return None
    return _Mount(fields[2], _plain(fields[4]), rest[0], _plain("".join(rest[1:2])))


def _plain(name: str) -> str:
    r"""Gives a name as it is: the kernel writes a space as \040, and some others too."""
    text = re.sub(r"\\(040|043|134)", lambda match: chr(int(match[1], 8)), name)
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def _mounted(host: Tree, mount: _Mount) -> Iterator[tuple[str, str]]:
    use = f"mounted on {mount.point}"
    if not mount.anonymous:
        for address in disks.functions(host, f"{disks.BLOCK}/{mount.number}"):
            yield address, use
    # bcachefs names all its disks: /dev/sda:/dev/sdb
    paths = re.split(":(?=/dev/)", mount.source)
    if not mount.anonymous and len(paths) == 1:
        return
    names = [disks.named(host, path) for path in paths]
    for name in names:
        if name is not None:
            for each in disks.together(host, name) if mount.kind == "btrfs" else [name]:
                yield from disks.used(host, each, use)
    # The disks of a btrfs that cannot be told by its name are found with those of all.
    if None in names and mount.kind in _POOLED and not (mount.kind == "btrfs" and disks.has_btrfs(host)):
        raise Unreadable(_MOUNTS, f"{mount.kind} {mount.source} on {mount.point} leads to no disk")


def _partitions(text: str) -> str:
    """Leaves of /proc/swaps the lines of disks."""
    return "".join(f"{line}\n" for line in text.splitlines() if line.split()[1:2] == ["partition"])


def _swapped(host: Tree, path: str) -> Iterator[tuple[str, str]]:
    name = disks.named(host, path.removesuffix(" (deleted)"))
    if name is None:
        raise Unreadable(_SWAPS, f"{path} leads to no disk")
    yield from disks.used(host, name, "swap")
