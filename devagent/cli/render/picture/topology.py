# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Orders devices as they hang in the host: NUMA node, root complex, switches; where nothing branches, no box."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from devagent.cli.render.picture.card import Card
from devagent.model.device import Device


@dataclass(frozen=True, slots=True)
class Branch:
    """A switch, a root complex or a NUMA node with the branches and devices below it, in bus order."""

    name: str
    below: tuple[Branch | Card, ...]


def nodes(devices: Iterable[Device], cpus: dict[int, str]) -> list[Branch]:
    """Gives a branch for each NUMA node that has devices, those without a node last."""
    groups: dict[int | None, list[Device]] = {}
    for device in devices:
        groups.setdefault(device.function.numa_node, []).append(device)
    ordered = sorted(groups, key=lambda node: (node is None, node or 0))
    return [Branch(_node_name(node, cpus), tuple(_complexes(groups[node]))) for node in ordered]


def _node_name(node: int | None, cpus: dict[int, str]) -> str:
    if node is None:
        return "No NUMA node"
    return f"NUMA node {node}" + (f"  ·  CPUs {cpus[node]}" if node in cpus else "")


def _complexes(devices: Sequence[Device]) -> list[Branch]:
    groups: dict[str | None, list[Device]] = {}
    for device in devices:
        groups.setdefault(device.function.root_bus, []).append(device)
    return [_merged(Branch(_complex_name(bus), _below(found, 0))) for bus, found in groups.items()]


def _complex_name(bus: str | None) -> str:
    return "place unknown" if bus is None else f"root complex {bus.removeprefix('pci')}"


def _merged(branch: Branch) -> Branch:
    """Makes one branch of two where the first leads to the second alone."""
    if len(branch.below) == 1 and isinstance(branch.below[0], Branch):
        only = branch.below[0]
        return Branch(f"{branch.name}  →  {only.name}", only.below)
    return branch


def _below(devices: Sequence[Device], depth: int) -> tuple[Branch | Card, ...]:
    """Gives what hangs below one bridge: all `devices` have the same path down to `depth`."""
    ports: dict[tuple[str, ...], list[Device]] = {}
    for device in devices:
        port = device.function.pcie_path[depth : depth + 1]
        # What hangs on the bus itself, functions of one slot for example, stands by itself.
        ports.setdefault(port or ("", device.address), []).append(device)
    found: list[Branch | Card] = []
    for group in ports.values():
        common = _common(group)
        branches = {each.function.pcie_path[common : common + 1] for each in group}
        if len(group) == 1 or branches == {()}:
            found += [Card(each, _port(each)) for each in group]
        else:
            name = _switch_name(group[0].function.pcie_path, common)
            found.append(_merged(Branch(name, _below(group, common))))
    return tuple(found)


def _common(devices: Sequence[Device]) -> int:
    """Counts the bridges that all are behind."""
    paths = [device.function.pcie_path for device in devices]
    count = 0
    while all(len(path) > count and path[count] == paths[0][count] for path in paths):
        count += 1
    return count


def _switch_name(path: Sequence[str], depth: int) -> str:
    return f"{'PCIe switch' if depth > 1 else 'root port'} {path[depth - 1]}"


def _port(device: Device) -> str:
    path = device.function.pcie_path
    if not path:
        return ""
    return f"{'root port' if len(path) == 1 else 'switch port' if len(path) > 2 else 'bridge'} {path[-1]}"
