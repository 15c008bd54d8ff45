# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the topology of AMD's compute driver (KFD): which nodes a GPU has, and what they are linked to.

    nodes/4/properties                simd_count 304
                                      vendor_id 4098
                                      location_id 49152                PCI bus << 8 | device << 3 | function
                                      domain 0
                                      hive_id 11025894512213120212     equal for GPUs that XGMI joins
                                      gfx_target_version 90402
    nodes/4/io_links/0/properties     type 11                          XGMI; 2 is PCIe
                                      node_to 5

A GPU in CPX mode has a node per partition, whose number stands in bits 28 to 31 of `location_id`; early
kernels (6.5) put it in the place of the PCI function instead. CPUs are nodes too, of vendor 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from devagent.errors import Unreadable
from devagent.model.gpu import KfdNode
from devagent.model.pci import Function
from devagent.sources.apart import Ask, Look
from devagent.sources.host import Tree
from devagent.sources.pci import DEVICES

SOURCE: Final = "kfd"
NODES: Final = "sys/class/kfd/kfd/topology/nodes"

_AMD: Final = 0x1002
_LINKS: Final = {2: "pcie", 11: "xgmi"}
_NUMBER: Final = re.compile("0|[1-9][0-9]{0,3}")
_LINE: Final = re.compile(r"([a-z_0-9]{1,64}) ([0-9]{1,20})")
_LIMIT: Final = 2.0


def sees(function: Function) -> bool:
    """Tells whether KFD may know the function: a GPU that amdgpu drives."""
    return function.vendor_id == "1002" and function.driver == "amdgpu"


def look(wanted: bool) -> Look:
    """Asks once for the whole topology, if it is wanted; the answer is a tuple of KfdNode."""

    @contextmanager
    def opened(tree: Tree) -> Iterator[Ask]:
        yield lambda _subject: topology(tree)

    return Look(SOURCE, (SOURCE,) if wanted else (), opened, _LIMIT)


def topology(tree: Tree) -> tuple[KfdNode, ...]:
    """Gives the nodes of all GPUs by number; one that does not say where it is, is left out.

    Raises Unreadable if the list of nodes itself cannot be read.
    """
    if not tree.has(NODES):
        return ()
    with tree.below(NODES) as nodes:
        found: dict[int, KfdNode] = {}
        for number in _numbers(nodes, "."):
            node = _node(tree, number, _properties(nodes, f"{number}/properties"))
            if node is not None:
                found[number] = node
        return tuple(replace(node, links=tuple(_links(nodes, node, found))) for node in found.values())


def _node(tree: Tree, number: int, properties: Mapping[str, int]) -> KfdNode | None:
    address = _address(tree, properties)
    if address is None or properties.get("vendor_id") != _AMD:
        return None
    return KfdNode(
        address=address,
        node=number,
        hive_id=_id(properties.get("hive_id")),
        gfx_version=_gfx(properties.get("gfx_target_version", 0)),
    )


def _address(tree: Tree, properties: Mapping[str, int]) -> str | None:
    location, domain = properties.get("location_id", 0) & 0xFFFF, properties.get("domain", 0)
    if not properties.get("location_id") or domain > 0xFFFFFFFF:
        return None
    address = f"{domain:04x}:{location >> 8:02x}:{location >> 3 & 31:02x}.{location & 7}"
    return address if tree.has(f"{DEVICES}/{address}") else f"{address[:-1]}0"


def _id(number: int | None) -> str | None:
    """Spells an id as amdgpu's `unique_id` does; zero means none."""
    return f"{number:016x}" if number and number < 1 << 64 else None


def _gfx(version: int) -> str | None:
    """Gives `gfx942` for 90402: major, minor and stepping, the last two in hex."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}" if version else None


def _links(nodes: Tree, node: KfdNode, others: Mapping[int, KfdNode]) -> Iterator[tuple[str, str]]:
    """Gives the kind and peer of each link to another GPU's node, each once; those to CPUs are none."""
    found = set()
    folder = f"{node.node}/io_links"
    for link in _numbers(nodes, folder):
        properties = _properties(nodes, f"{folder}/{link}/properties")
        kind, peer = _LINKS.get(properties.get("type", 0)), others.get(properties.get("node_to", -1))
        if kind is not None and peer is not None and peer.address != node.address:
            found.add((kind, peer.address))
    yield from sorted(found)


def _numbers(nodes: Tree, path: str) -> list[int]:
    return sorted(int(name) for name in nodes.names(path) if _NUMBER.fullmatch(name))


def _properties(nodes: Tree, path: str) -> dict[str, int]:
    """Reads lines of a key and a number; none where this process may not see the GPU (a device cgroup)."""
    try:
        text = nodes.text(path) or ""
    except Unreadable:
        return {}
    return {match[1]: int(match[2]) for match in map(_LINE.fullmatch, text.splitlines()) if match}
