# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How far two devices are apart, in the words of `nvidia-smi topo -m`, from what sysfs tells of the PCIe tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from devagent.model.device import Device
from devagent.model.gpu import GpuFacts
from devagent.model.pci import Function

UNKNOWN: Final = "?"
SELF: Final = "X"

LEGEND: Final = (
    (SELF, "the device itself"),
    ("NV#", "connected by # NVLinks"),
    ("XG#", "connected by # XGMI links"),
    ("PIX", "at most a single PCIe bridge between them"),
    ("PXB", "several PCIe bridges, but no host bridge"),
    ("PHB", "through a PCIe host bridge, typically the CPU"),
    ("NODE", "through the interconnect of host bridges within one NUMA node"),
    ("SYS", "through the interconnect between NUMA nodes"),
    (UNKNOWN, "unknown: the host does not tell"),
)

_LINKS: Final = {"nvlink": "NV", "xgmi": "XG"}


def distance(one: Device, other: Device, nodes: Sequence[int] = ()) -> str:
    """Gives how `one` and `other` are connected; `nodes` are the host's NUMA nodes."""
    if one.address == other.address:
        return SELF
    return _linked(one, other) or _by_pcie(one.function, other.function, nodes)


def node(function: Function, nodes: Sequence[int] = ()) -> int | None:
    """Gives the NUMA node of a function: of a host with one node, that one; None if it is unknown."""
    if function.numa_node is None and len(nodes) == 1 and "numa_node" not in function.unread:
        return nodes[0]
    return function.numa_node


def _linked(one: Device, other: Device) -> str | None:
    """Gives `NV18` for GPUs with links to each other or to the same switches; None if there are none."""
    gpus = one.claim.gpu, other.claim.gpu
    if gpus[0] is None or gpus[1] is None:
        return None
    for kind, code in _LINKS.items():
        direct = max(_links(gpus[0], kind, other.address), _links(gpus[1], kind, one.address))
        # Over switches a GPU reaches its peer with as many links as both have to the switches.
        switched = 0 if _apart(gpus[0], gpus[1]) else min(_links(gpu, kind, None) for gpu in gpus if gpu)
        if direct or switched:
            return f"{code}{direct or switched}"
    return None


def _links(gpu: GpuFacts, kind: str, peer: str | None) -> int:
    return sum(link.count for link in gpu.links if link.kind == kind and link.peer == peer)


def _apart(one: GpuFacts, other: GpuFacts) -> bool:
    """Tells whether the fabric manager has put the GPUs into different partitions of the fabric."""
    if one.fabric is None or other.fabric is None:
        return False
    return (one.fabric.cluster, one.fabric.clique) != (other.fabric.cluster, other.fabric.clique)


def _by_pcie(one: Function, other: Function, nodes: Sequence[int]) -> str:
    if one.root_bus is None or other.root_bus is None or "path" in one.unread | other.unread:
        return UNKNOWN
    if one.root_bus != other.root_bus:
        return _by_node(node(one, nodes), node(other, nodes))
    shared = _shared(one.pcie_path, other.pcie_path)
    if shared == 0 and one.slot != other.slot:
        return "PHB"
    # Below the last bridge that both are behind: one downstream port each means one switch.
    between = max(len(one.pcie_path), len(other.pcie_path)) - shared
    return "PIX" if between <= 1 else "PXB"


def _by_node(one: int | None, other: int | None) -> str:
    if one is None or other is None:
        return UNKNOWN
    return "NODE" if one == other else "SYS"


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Counts the bridges that both paths begin with."""
    count = 0
    for mine, yours in zip(one, other, strict=False):
        if mine != yours:
            break
        count += 1
    return count
