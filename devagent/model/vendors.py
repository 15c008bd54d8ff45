# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Short names of the vendors of accelerators and NICs, by PCI vendor id (pci.ids 2026.10.24)."""

from __future__ import annotations

from typing import Final

VENDORS: Final = {
    "1002": "AMD",
    "1022": "AMD",
    "10b5": "PLX",
    "10de": "NVIDIA",
    "10ee": "Xilinx",
    "1172": "Altera",
    "1425": "Chelsio",
    "144d": "Samsung",
    "14e4": "Broadcom",
    "15b3": "Mellanox",
    "1924": "Solarflare",
    "19e5": "Huawei",
    "19ee": "Netronome",
    "1a03": "ASPEED",
    "1af4": "Virtio",
    "1b36": "QEMU",
    "1bcf": "NEC",
    "1c2c": "Silicom",
    "1c5c": "SK hynix",
    "1d0f": "Amazon",
    "1d95": "Graphcore",
    "1da3": "Habana",
    "1dd8": "AMD Pensando",
    "1e0f": "KIOXIA",
    "1e36": "Enflame",
    "1e52": "Tenstorrent",
    "1ed5": "Moore Threads",
    "1234": "QEMU",
    "1344": "Micron",
    "17cb": "Qualcomm",
    "8086": "Intel",
    "cabc": "Cambricon",
}


def vendor_name(vendor_id: str) -> str:
    """Gives the vendor's name, or its id where the table has none."""
    return VENDORS.get(vendor_id, vendor_id)
