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
BLOCK_CLASS: Final = "sys/class/block"
NVME_SUBSYSTEMS: Final = "sys/class/nvme-subsystem"
_DEPTH: Final = 8  # VLAN on bond on NIC, LUKS on LVM on RAID on disk: nobody stacks deeper


def host_use(host: Tree, problems: list[Problem]) -> tuple[dict[str, str], bool]:
    """Gives, by PCI address, what the host uses a function for, in words for an operator; and whether that is all.

    It is not all if something that would tell could not be read.
    """
    uses: dict[str, str] = {}
    known = _is_whole(host, problems)
    for finder, follow in ((_routes, _by_interface), (_bonds, _by_interface), (_mounts, _by_disk)):
        for found in _patiently(finder(host)):
            try:
                if isinstance(found, Unreadable):
                    raise found
                for address, use in follow(host, *found):
                    uses.setdefault(address, use)
            except Unreadable as error:
                problems.append(Problem("users", None, str(error)))
                known = False
    return uses, known


def _is_whole(host: Tree, problems: list[Problem]) -> bool:
    """Tells whether what the routes and mounts name can be looked up: sysfs without any interface or disk is torn."""
    count = len(problems)
    for place, finder in ((NET, _routes), (BLOCK, _disk_mounts)):
        try:
            if not host.names(place) and next(finder(host), None) is not None:
                problems.append(Problem("users", None, f"{place} is empty, though the host uses what should be there"))
        except Unreadable as error:
            problems.append(Problem("users", None, str(error)))
    return len(problems) == count


def _disk_mounts(host: Tree) -> Iterator[tuple[str, str]]:
    return ((number, use) for number, use in _mounts(host) if not number.startswith("0:"))


def _patiently(found: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str] | Unreadable]:
    """Gives what is found, and in the end the error that ended the search, if one did."""
    try:
        yield from found
    except Unreadable as error:
        yield error


def _by_interface(host: Tree, name: str, use: str) -> Iterator[tuple[str, str]]:
    for interface, address in _functions(host, name):
        yield address, f"{use} ({interface})"


def _by_disk(host: Tree, number: str, use: str) -> Iterator[tuple[str, str]]:
    for address in _disks(host, number):
        yield address, use


def _routes(host: Tree) -> Iterator[tuple[str, str]]:
    for finder in (_default_ipv4, _default_ipv6):
        yield from ((name, "default route") for name in dict.fromkeys(finder(host)) if name != "lo")


def _default_ipv4(host: Tree) -> Iterator[str]:
    """Gives the interface of each line whose destination and mask are zero in /proc/net/route.

    Iface   Destination     Gateway         Flags   RefCnt  Use     Metric  Mask  ...
    eth0    00000000        010011AC        0003    0       0       0       00000000
    """
    for line in (host.file("proc/net/route", _default_routes) or "").splitlines():
        yield line.split()[0]


def _default_routes(text: str) -> str:
    """Leaves the lines of default routes: the others are nobody's business, and no capture needs them."""
    return "".join(f"{line}\n" for line in text.splitlines() if _is_default(line.split()))


def _is_default(fields: list[str]) -> bool:
    return len(fields) > 7 and fields[1] == fields[7] == "00000000"


def _default_ipv6(host: Tree) -> Iterator[str]:
    """Gives the interface of each ::/0 line of /proc/net/ipv6_route: destination, prefix length, ..., name."""
    for line in (host.file("proc/net/ipv6_route", _default_ipv6_routes) or "").splitlines():
        yield line.split()[9]


def _default_ipv6_routes(text: str) -> str:
    lines = ((line, line.split()) for line in text.splitlines())
    return "".join(f"{line}\n" for line, fields in lines if len(fields) == 10 and fields[:2] == ["0" * 32, "00"])


def _bonds(host: Tree) -> Iterator[tuple[str, str]]:
    for bond in (host.text(f"{NET}/bonding_masters") or "").split():
        yield bond, f"bonded in {bond}"


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
    """Gives the block device of each mount of /proc/self/mountinfo, with where it is mounted.

    36 35 259:1 / /mnt rw,noatime - ext4 /dev/nvme0n1p1 rw
    48 35 0:41 / /home rw,noatime - btrfs /dev/nvme1n1p2 rw

    btrfs has no device number of its own; the name after the dash leads to that of its disk.
    """
    seen: set[str] = set()
    for line in (host.file("proc/self/mountinfo") or "").splitlines():
        fields, _, rest = line.partition(" - ")
        match = re.fullmatch(r"\S+ \S+ ([0-9]+:[0-9]+) \S+ (\S+).*", fields)
        if match is None:
            continue
        number, point = match.groups()
        name = re.fullmatch(r"\S+ /dev/([^/\s]+).*", rest)
        if number.startswith("0:") and name is not None:
            number = host.text(f"{BLOCK_CLASS}/{name[1]}/dev") or number
        if number not in seen and re.fullmatch("[0-9]+:[0-9]+", number):
            seen.add(number)
            yield number, f"mounted on {point}"


def _disks(host: Tree, number: str, depth: int = _DEPTH) -> Iterator[str]:
    """Gives the PCI functions below a block device, through LVM, LUKS, RAID (their `slaves`) and NVMe multipath."""
    if not depth:
        return
    target = host.link(f"{BLOCK}/{number}")
    address = _pci_address(target)
    if address is not None:
        yield address
    subsystem = re.search(r"/nvme-subsystem/(nvme-subsys[0-9]+)/", target or "")
    if subsystem is not None:
        yield from _controllers(host, f"{NVME_SUBSYSTEMS}/{subsystem[1]}")
    for slave in host.names(f"{BLOCK}/{number}/slaves"):
        below = host.text(f"{BLOCK}/{number}/slaves/{slave}/dev")
        if below is not None and re.fullmatch(r"[0-9]+:[0-9]+", below):
            yield from _disks(host, below, depth - 1)


def _controllers(host: Tree, subsystem: str) -> Iterator[str]:
    """Gives the PCI functions of an NVMe subsystem's controllers: its links nvme0, nvme1 and so on."""
    for name in host.names(subsystem):
        address = _pci_address(host.link(f"{subsystem}/{name}")) if re.fullmatch("nvme[0-9]+", name) else None
        if address is not None:
            yield address


def _pci_address(target: str | None) -> str | None:
    """Gives the last PCI address in a link such as ../../devices/pci0000:00/0000:00:03.0/virtio1/net/eth0."""
    addresses = [part for part in (target or "").split("/") if is_address(part)]
    return addresses[-1] if addresses else None
