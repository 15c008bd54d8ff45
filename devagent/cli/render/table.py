# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`-o table`: a line per device, drawn as OpenStack's commands draw tables."""

from __future__ import annotations

from collections.abc import Sequence

from devagent.cli.render import words
from devagent.cli.render.printable import padded, printable, width
from devagent.model.device import Device
from devagent.view import Look

NOTHING = "No devices to give: no GPU, FPGA, accelerator or SR-IOV PF was found."

HEADINGS = ("Address", "Kind", "Device", "NUMA", "Driver", "VFs", "Given", "Why")


def render(seen: Look) -> str:
    """Gives the devices as a table, then the problems and what only root would see."""
    rows = [_row(device) for device in seen.found.devices]
    return "\n".join([*(draw(HEADINGS, rows) if rows else [NOTHING]), *words.closing_lines(seen)])


def draw(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Draws a table with ASCII lines, each column as wide as its widest cell."""
    widths = [max(map(width, column)) for column in zip(headings, *rows, strict=True)]
    rule = "+" + "+".join("-" * (columns + 2) for columns in widths) + "+"

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(padded(cell, columns) for cell, columns in zip(cells, widths, strict=True)) + " |"

    return [rule, line(headings), rule, *map(line, rows), rule]


def _row(device: Device) -> tuple[str, ...]:
    function, decision = device.function, device.decision
    return (
        device.address,
        device.claim.kind,
        words.name(device),
        "" if function.numa_node is None else str(function.numa_node),
        printable(function.driver or ""),
        words.vf_count(device),
        words.given(device),
        "; ".join([printable(decision.reason), *words.remarks(device)]),
    )
