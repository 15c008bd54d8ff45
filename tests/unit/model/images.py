# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes images for FPGAs, as OPAE's packager and XRT's xclbinutil lay them out."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Mapping
from typing import Any

INTERFACE = "ce48969398f05f33946d560708be108a"
FUNCTION = "850adcc26ceb4b229722d43375b61c66"


def metadata(
    interface: str = INTERFACE, function: str = FUNCTION, values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Gives the metadata of a GBS; `values` are further ones of its afu-image."""
    clusters = [{"name": "afu", "total-contexts": 1, "accelerator-type-uuid": str(uuid.UUID(function))}]
    image = {"magic-no": 0x1D1F8680, "interface-uuid": str(uuid.UUID(interface)), "power": 0}
    return {"version": 1, "afu-image": image | {"accelerator-clusters": clusters} | dict(values or {})}


def gbs(raw: bytes = b"\xaa" * 64, told: object = None) -> bytes:
    """Gives a GBS with these metadata, or with the usual ones."""
    text = told if isinstance(told, bytes) else json.dumps(told or metadata()).encode()
    return b"XeonFPGA\xb7GBSv001" + struct.pack("<I", len(text)) + text + raw


def legacy(raw: bytes = b"\xaa" * 64, interface: str = INTERFACE) -> bytes:
    """Gives a GBS of the older form."""
    return struct.pack("<I", 0x1D1F8680) + bytes.fromhex(interface)[::-1] + raw


def xclbin(interface: str = INTERFACE, function: str = FUNCTION, payload: bytes = b"\xaa" * 64) -> bytes:
    """Gives an xclbin with one section."""
    data = bytearray(496) + payload
    data[:8] = b"xclbin2\0"
    struct.pack_into("<i", data, 8, -1)
    struct.pack_into("<Q", data, 304, len(data))
    data[336:352], data[416:432] = bytes.fromhex(interface), bytes.fromhex(function)
    struct.pack_into("<I", data, 448, 1)
    struct.pack_into("<I16sxxxxQQ", data, 456, 0, b"", 496, len(payload))
    return bytes(data)
