# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds the NICs that the host itself uses: those below its default routes, and the ports of bonds and bridges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from devagent.errors import Unreadable
from devagent.sources.device_path import pci_address
from devagent.sources.host import Tree

NET: Final = "sys/class/net"
_ROUTE: Final = "proc/net/route"
_ROUTE6: Final = "proc/net/ipv6_route"
_DEPTH: Final = 8  # VLAN on bond on NIC: nobody stacks deeper

# 0.0.0.0/1 and 128.0.0.0/1 are together as much as 0.0.0.0/0, and go before it; as are ::/1 and 8000::/1.
# Which end of an IPv4 address comes first is the processor's affair.
_WHOLE: Final = frozenset({("00000000", "00000000"), ("0" * 32, "00")})
_LOWER: Final = frozenset({("00000000", "00000080"), ("00000000", "80000000"), ("0" * 32, "01")})
_UPPER: Final = frozenset({("00000080", "00000080"), ("80000000", "80000000"), ("8" + "0" * 31, "01")})


def default_ipv4(host: Tree) -> Iterator[Iterator[tuple[str, str]]]:
    """Gives the NICs of each default route of /proc/net/route.

    Iface   Destination     Gateway         Flags   RefCnt  Use     Metric  Mask  ...
    eth0    00000000        010011AC        0003    0       0       0       00000000

    Raises Unreadable.
    """
    text = host.file(_ROUTE, _ipv4_defaults)
    if text is None and host.machine:
        raise Unreadable(_ROUTE, "is absent, so that no default route can be seen")
    return _over(host, (line.split()[0] for line in (text or "").splitlines()))


def default_ipv6(host: Tree) -> Iterator[Iterator[tuple[str, str]]]:
    """Gives the NICs of each default route of /proc/net/ipv6_route: destination, prefix length, ..., name.

    Raises Unreadable.
    """
    text = host.file(_ROUTE6, _ipv6_defaults) or ""
    return _over(host, (line.split()[9] for line in text.splitlines()))


def bonds(host: Tree) -> Iterator[Iterator[tuple[str, str]]]:
    """Gives the NICs of each bond. Raises Unreadable."""
    for bond in (host.text(f"{NET}/bonding_masters") or "").split():
        yield _by_interface(host, bond, f"bonded in {bond}")


def ports(host: Tree) -> Iterator[Iterator[tuple[str, str]]]:
    """Gives each NIC that is a port of something: of a bridge, a team, a VRF, or of Open vSwitch as `ovs-system`.

    /sys/class/net/ens1f0/master -> ../../../../virtual/net/ovs-system

    Raises Unreadable.
    """
    for name in host.names(NET):
        yield _as_port(host, name)


def has_default_route(host: Tree) -> bool:
    """Tells whether there is any default route. Raises Unreadable."""
    return any(next(search(host), None) is not None for search in (default_ipv4, default_ipv6))


def _over(host: Tree, names: Iterator[str]) -> Iterator[Iterator[tuple[str, str]]]:
    return (_by_interface(host, name, "default route") for name in dict.fromkeys(names) if name != "lo")


def _ipv4_defaults(text: str) -> str:
    """Leaves the lines of default routes: the others are nobody's business, and no capture needs them."""
    return _defaults(text, lambda fields: (fields[1], fields[7]) if len(fields) > 7 else None)


def _ipv6_defaults(text: str) -> str:
    return _defaults(text, lambda fields: (fields[0], fields[1]) if len(fields) == 10 else None)


def _defaults(text: str, destination: Callable[[list[str]], tuple[str, str] | None]) -> str:
    lines = [(line, destination(line.split())) for line in text.splitlines()]
    there = {where for _, where in lines if where is not None}
    wanted = _WHOLE | _LOWER | _UPPER if there & _LOWER and there & _UPPER else _WHOLE
    return "".join(f"{line}\n" for line, where in lines if where in wanted)


def _by_interface(host: Tree, name: str, use: str) -> Iterator[tuple[str, str]]:
    for interface, address in _physical(host, name):
        yield address, f"{use} ({interface})"


def _as_port(host: Tree, name: str) -> Iterator[tuple[str, str]]:
    address = pci_address(host.link(f"{NET}/{name}"))
    master = None if address is None else host.link(f"{NET}/{name}/master")
    if address is not None and master is not None:
        yield address, f"port of {master.rpartition('/')[2]} ({name})"


def _physical(host: Tree, interface: str, depth: int = _DEPTH) -> Iterator[tuple[str, str]]:
    """Gives the physical interfaces below a bridge, bond or VLAN with their PCI addresses."""
    if not re.fullmatch(r"[^/\s]{1,15}", interface) or not depth:
        return
    lower = [name[len("lower_") :] for name in host.names(f"{NET}/{interface}") if name.startswith("lower_")]
    for name in lower:
        yield from _physical(host, name, depth - 1)
    address = pci_address(host.link(f"{NET}/{interface}"))
    if address is not None and not lower:
        yield interface, address
