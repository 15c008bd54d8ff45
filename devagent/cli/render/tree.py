# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`-o tree`: the host, its NUMA nodes, their devices, and the VFs collapsed into ranges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from devagent.cli.render import words
from devagent.cli.render.printable import padded, printable, width
from devagent.model.device import Device
from devagent.model.ranges import format_ranges
from devagent.view import Look


def render(seen: Look) -> str:
    """Gives the tree, then the problems and what only root would see."""
    groups: dict[int | None, list[Device]] = {}
    for device in seen.found.devices:
        groups.setdefault(device.function.numa_node, []).append(device)
    nodes = sorted(groups, key=lambda node: (node is None, node or 0))
    lines = [words.headline(seen)]
    for node, start, below in words.branches(nodes):
        lines.append(f"{start}{'no NUMA node' if node is None else f'NUMA node {node}'}")
        lines += _devices(groups[node], below)
    if not groups:
        lines.append("└── no devices to give: no GPU, FPGA, accelerator or SR-IOV PF was found")
    return "\n".join([*lines, *words.closing_lines(seen)])


def _devices(devices: Sequence[Device], indent: str) -> Iterator[str]:
    widths = [max(map(width, column)) for column in zip(*map(_cells, devices), strict=True)]
    for device, start, below in words.branches(devices):
        cells = "  ".join(padded(cell, columns) for cell, columns in zip(_cells(device), widths, strict=True))
        yield f"{indent}{start}{'  · '.join([f'{cells}  {_verdict(device)}', *words.remarks(device)])}"
        for (common, vfs), vf_start, _ in words.branches(words.vf_runs(device)):
            addresses = vfs[0].address if len(vfs) == 1 else f"{vfs[0].address} to {vfs[-1].address}"
            yield f"{indent}{below}{vf_start}VF {format_ranges(vf.index for vf in vfs)}  {addresses}  {common}"


def _cells(device: Device) -> tuple[str, ...]:
    vfs = words.vf_count(device)
    driver = printable(device.function.driver or "no driver")
    return device.address, device.claim.kind, words.name(device), driver, f"VFs {vfs}" if vfs else ""


def _verdict(device: Device) -> str:
    decision = device.decision
    if decision.owner is not None:
        return f"=> {printable(decision.reason)}"
    if not decision.managed:
        return f"not given: {printable(decision.reason)}"
    # That a whole device is given whole says nothing more; which VFs are left out does.
    more = "" if decision.total == max(len(device.vfs), 1) else f"  ({printable(decision.reason)})"
    return f"=> {words.given(device)}{more}"
