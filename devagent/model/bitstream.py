# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads what an FPGA image says of itself: for which interface it is, what it makes of the FPGA, where its data is.

An OPAE green bitstream (GBS; opae-sdk libbitstream/bitstream.h, metadatav1.c), of which the kernel gets the raw part:

    0      58 65 6f 6e 46 50 47 41 b7 47 42 53 76 30 30 31      XeonFPGA.GBSv001
    16     length of the metadata, 32 bits, little endian
    20     {"version": 1, "afu-image": {"magic-no": 488605312, "interface-uuid": "ce489693-98f0-5f33-946d-560708be108a",
           "clock-frequency-high": 200, "clock-frequency-low": 100, "power": 0, "accelerator-clusters": [{"name": "nlb",
           "total-contexts": 1, "accelerator-type-uuid": "850adcc2-6ceb-4b22-9722-d43375b61c66"}]}}
    ...    the raw part

Its older form is 80 86 1f 1d, the interface id with its bytes reversed, and the raw part. An Alveo's xclbin (XRT's
xclbin.h) goes to its driver as it is: `xclbin2` and a zero, at 304 its length (64 bits), at 336 the interface id, at
416 its own UUID, at 448 the number of sections (32 bits), from 456 40 bytes for each, with offset and size (64 bits)
at 24 and 32. One without an interface id fits the shell that it names at 352, as text of 64 bytes at most.

Whatever else there is, is taken as data without a header (.rbf, .bin): it says nothing of itself.
"""

from __future__ import annotations

import enum
import json
import math
import re
import struct
from dataclasses import dataclass
from typing import Any, Final

from devagent.errors import BadBitstream

GBS_GUID: Final = b"XeonFPGA\xb7GBSv001"
GBS_MAGIC: Final = 0x1D1F8680
XCLBIN_MAGIC: Final = b"xclbin2\0"

_LEGACY: Final = struct.pack("<I", GBS_MAGIC)
_GBS_HEAD: Final = len(GBS_GUID) + 4
_LEGACY_HEAD: Final = len(_LEGACY) + 16
_METADATA_VERSIONS: Final = (1, 640, 650)
_MAX_METADATA: Final = 1 << 16
_OLD_XCLBINS: Final = (b"xclbin0\0", b"xclbin1\0")
# sizeof(struct axlf), which has one section, and what XRT's xclmgmt takes at most.
_XCLBIN_HEAD: Final = 496
_MAX_XCLBIN: Final = 1 << 30
_SECTIONS: Final = 456
_SECTION: Final = struct.Struct("<24xQQ")
_MAX_SECTIONS: Final = 1024
_UUID: Final = re.compile("[0-9a-f]{32}")
_MAX_MHZ: Final = 10_000


class Kind(enum.StrEnum):
    """How an image is wrapped, and by that who can load it."""

    GBS = "gbs"
    XCLBIN = "xclbin"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Header:
    """What an image says of itself; ids are 32 hex digits, None where it does not tell.

    `interface_id` is that of the region that it fits, `function_id` what the FPGA is afterwards (afu_id of a port,
    UUID of an xclbin). `offset` and `length` tell which bytes are for the kernel. `user_clock` are the frequencies
    that it wants (high, low; MHz), `shell` the name of the shell that it was made for.
    """

    kind: Kind
    interface_id: str | None
    function_id: str | None
    offset: int
    length: int
    user_clock: tuple[int, int] | None = None
    shell: str | None = None


def read(data: bytes | bytearray) -> Header:
    """Gives the header of an image. Raises BadBitstream if it is damaged, or is made to be."""
    if data.startswith(GBS_GUID):
        return _gbs(data)
    if data.startswith(_LEGACY):
        return _legacy(data)
    if data.startswith(XCLBIN_MAGIC):
        return _xclbin(data)
    if data.startswith(_OLD_XCLBINS):
        raise BadBitstream("it is an xclbin of an older kind than xclbin2, which no driver takes any more")
    if not data:
        raise BadBitstream("it is empty")
    return Header(Kind.RAW, None, None, 0, len(data))


def _gbs(data: bytes | bytearray) -> Header:
    if len(data) < _GBS_HEAD:
        raise BadBitstream("it is a GBS that ends within its header")
    (length,) = struct.unpack_from("<I", data, len(GBS_GUID))
    if not 0 < length <= _MAX_METADATA:
        raise BadBitstream(f"it is a GBS with {length} bytes of metadata; there are 1 to {_MAX_METADATA}")
    start = _GBS_HEAD + length
    if len(data) <= start:
        raise BadBitstream("it is a GBS that ends before its data begins")
    image = _metadata(data[_GBS_HEAD:start])
    interface = _uuid(image, "interface-uuid")
    if interface is None:
        raise BadBitstream("it is a GBS without an interface-uuid")
    return Header(Kind.GBS, interface, _function(image), start, len(data) - start, _clock(image))


def _legacy(data: bytes | bytearray) -> Header:
    if len(data) <= _LEGACY_HEAD:
        raise BadBitstream("it is a GBS (legacy) that ends before its data begins")
    interface = data[len(_LEGACY) : _LEGACY_HEAD][::-1].hex()
    return Header(Kind.GBS, interface, None, _LEGACY_HEAD, len(data) - _LEGACY_HEAD)


def _metadata(text: bytes | bytearray) -> dict[str, Any]:
    """Gives `afu-image` of a GBS's metadata."""
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        raise BadBitstream("it is a GBS whose metadata is no JSON") from None
    image = metadata.get("afu-image") if isinstance(metadata, dict) else None
    if not isinstance(image, dict):
        raise BadBitstream("it is a GBS whose metadata has no afu-image")
    if metadata.get("version") not in _METADATA_VERSIONS:
        raise BadBitstream(f"it is a GBS whose metadata has version {metadata.get('version')!r:.20}, not 1")
    if image.get("magic-no") != GBS_MAGIC:
        raise BadBitstream(f"it is a GBS whose magic-no is not {GBS_MAGIC}")
    return image


def _uuid(values: dict[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is None:
        return None
    text = value.replace("-", "").lower() if isinstance(value, str) else ""
    if _UUID.fullmatch(text) is None:
        raise BadBitstream(f"it is a GBS whose {key} is no UUID")
    return text


def _function(image: dict[str, Any]) -> str | None:
    clusters = image.get("accelerator-clusters")
    if not isinstance(clusters, list) or not clusters or not isinstance(clusters[0], dict):
        return None
    return _uuid(clusters[0], "accelerator-type-uuid")


def _clock(image: dict[str, Any]) -> tuple[int, int] | None:
    """Gives the frequencies of the user clock; 0 or none says that any will do."""
    high, low = (_mhz(image, f"clock-frequency-{name}") for name in ("high", "low"))
    return (high, low) if high or low else None


def _mhz(image: dict[str, Any], key: str) -> int:
    value = image.get(key)
    if value is None:
        return 0
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MAX_MHZ:
        raise BadBitstream(f"it is a GBS whose {key} is no frequency in MHz")
    return math.ceil(value)


def _xclbin(data: bytes | bytearray) -> Header:
    if len(data) < _XCLBIN_HEAD:
        raise BadBitstream("it is an xclbin that ends within its header")
    (length,) = struct.unpack_from("<Q", data, 304)
    if not _XCLBIN_HEAD <= length <= min(len(data), _MAX_XCLBIN):
        raise BadBitstream(f"it is an xclbin that says it has {length} bytes, but has {len(data)}")
    (sections,) = struct.unpack_from("<I", data, 448)
    if not 0 < sections <= min(_MAX_SECTIONS, (length - _SECTIONS) // 40):
        raise BadBitstream(f"it is an xclbin with {sections} sections, which it has no room for")
    for number in range(sections):
        start, size = _SECTION.unpack_from(data, _SECTIONS + number * 40)
        if start + size > length:
            raise BadBitstream(f"it is an xclbin whose section {number} ends behind its end")
    shell = bytes(data[352:416]).partition(b"\0")[0].decode("ascii", "replace")
    return Header(Kind.XCLBIN, _id(data, 336), _id(data, 416), 0, len(data), shell=shell or None)


def _id(data: bytes | bytearray, offset: int) -> str | None:
    """Gives a UUID of an xclbin; it is zero where there is none."""
    raw = data[offset : offset + 16]
    return raw.hex() if any(raw) else None
