# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds and replaces the serial numbers in the two binary files that are read of a device: vpd and config."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

from devagent.sources.captures.pseudonyms import Pseudonyms

_READ_ONLY, _READ_WRITE, _END = 0x90, 0x91, 0x78
# The serial number, and what vendors and owners have put in for themselves.
_PRIVATE: Final = re.compile(rb"SN|[VY][0-9A-Z]")
_CHECKSUM: Final = b"RV"
_CAPABILITIES: Final = 0x100
_DSN: Final = 0x0003
_MOST: Final = 40


def serials(path: str, data: bytes) -> Iterator[str]:
    """Gives the serial numbers in a file, if it is one of these."""
    if path.endswith("/vpd"):
        for keyword, start, end in _fields(data):
            if keyword == b"SN":
                yield data[start:end].decode("latin-1").strip("\0 ")
    elif path.endswith("/config") and (place := _dsn(data)):
        low, high = struct.unpack_from("<II", data, place)
        yield f"{high:08x}{low:08x}"


def rewritten(path: str, data: bytes, pseudonyms: Pseudonyms) -> bytes:
    """Gives a file with other serial numbers; any other file as it is."""
    if path.endswith("/vpd"):
        return _other_vpd(data, pseudonyms)
    if path.endswith("/config") and (place := _dsn(data)):
        low, high = struct.unpack_from("<II", data, place)
        new = int(pseudonyms.of(f"{high:08x}{low:08x}"), 16)
        return data[:place] + struct.pack("<II", new & 0xFFFFFFFF, new >> 32) + data[place + 8 :]
    return data


def _other_vpd(data: bytes, pseudonyms: Pseudonyms) -> bytes:
    new = bytearray(data)
    for keyword, start, end in _fields(data):
        if _PRIVATE.fullmatch(keyword):
            new[start:end] = pseudonyms.whole(data[start:end].decode("latin-1")).encode("latin-1")
        elif keyword == _CHECKSUM and start < end:
            new[start] = -sum(new[:start]) & 0xFF
    return bytes(new)


def _fields(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Gives keyword, start and end of each field: two letters, a length byte, the text."""
    at = 0
    while at + 3 <= len(data) and data[at] != _END and data[at] & 0x80:
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "little")
        field = at + 3
        while data[at] in (_READ_ONLY, _READ_WRITE) and field + 3 <= min(end, len(data)):
            stop = field + 3 + data[field + 2]
            yield data[field : field + 2], field + 3, min(stop, len(data))
            field = stop
        at = end


def _dsn(data: bytes) -> int | None:
    """Gives the place of the Device Serial Number in config space, as far as that was read."""
    place = _CAPABILITIES
    for _ in range(_MOST):
        if place + 12 > len(data):
            return None
        header = int.from_bytes(data[place : place + 4], "little")
        if header & 0xFFFF == _DSN:
            return place + 4
        place = header >> 20 & 0xFFC
    return None
