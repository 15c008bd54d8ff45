# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Follows block devices down to PCI functions, and finds those that others are built on: LVM, LUKS, RAID, btrfs.

A `place` is a block device's directory: sys/class/block/nvme0n1p2 or sys/dev/block/259:2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from devagent.sources.device_path import pci_address
from devagent.sources.host import Tree

BLOCK: Final = "sys/dev/block"
BLOCK_CLASS: Final = "sys/class/block"
_BTRFS: Final = "sys/fs/btrfs"
_NVME_SUBSYSTEMS: Final = "sys/class/nvme-subsystem"
_DEPTH: Final = 8  # LUKS on LVM on RAID on disk: nobody stacks deeper

# What is on no disk of its own; of these a host can have thousands.
_VIRTUAL: Final = re.compile(r"(?:dm-|loop|md|nbd|ram|rbd|zd|zram)[0-9].*")


def functions(host: Tree, place: str, depth: int = _DEPTH) -> Iterator[str]:
    """Gives the PCI functions below a block device, through LVM, LUKS, RAID (their `slaves`) and NVMe multipath.

    Raises Unreadable.
    """
    if not depth:
        return
    target = host.link(place)
    address = pci_address(target)
    if address is not None:
        yield address
    subsystem = re.search(r"/nvme-subsystem/(nvme-subsys[0-9]+)/", target or "")
    if subsystem is not None:
        yield from _controllers(host, f"{_NVME_SUBSYSTEMS}/{subsystem[1]}")
    for slave in host.names(f"{place}/slaves"):
        below = host.text(f"{place}/slaves/{slave}/dev")
        if below is not None and re.fullmatch(r"[0-9]+:[0-9]+", below):
            yield from functions(host, f"{BLOCK}/{below}", depth - 1)


def named(host: Tree, path: str) -> str | None:
    """Gives the kernel's name of what /dev calls `path`, such as dm-3 for /dev/mapper/vg-lv; None if sysfs tells none.

    Names that only udev knows, such as /dev/disk/by-uuid/..., are among those. Raises Unreadable.
    """
    if not path.startswith("/dev/"):
        return None
    name = path.removeprefix("/dev/").replace("/", "!")  # as sysfs spells cciss/c0d0
    if name not in ("", ".", "..") and host.link(f"{BLOCK_CLASS}/{name}") is not None:
        return name
    mapped = _mapped(path)
    if mapped is not None:
        for candidate in host.names(BLOCK_CLASS, "dm-*"):
            if _title(host, candidate) == mapped:
                return candidate
    return None


def together(host: Tree, name: str) -> list[str]:
    """Gives all the block devices of the mounted btrfs that `name` is one of. Raises Unreadable."""
    return next((members for members in _filesystems(host) if name in members), [name])


def btrfs(host: Tree) -> Iterator[Iterator[tuple[str, str]]]:
    """Gives the disks of every btrfs that is mounted; one can have several, of which a mount names one.

    /sys/fs/btrfs/0c8f.../devices/sda1 -> ../../../../devices/pci0000:00/.../block/sda/sda1

    Raises Unreadable.
    """
    for members in _filesystems(host):
        for name in members:
            yield used(host, name, "in a mounted btrfs")


def has_btrfs(host: Tree) -> bool:
    """Tells whether sysfs shows the disks of any btrfs. Raises Unreadable."""
    return any(_filesystems(host))


def holders(host: Tree) -> Iterator[Iterator[tuple[str, str]]]:
    """Gives the disks that something is built on, mounted or not: a logical volume may be a virtual machine's disk.

    /sys/class/block/nvme0n1p3/holders/dm-3 -> ../../../../../../../virtual/block/dm-3

    Raises Unreadable.
    """
    for name in host.names(BLOCK_CLASS):
        if not _VIRTUAL.fullmatch(name):
            yield _held(host, name)


def used(host: Tree, name: str, use: str) -> Iterator[tuple[str, str]]:
    """Gives the PCI functions below the block device that the kernel calls `name`. Raises Unreadable."""
    for address in functions(host, f"{BLOCK_CLASS}/{name}"):
        yield address, use


def _held(host: Tree, name: str) -> Iterator[tuple[str, str]]:
    above = host.names(f"{BLOCK_CLASS}/{name}/holders")
    if above:
        title = _title(host, above[0])
        yield from used(host, name, f"holds {above[0]}" + (f" ({title})" if title else ""))


def _filesystems(host: Tree) -> Iterator[list[str]]:
    return (members for uuid in host.names(_BTRFS) if (members := host.names(f"{_BTRFS}/{uuid}/devices")))


def _mapped(path: str) -> str | None:
    """Gives the device mapper's name of /dev/mapper/vg-lv or /dev/vg/lv, in which a hyphen of LVM is doubled."""
    folder, _, name = path.removeprefix("/dev/").partition("/")
    if not name or "/" in name:
        return None
    return name if folder == "mapper" else "-".join(part.replace("-", "--") for part in (folder, name))


def _title(host: Tree, name: str) -> str | None:
    return host.text(f"{BLOCK_CLASS}/{name}/dm/name")


def _controllers(host: Tree, subsystem: str) -> Iterator[str]:
    """Gives the PCI functions of an NVMe subsystem's controllers: its links nvme0, nvme1 and so on."""
    for name in host.names(subsystem):
        address = pci_address(host.link(f"{subsystem}/{name}")) if re.fullmatch("nvme[0-9]+", name) else None
        if address is not None:
            yield address
