# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The icon of each kind of device, as paths in a square of 24 by 24."""

from __future__ import annotations

from typing import Final

from devagent.model.claim import Kind

_PINS: Final = "M9 3V6M15 3V6M9 18V21M15 18V21M3 9H6M3 15H6M18 9H21M18 15H21"

_PATHS: Final = {
    # A board with a fan, its bracket, and its edge connector.
    Kind.GPU: "M3 4V20M3 6.5H21V16.5H3M6 16.5V19.5H13V16.5M14.5 11.5m-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0M14.5 8.5V14.5"
    "M11.5 11.5H17.5M6 10H8M6 13H8",
    # A chip with a grid of cells.
    Kind.FPGA: "M6 6H18V18H6ZM10 6V18M14 6V18M6 10H18M6 14H18" + _PINS,
    # A socket with its contacts.
    Kind.NIC: "M3 4H21V20H16V16.5H8V20H3ZM8 7.5V11M11 7.5V11M13.5 7.5V11M16.5 7.5V11",
    # A padlock.
    Kind.QAT: "M5 10.5H19V20.5H5ZM8 10.5V7.5A4 4 0 0 1 16 7.5V10.5M12 14V17",
    # A module with its chips and the screw's notch.
    Kind.NVME: "M2.5 8H21.5V16H2.5ZM5.5 10.5H9.5V13.5H5.5ZM11.5 10.5H15.5V13.5H11.5ZM19 11V13"
    "M4.5 16V18.5M7.5 16V18.5M10.5 16V18.5",
    # A chip with a flash.
    Kind.ACCELERATOR: "M6 6H18V18H6ZM12.8 8L9.5 12.6H12L11.2 16L14.5 11.4H12Z" + _PINS,
    # A card in a slot.
    Kind.OTHER: "M3 4V20M3 7H21V16H3M6 16V19H17V16M7 11.5H17",
}


def icon(kind: Kind, x: float, y: float, size: float) -> str:
    """Gives the icon with its upper left corner at x and y."""
    return f'<path class="icon {kind}" transform="translate({x:g} {y:g}) scale({size / 24:g})" d="{_PATHS[kind]}"/>'
