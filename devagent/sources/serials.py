# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the serial numbers that PCI itself knows: the PCIe Device Serial Number, and that of the vital product data.

Both touch the device, and all but the newest kernels give the first only in its config space, of which
every four bytes are one access: as little as possible is read. Only root may.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from devagent.errors import Unreadable
from devagent.sources.apart import Ask, Look
from devagent.sources.host import Tree
from devagent.sources.pci import DEVICES

SOURCE: Final = "serials"
_LIMIT: Final = 2.0

_DSN: Final = re.compile(r"[0-9a-f]{2}(?:-[0-9a-f]{2}){7}")
# What a device says that has none, or that has fallen off the bus.
_NO_DSN: Final = ("-".join(["00"] * 8), "-".join(["ff"] * 8))

# Extended capabilities (pci_regs.h): id in bits 0-15 of the header, the next one's offset in bits 20-31.
_FIRST_CAPABILITY: Final = 0x100
_DSN_CAPABILITY: Final = 0x0003
_MAX_CAPABILITIES: Final = 40
_NOTHING: Final = 0xFFFFFFFF

# The read-only fields come first: who has not told a serial number by then has none, or is broken.
_VPD_PIECE: Final = 256
_VPD_SIZE: Final = 8192
_IDENTIFIER, _READ_ONLY, _READ_WRITE, _END = 0x82, 0x90, 0x91, 0x78


def look(addresses: Iterable[str]) -> Look:
    """Asks each address; the answers map `serials/dsn` and `serials/vpd` to what is there."""

    @contextmanager
    def opened(tree: Tree) -> Iterator[Ask]:
        yield lambda address: _ask(tree, f"{DEVICES}/{address}")

    return Look(SOURCE, tuple(addresses), opened, _LIMIT)


def _ask(tree: Tree, folder: str) -> dict[str, str]:
    dsn = _dsn(tree, folder)
    if dsn is not None:
        return {"serials/dsn": dsn}
    vpd = _vpd(tree, f"{folder}/vpd")
    return {"serials/vpd": vpd} if vpd is not None else {}


def _dsn(tree: Tree, folder: str) -> str | None:
    """Gives `b8-ce-f6-ff-ff-12-34-56`, as `serial_number` shows it (Linux 6.18 on)."""
    try:
        text = tree.text(f"{folder}/serial_number")
        if text is None:
            text = _dsn_of_config(tree, f"{folder}/config")
    except Unreadable:  # only root may, or the number is all zeros
        return None
    return text if text is not None and _DSN.fullmatch(text) and text not in _NO_DSN else None


def _dsn_of_config(tree: Tree, path: str) -> str | None:
    offset = _FIRST_CAPABILITY
    for _ in range(_MAX_CAPABILITIES):
        header = _dword(tree, path, offset)
        if not header or header == _NOTHING:
            return None
        if header & 0xFFFF == _DSN_CAPABILITY:
            low, high = _dword(tree, path, offset + 4), _dword(tree, path, offset + 8)
            return None if low is None or high is None else (high << 32 | low).to_bytes(8, "big").hex("-")
        offset = header >> 20 & 0xFFC
        if offset <= _FIRST_CAPABILITY:
            return None
    return None


def _dword(tree: Tree, path: str, offset: int) -> int | None:
    """Gives four bytes of config space; None beyond its end, which for others than root is at 64."""
    data = tree.data(path, 4, offset)
    return int.from_bytes(data, "little") if data is not None and len(data) == 4 else None


def _vpd(tree: Tree, path: str) -> str | None:
    """Gives part and serial number as `PN:SN`, or the serial number alone if there is no other."""
    data, done = b"", False
    fields: dict[str, str] = {}
    while not done and len(data) < _VPD_SIZE and not fields.keys() >= {"PN", "SN"}:
        try:
            piece = tree.data(path, _VPD_PIECE, len(data)) or b""
        except Unreadable:  # only root may, or an empty EEPROM: the kernel fails on what makes no sense
            break
        data += piece
        fields, done = vpd_fields(data)
        done = done or len(piece) < _VPD_PIECE
    serial = fields.get("SN", "")
    if len(set(serial)) < 2:  # a filler such as 0000000 identifies nothing
        return None
    return f"{fields['PN']}:{serial}" if fields.get("PN") else serial


def vpd_fields(data: bytes) -> tuple[dict[str, str], bool]:
    """Gives the read-only fields in the first bytes of vital product data, and whether no more can follow.

    82 len16 the name of the product; 90 len16 read-only fields, each as PN len8 text; 91 len16 fields that
    can be written; 78 the end.
    """
    fields: dict[str, str] = {}
    start = 0
    while start + 3 <= len(data):
        tag, length = data[start], int.from_bytes(data[start + 1 : start + 3], "little")
        if tag not in (_IDENTIFIER, _READ_ONLY, _READ_WRITE):
            return fields, True
        if tag == _READ_ONLY:
            fields |= _fields(data[start + 3 : start + 3 + length])
        start += 3 + length
    return fields, start < len(data) and data[start] == _END


def _fields(data: bytes) -> dict[str, str]:
    """Gives what is complete and legible of `PN` 9 `MCX623106` `SN` 5 `MT12X` ..."""
    fields: dict[str, str] = {}
    start = 0
    while start + 3 <= len(data):
        keyword, end = data[start : start + 2], start + 3 + data[start + 2]
        text = data[start + 3 : end].rstrip(b"\0 ").decode("ascii", "replace").strip()
        if end <= len(data) and keyword.isalnum() and text.isascii() and text.isprintable():
            fields.setdefault(keyword.decode(), text)
        start = end
    return fields
