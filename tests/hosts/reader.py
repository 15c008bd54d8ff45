# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads a host description from YAML or from a mapping of the same shape."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .description import (
    Address,
    Device,
    Dfl,
    Disk,
    FpgaManager,
    Host,
    KfdNode,
    Mdev,
    Port,
    RootBus,
    Route,
    VirtualFunctions,
)
from .node import DescriptionError, Node

Types = Mapping[str, Mapping[str, Any]]


def read_host(description: Mapping[str, Any] | Path) -> Host:
    """Returns the described host; a path is that of a YAML file."""
    if isinstance(description, Mapping):
        return _host(Node(description, "description"))
    # The base loader leaves every scalar as text: to YAML 0000:17:00.0 is a number in base 60.
    loaded = yaml.load(description.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    return _host(Node(loaded, description.name))


def _host(node: Node) -> Host:
    with node:
        types = _types(node)
        return Host(
            name=node.text("host"),
            hostname=node.text("hostname"),
            kernel=node.text("kernel", "6.12.57-amd64"),
            machine_id=node.text("machine_id"),
            boot_id=node.text("boot_id"),
            compute_id=node.optional("compute_id"),
            iommu=node.flag("iommu", True),
            nodes=(nodes := node.texts("nodes")),
            drivers=node.texts("drivers"),
            root=node.optional("root"),
            bonds=_bonds(node.node("bonds")),
            route=_route(node),
            kfd=tuple(_kfd_node(Node(item, where)) for where, item in node.items("kfd")),
            nvml=_nvml(node),
            files=node.mapping("files"),
            root_buses=tuple(_placed(Node(item, where), types, len(nodes)) for where, item in node.items("pci")),
        )


def _types(node: Node) -> Types:
    with node.node("types") as types:
        found = {name: types.take(name) for name in types}
        for name, body in found.items():
            # Read once by itself, so that a mistake is named where it was made.
            _device(body, f"{types.where}.{name}", found)
        return found


def _bonds(node: Node) -> dict[str, tuple[str, ...]]:
    with node:
        return {name: node.texts(name) for name in node}


def _route(node: Node) -> Route | None:
    if "route" not in node:
        return None
    with node.node("route") as route:
        return Route(
            interface=route.text("interface"),
            address=route.text("address"),
            gateway=route.text("gateway"),
            gateway6=route.optional("gateway6"),
        )


def _placed(node: Node, types: Types, nodes: int) -> RootBus:
    root = _root_bus(node, types)
    if root.node >= nodes:
        raise node.error("node", f"no node {root.node}")
    return root


def _root_bus(node: Node, types: Types) -> RootBus:
    with node:
        domain, bus = node.read("bus", _pair)
        return RootBus(domain, bus, node.number("node", -1), _devices(node, "devices", types))


def _devices(node: Node, key: str, types: Types) -> tuple[Device, ...]:
    return tuple(_device(item, where, types) for where, item in node.items(key))


def _device(body: Any, where: str, types: Types) -> Device:
    body = _completed({"type": body} if isinstance(body, str) else body, where, types)
    with Node(body, where) as node:
        vendor, device = node.read("id", _pair)
        subsystem = node.read("subsystem", _pair, f"{vendor:x}:{device:x}")
        speed, width = node.read("link", _link, "16.0 x16")
        return Device(
            vendor=vendor,
            device=device,
            subsystem_vendor=subsystem[0],
            subsystem_device=subsystem[1],
            class_code=(code := node.read("class", _hex)),
            revision=node.read("revision", _hex, "0"),
            at=node.read("at", _devfn) if "at" in node else None,
            count=node.number("count", 1),
            functions=node.number("functions", 1),
            driver=node.optional("driver"),
            driver_override=node.optional("driver_override"),
            link_speed=speed,
            link_width=width,
            # A port is not reset through its own file; everything else takes the two usual methods.
            reset=node.texts("reset") if "reset" in node else () if code >> 8 == 0x0604 else ("flr", "bus"),
            boot_vga=node.flag("boot_vga", False),
            iommu_with=node.read("iommu_with", _devfn) if "iommu_with" in node else None,
            attributes=node.mapping("attributes"),
            net=node.texts("net"),
            disk=_disk(node.node("disk")) if "disk" in node else None,
            vfs=_vfs(node.node("vfs"), device) if "vfs" in node else None,
            dfl=_dfl(node.node("dfl")) if "dfl" in node else None,
            fpga_manager=_fpga_manager(node.node("fpga_manager")) if "fpga_manager" in node else None,
            mdev=_mdev(node.node("mdev")) if "mdev" in node else None,
            bus=node.read("bus", _hex) if "bus" in node else None,
            behind=_devices(node, "behind", types),
            root_bus=_root_bus(node.node("root_bus"), types) if "root_bus" in node else None,
        )


def _completed(body: Any, where: str, types: Types) -> Any:
    if not isinstance(body, Mapping) or "type" not in body:
        return body
    if body["type"] not in types:
        raise DescriptionError(where, f"unknown type {body['type']}")
    own = {key: value for key, value in body.items() if key != "type"}
    return _merged(_completed(types[body["type"]], where, types), own)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _vfs(node: Node, device: int) -> VirtualFunctions:
    with node:
        total, count = node.number("total"), node.number("count", 0)
        if count > total:
            raise node.error("count", f"{count} of {total}")
        return VirtualFunctions(
            total=total,
            device=node.read("device", _hex, f"{device:x}"),
            count=count,
            offset=node.number("offset", 1),
            stride=node.number("stride", 1),
            drivers=dict(_drivers(node, count)),
            net=node.optional("net"),
            attributes=node.mapping("attributes"),
        )


def _drivers(node: Node, count: int) -> Iterator[tuple[int, str]]:
    """Yields the driver of each bound VF, from one name or one per range."""
    given = node.take("driver", None)
    if not isinstance(given, Mapping):
        given = {f"0-{count - 1}": given} if count else {}
    for where, name in given.items():
        first, _, last = str(where).partition("-")
        indices = range(int(first), int(last or first) + 1) if f"{first}{last}".isdecimal() else range(0)
        if not indices or indices[-1] >= count:
            raise node.error("driver", f"no VFs {where}")
        if name is not None and name != "null":
            yield from ((index, str(name)) for index in indices)


def _disk(node: Node) -> Disk:
    with node:
        return Disk(node.text("name"), node.number("partitions", 1))


def _dfl(node: Node) -> Dfl:
    with node:
        return Dfl(
            bitstream_id=node.text("bitstream_id"),
            bitstream_metadata=node.text("bitstream_metadata"),
            compat_id=node.text("compat_id"),
            ports_num=node.number("ports_num", 1),
            ports=tuple(_port(Node(item, where)) for where, item in node.items("ports")),
        )


def _port(node: Node) -> Port:
    with node:
        return Port(node.number("id"), node.optional("afu_id"))


def _fpga_manager(node: Node) -> FpgaManager:
    with node:
        return FpgaManager(node.text("name"), node.text("state", "operating"), node.text("status", ""))


def _mdev(node: Node) -> Mdev:
    with node:
        with node.node("types") as types:
            files = {name: types.mapping(name) for name in types}
        devices = node.mapping("devices")
        if not files.keys() >= set(devices.values()):
            raise node.error("devices", "a device of no such type")
        return Mdev(files, devices, node.flag("vfs", False))


def _kfd_node(node: Node) -> KfdNode:
    with node:
        return KfdNode(
            name=node.text("name", ""),
            address=node.read("address", _address) if "address" in node else None,
            partition=node.number("partition", 0),
            gfx_version=node.number("gfx_version", 0),
            xccs=node.number("xccs", 1),
            render_minor=node.number("render_minor", 0),
            unique_id=node.read("unique_id", _hex, "0"),
            hive_id=node.read("hive_id", _hex, "0"),
            xgmi=tuple(map(int, node.texts("xgmi"))),
            pcie=tuple(map(int, node.texts("pcie"))),
        )


def _nvml(node: Node) -> dict[str, Mapping[str, object]]:
    try:
        answers = yaml.safe_load(node.text("nvml", "{}"))
        return {str(_address(address)): dict(answer) for address, answer in answers.items()}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise node.error("nvml", f"expected answers of NVML by address ({error})") from None


def _hex(text: str) -> int:
    return int(text, 16)


def _pair(text: str) -> tuple[int, int]:
    first, second = text.split(":")
    return _hex(first), _hex(second)


def _address(text: str) -> Address:
    domain, bus, rest = text.split(":")
    return Address(_hex(domain), _hex(bus), _devfn(rest))


def _devfn(text: str) -> int:
    slot, function = text.split(".")
    return _hex(slot) << 3 | int(function)


def _link(text: str) -> tuple[str, int]:
    """Reads "16.0 x16", gigatransfers per second and lanes, or "none" for conventional PCI."""
    if text == "none":
        return "", 0
    speed, width = text.split(" x")
    return f"{speed} GT/s PCIe", int(width)
