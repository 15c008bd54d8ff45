# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`-o table`: a line per device, drawn as OpenStack's commands draw tables."""

from __future__ import annotations

from devagent.cli.render import words
from devagent.cli.render.grid import draw
from devagent.cli.render.printable import printable
from devagent.model.device import Device
from devagent.view import Look

NOTHING = "No devices to give: no GPU, FPGA, accelerator or SR-IOV PF was found."

HEADINGS = ("Address", "Kind", "Device", "NUMA", "Driver", "VFs", "Given", "Why")


def render(seen: Look) -> str:
    """Gives the devices as a table, then the problems and what only root would see."""
    rows = [_row(device) for device in seen.found.devices]
    return "\n".join([*(draw(HEADINGS, rows) if rows else [NOTHING]), *words.closing_lines(seen)])


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
