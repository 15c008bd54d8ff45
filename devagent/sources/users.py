# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds what the host itself uses: the default route's NICs, bonded NICs, mounted disks, the boot display."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from devagent.errors import Unreadable
from devagent.model.pci import is_address
from devagent.model.snapshot import Problem
from devagent.sources.host import Tree

NET: Final = "sys/class/net"
BLOCK: Final = "sys/dev/block"
_DEPTH: Final = 8  # VLAN on bond on NIC, LUKS on LVM on RAID on disk: nobody stacks deeper


def host_use(host: Tree, problems: list[Problem]) -> tuple[dict[str, str], bool]:
    """Gives, by PCI address, what the host uses a function for, in words for an operator; and whether that is all.

    It is not all if something that would tell could not be read.
    """
    uses: dict[str, str] = {}
    known = True
    for finder in (_routes, _bonds, _mounts):
        try:
            for address, use in finder(host):
                uses.setdefault(address, use)
        except Unreadable as error:
            problems.append(Problem("users", None, str(error)))
            known = False
    return uses, known


def _routes(host: Tree) -> Iterator[tuple[str, str]]:
    for name in sorted({*_default_ipv4(host), *_default_ipv6(host)} - {"lo"}):
        for interface, address in _functions(host, name):
            yield address, f"default route ({interface})"


def _default_ipv4(host: Tree) -> Iterator[str]:
    """Gives the interface of each line whose destination and mask are zero in /proc/net/route.

    Iface   Destination     Gateway         Flags   RefCnt  Use     Metric  Mask  ...
    eth0    00000000        010011AC        0003    0       0       0       00000000
    """
    for line in (host.file("proc/net/route") or "").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000":
            yield fields[0]


def _default_ipv6(host: Tree) -> Iterator[str]:
    """Gives the interface of each ::/0 line of /proc/net/ipv6_route: destination, prefix length, ..., name."""
    for line in (host.file("proc/net/ipv6_route") or "").splitlines():
        fields = line.split()
        if len(fields) == 10 and fields[0] == "0" * 32 and fields[1] == "00":
            yield fields[9]


def _bonds(host: Tree) -> Iterator[tuple[str, str]]:
    for bond in (host.text(f"{NET}/bonding_masters") or "").split():
        for interface, address in _functions(host, bond):
            yield address, f"bonded in {bond} ({interface})"


def _functions(host: Tree, interface: str, depth: int = _DEPTH) -> Iterator[tuple[str, str]]:
    """Gives the physical interfaces below a bridge, bond or VLAN with their PCI addresses."""
    if not re.fullmatch(r"[^/\s]{1,15}", interface) or not depth:
        return
    lower = [name[len("lower_") :] for name in host.names(f"{NET}/{interface}") if name.startswith("lower_")]
    for name in lower:
        yield from _functions(host, name, depth - 1)
    address = _pci_address(host.link(f"{NET}/{interface}"))
    if address is not None and not lower:
        yield interface, address


def _mounts(host: Tree) -> Iterator[tuple[str, str]]:
    """Gives the disk below each mount of /proc/self/mountinfo: `36 35 259:1 / /mnt rw,noatime ...`."""
    points: dict[str, str] = {}
    for line in (host.file("proc/self/mountinfo") or "").splitlines():
        fields = line.split()
        if len(fields) > 4 and re.fullmatch(r"[0-9]+:[0-9]+", fields[2]):
            points.setdefault(fields[2], fields[4])
    for number, point in points.items():
        for address in _disks(host, number):
            yield address, f"mounted on {point}"


def _disks(host: Tree, number: str, depth: int = _DEPTH) -> Iterator[str]:
    """Gives the PCI functions below a block device, through LVM, LUKS and RAID (their `slaves`)."""
    if not depth:
        return
    address = _pci_address(host.link(f"{BLOCK}/{number}"))
    if address is not None:
        yield address
    for slave in host.names(f"{BLOCK}/{number}/slaves"):
        below = host.text(f"{BLOCK}/{number}/slaves/{slave}/dev")
        if below is not None and re.fullmatch(r"[0-9]+:[0-9]+", below):
            yield from _disks(host, below, depth - 1)


def _pci_address(target: str | None) -> str | None:
    """Gives the last PCI address in a link such as ../../devices/pci0000:00/0000:00:03.0/virtio1/net/eth0."""
    addresses = [part for part in (target or "").split("/") if is_address(part)]
    return addresses[-1] if addresses else None
