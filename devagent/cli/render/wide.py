# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`-o wide`: everything worth knowing of each device in one line, for a wide terminal or `less -S`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from devagent.cli.render import words
from devagent.cli.render.grid import draw
from devagent.cli.render.printable import printable
from devagent.cli.render.table import NOTHING
from devagent.model.device import Device
from devagent.model.ranges import format_ranges
from devagent.view import Look


def render(seen: Look) -> str:
    """Gives the devices as a wide table, then the problems and what only root would see."""
    rows = [[printable(cell(device)) for cell in COLUMNS.values()] for device in seen.found.devices]
    return "\n".join([*(draw(list(COLUMNS), rows) if rows else [NOTHING]), *words.closing_lines(seen)])


def details(device: Device) -> str:
    """Gives what is known beyond PCI: partitions, FPGA regions, switching, and the driver's own facts."""
    claim = device.claim
    named: dict[str, object] = {**words.partitions(claim.gpu)}
    if claim.fpga:
        named |= {
            "shell": claim.fpga.shell,
            "interface": claim.fpga.interface_id,
            "loaded": claim.fpga.loaded,
            "ports": claim.fpga.ports,
            "state": claim.fpga.state,
        }
    if claim.net and claim.net.eswitch:
        count = claim.net.representors
        named["eswitch"] = claim.net.eswitch + (f" with {count} representors" if count else "")
    if claim.mdev and claim.mdev.devices:
        named["mdevs"] = words.counted(kind for _, kind in claim.mdev.devices)
    named["network"] = device.physical_network
    # What a driver says in its own words of the same thing says more.
    named |= dict(claim.facts)
    said = (f"{name} {value}" for name, value in named.items() if value is not None)
    return "; ".join(said)


def in_use(device: Device) -> str:
    """Gives who uses the device, then who its VFs, VFs of the same user together."""
    same: dict[str, list[int]] = {}
    for index, use in words.vf_users(device).items():
        same.setdefault(use, []).append(index)
    vfs = [f"VF {format_ranges(indexes)}: {use}" for use, indexes in same.items()]
    return "; ".join(filter(None, (words.users(device), *vfs)))


def _memory(device: Device) -> str:
    return words.memory(device.claim.gpu.memory_mib) if device.claim.gpu else ""


def _number(number: int | None) -> str:
    return "" if number is None else str(number)


COLUMNS: Final[Mapping[str, Callable[[Device], str]]] = {
    "Address": lambda device: device.address,
    "Kind": lambda device: device.claim.kind,
    "Device": words.name,
    "NUMA": lambda device: _number(device.function.numa_node),
    "Link": lambda device: words.link(device.function.link),
    "IOMMU group": lambda device: _number(device.function.iommu_group),
    "Driver": lambda device: device.function.driver or "",
    "VFIO driver": lambda device: device.function.vfio_driver or "",
    "VFs": words.vf_count,
    "Resets": lambda device: " ".join(device.function.reset_methods),
    "Memory": _memory,
    "Details": details,
    "Health": words.health,
    "In use by": in_use,
    "Given": words.given,
    "Why": lambda device: device.decision.reason,
}
