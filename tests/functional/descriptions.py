# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Small hosts, described where a test can change one thing of them."""

from __future__ import annotations

import uuid
from typing import Any

ROOT_PORT = {"id": "8086:352a", "class": "060400", "driver": "pcieport"}
GPU = {"id": "10de:20f1", "class": "030200", "driver": "nvidia"}
BOOT_ID = "5a0a6e0c-52d4-4a40-8f0c-7d6c3e0b9f11"


def nic(vfs: int) -> dict[str, Any]:
    """Describes a NIC with that many VFs."""
    return {
        "id": "15b3:101d",
        "class": "020000",
        "driver": "mlx5_core",
        "net": ["ens1"],
        "vfs": {"total": 8, "count": vfs, "device": "101e", "driver": "vfio-pci"} if vfs else {"total": 8},
    }


def small(
    *,
    name: str = "",
    compute_id: str | None = None,
    gpu: dict[str, Any] | None = GPU,
    vfs: int = 4,
    node: int = 0,
) -> dict[str, Any]:
    """Describes a host with one GPU at 0000:3b:00.0 and one NIC at 0000:3c:00.0; `gpu=None` leaves its slot empty."""
    name = name or f"small-{uuid.uuid4().hex[:12]}"
    return {
        "host": name,
        "hostname": name,
        "machine_id": "1",
        "boot_id": BOOT_ID,
        "compute_id": compute_id or "null",
        "nodes": ["0-3", "4-7"],
        "pci": [
            {
                "bus": "0000:3a",
                "node": node,
                "devices": [{**ROOT_PORT, "behind": [gpu] if gpu else []}, {**ROOT_PORT, "behind": [nic(vfs)]}],
            }
        ],
    }
