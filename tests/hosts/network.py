# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Network interfaces in sysfs, bonds over them, and the routing tables."""

from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv6Address

from .description import Host
from .node import DescriptionError
from .topology import Function
from .tree import Tree

_CLASS = "sys/class/net"
_VIRTUAL = "sys/devices/virtual/net"
_ETHERNET, _LOOPBACK = 1, 772
_PERMANENT, _RANDOM, _SET = 0, 1, 3
_SPEED = 25000


def write_network(tree: Tree, host: Host, functions: Sequence[Function], virtio: dict[str, str]) -> None:
    """Adds all interfaces; virtio holds the child devices of virtio functions."""
    _write_interface(tree, f"{_VIRTUAL}/lo", _LOOPBACK, "00:00:00:00:00:00", mtu=65536, operstate="unknown")
    interfaces: dict[str, str] = {}
    for function in functions:
        name = _name(function)
        if name:
            interfaces[name] = _write_port(tree, host, function, name, virtio.get(function.path, function.path))
    for name, members in host.bonds.items():
        for member in members:
            if member not in interfaces:
                raise DescriptionError(host.name, f"{name} has no interface {member}")
        interfaces[name] = _write_bond(tree, name, {member: interfaces[member] for member in members})
    if host.bonds:
        tree.lines(_CLASS, {"bonding_masters": " ".join(host.bonds)})
    _write_routes(tree, host, interfaces)


def _name(function: Function) -> str | None:
    # A function on a VFIO driver, or on none, has no interface.
    if not function.driver or "vfio" in function.driver:
        return None
    device = function.device
    if function.physfn is not None:
        return function.named(device.vfs.net) if device.vfs and device.vfs.net else None
    if not device.net:
        return None
    return function.named(device.net[function.address.function % len(device.net)])


def _write_port(tree: Tree, host: Host, function: Function, name: str, parent: str) -> str:
    address = function.address
    mac = f"02:{address.domain & 0xFF:02x}:00:{address.bus:02x}:{address.devfn:02x}:00"
    path = f"{parent}/net/{name}"
    _write_interface(tree, path, _ETHERNET, mac)
    # Drivers with several ports behind their functions name each; a VF has no port of its own.
    port = "" if function.physfn else f"p{address.function}\n"
    tree.files(path, {"phys_port_name": port})
    bonded = any(name in members for members in host.bonds.values())
    # Burnt in; of a VF made up by the driver; of a bond's member set by the bond (include/uapi/linux/netdevice.h).
    assigned = _RANDOM if function.physfn else _SET if bonded else _PERMANENT
    tree.lines(path, {"addr_assign_type": assigned, "speed": _SPEED})
    tree.link(f"{path}/device", parent)
    return path


def _write_interface(tree: Tree, path: str, kind: int, mac: str, mtu: int = 1500, operstate: str = "up") -> None:
    tree.lines(path, {"address": mac, "mtu": mtu, "operstate": operstate, "type": kind, "dev_port": 0, "carrier": 1})
    tree.link(f"{path}/subsystem", _CLASS)
    tree.link(f"{_CLASS}/{path.rpartition('/')[2]}", path)


def _write_bond(tree: Tree, name: str, members: dict[str, str]) -> str:
    path = f"{_VIRTUAL}/{name}"
    _write_interface(tree, path, _ETHERNET, "02:00:00:00:00:01")
    tree.lines(f"{path}/bonding", {"slaves": " ".join(members), "mode": "802.3ad 4", "mii_status": "up"})
    for member, lower in members.items():
        tree.link(f"{path}/lower_{member}", lower)
        tree.link(f"{lower}/master", path)
        tree.link(f"{lower}/upper_{name}", path)
    return path


def _write_routes(tree: Tree, host: Host, interfaces: dict[str, str]) -> None:
    lines = ["Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"]
    lines6 = [_route6("::", 0, "::", 0xFFFFFFFF, 0x00200200, "lo")]
    if host.route:
        name, network = host.route.interface, IPv4Interface(host.route.address).network
        if name not in interfaces:
            raise DescriptionError(host.name, f"the default route has no interface {name}")
        gateway = int(IPv4Interface(host.route.gateway).ip)
        lines.append(_route4(name, 0, gateway, 0x0003, 0))
        lines.append(_route4(name, int(network.network_address), 0, 0x0001, int(network.netmask)))
        lines6.insert(0, _route6("fe80::", 64, "::", 0x100, 0x0001, name))
        if host.route.gateway6:
            lines6.insert(1, _route6("::", 0, host.route.gateway6, 0x400, 0x0003, name))
    tree.files("proc/net", {"route": "".join(f"{line:<127}\n" for line in lines), "ipv6_route": "".join(lines6)})


def _route4(interface: str, destination: int, gateway: int, flags: int, mask: int) -> str:
    # eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
    return f"{interface}\t{_swapped(destination)}\t{_swapped(gateway)}\t{flags:04X}\t0\t0\t0\t{_swapped(mask)}\t0\t0\t0"


def _swapped(address: int) -> str:
    # The kernel prints the address as it lies in memory, read as a little-endian number.
    return address.to_bytes(4, "little").hex().upper()


def _route6(destination: str, prefix: int, gateway: str, metric: int, flags: int, interface: str) -> str:
    to, via = (IPv6Address(address).packed.hex() for address in (destination, gateway))
    return f"{to} {prefix:02x} {'0' * 32} 00 {via} {metric:08x} 00000001 00000000 {flags:08x} {interface:>8}\n"
