# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The serial numbers in config space and vital product data, whatever a broken device answers."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from devagent.sources import serials
from devagent.sources.apart import look_apart
from devagent.sources.host import Directory, Tree

from ..worlds import PCI, World, write

ADDRESS = "0000:3b:00.0"
FOLDER = f"{PCI}/{ADDRESS}"
DSN = "b8-ce-f6-ff-ff-12-34-56"


def told(top: Path, world: World) -> Any:
    write(top, {f"{FOLDER}/{name}": content for name, content in world.items()})
    with Directory(top) as tree:
        outcome = look_apart(tree, [serials.look([ADDRESS])])[serials.SOURCE]
    assert outcome.failures == {}
    return outcome.answers[ADDRESS]


def config(*capabilities: tuple[int, int, int]) -> bytes:
    """Gives config space with extended capabilities, each given as (offset, id, next)."""
    space = bytearray(4096)
    for offset, number, following in capabilities:
        struct.pack_into("<I", space, offset, following << 20 | 1 << 16 | number)
        if number == 3 and offset < 0xFF0:
            struct.pack_into("<II", space, offset + 4, 0xFF123456, 0xB8CEF6FF)
    return bytes(space)


def vpd(*fields: tuple[str, str], name: str = "ConnectX-6 Dx") -> bytes:
    """Gives vital product data with a name, read-only fields and an end."""
    inner = b"".join(key.encode() + bytes([len(value)]) + value.encode() for key, value in fields)
    head = struct.pack("<BH", 0x82, len(name)) + name.encode()
    return head + struct.pack("<BH", 0x90, len(inner)) + inner + b"\x91\x04\x00RW\x01\x00\x78"


def test_a_new_kernel_tells_the_number_itself(tmp_path: Path) -> None:
    world: World = {"serial_number": f"{DSN}\n", "config": config((0x100, 3, 0))}
    assert told(tmp_path, world) == {"serials/dsn": DSN}


@pytest.mark.parametrize(
    "capabilities",
    [
        [(0x100, 3, 0)],
        [(0x100, 1, 0x148), (0x148, 0x10, 0x1C0), (0x1C0, 3, 0x200)],
    ],
)
def test_config_space_tells_the_same(tmp_path: Path, capabilities: list[tuple[int, int, int]]) -> None:
    assert told(tmp_path, {"config": config(*capabilities)}) == {"serials/dsn": DSN}


@pytest.mark.parametrize(
    "space",
    [
        b"",
        bytes(64),
        bytes(256),
        bytes(4096),
        b"\xff" * 4096,
        config((0x100, 1, 0x148), (0x148, 2, 0)),
        config((0x100, 1, 0x100)),
        config((0x100, 1, 0x148), (0x148, 2, 0x148)),
        config((0x100, 1, 0x148), (0x148, 2, 0x200), (0x200, 2, 0x148)),
        config((0x100, 1, 0x40)),
        config((0x100, 1, 0xFFC)),
        config((0x100, 1, 0xFFC), (0xFFC, 3, 0)),
        config((0x100, 3, 0))[:0x108],
        config((0x100, 3, 0))[:0x104] + bytes(100),
        config((0x100, 3, 0))[:0x104] + b"\xff" * 100,
    ],
)
def test_a_device_without_a_number_or_out_of_its_mind_tells_none(tmp_path: Path, space: bytes) -> None:
    assert told(tmp_path, {"config": space}) == {}


@pytest.mark.parametrize("text", ["00-00-00-00-00-00-00-00", "ff-ff-ff-ff-ff-ff-ff-ff", "", "12-34", "B8-CE"])
def test_what_is_no_number_is_none(tmp_path: Path, text: str) -> None:
    assert told(tmp_path, {"serial_number": text}) == {}


class Counted(Directory):
    """A directory that counts what is read of binary files."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads: list[int] = []

    def data(self, path: str, size: int, offset: int = 0) -> bytes | None:
        """Counts and reads."""
        self.reads.append(size)
        return super().data(path, size, offset)


def asked(tree: Tree) -> Any:
    with serials.look([ADDRESS]).open(tree) as ask:
        return ask(ADDRESS)


def test_config_space_is_read_four_bytes_at_a_time_and_never_for_ever(tmp_path: Path) -> None:
    circle = config((0x100, 1, 0x148), (0x148, 2, 0x200), (0x200, 2, 0x148))
    write(tmp_path, {f"{FOLDER}/config": circle})
    with Counted(tmp_path) as tree:
        assert asked(tree) == {}
        assert set(tree.reads) == {4, 256}
        assert len(tree.reads) <= 41


def test_vital_product_data_is_asked_only_without_the_other(tmp_path: Path) -> None:
    data = vpd(("PN", "MCX623106AN-CDAT"), ("SN", "MT2113X07654"))
    assert told(tmp_path, {"vpd": data}) == {"serials/vpd": "MCX623106AN-CDAT:MT2113X07654"}
    assert told(tmp_path, {"vpd": data, "serial_number": DSN}) == {"serials/dsn": DSN}


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (vpd(("SN", "MT2113X07654")), "MT2113X07654"),
        (vpd(("PN", "A1"), ("EC", "7"), ("V0", "x" * 200), ("SN", " MT2113 \0")), "A1:MT2113"),
        (vpd(("PN", "A1"), ("SN", "S7"), name="n" * 1000), "A1:S7"),
        (vpd(("PN", "A1"), ("SN", "S7"))[:-20], None),
        (vpd(("PN", "A1"), ("SN", "0000000")), None),
        (vpd(("PN", "A1"), ("SN", "")), None),
        (vpd(("PN", "A1")), None),
        (vpd(("PN", "A1"), ("SN", "a\nb")), None),
        (vpd(("PN", "A1"), ("SN", "S7"), name="n" * 9000), None),
        (b"", None),
        (b"\x82", None),
        (b"\x90\xff\xff", None),
        (b"\x90\x05\x00SN\xffab", None),
        (bytes(4096), None),
        (b"\xff" * 4096, None),
        (b"\x78" + vpd(("SN", "S7")), None),
        (b"\x82\x00\x00" * 5000, None),
    ],
)
def test_vital_product_data_may_be_anything(tmp_path: Path, data: bytes, value: str | None) -> None:
    assert told(tmp_path, {"vpd": data}) == ({"serials/vpd": value} if value else {})


def test_little_of_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, {f"{FOLDER}/vpd": vpd(("PN", "A1"), ("SN", "S7")) + bytes(30000)})
    with Counted(tmp_path) as tree:
        assert asked(tree) == {"serials/vpd": "A1:S7"}
        assert tree.reads == [4, 256]
    write(tmp_path, {f"{FOLDER}/vpd": b"\x91\x00\x00" * 10000})
    with Counted(tmp_path) as tree:
        assert asked(tree) == {}
        assert sum(tree.reads) < 9000


def test_what_may_not_be_read_is_nothing(tmp_path: Path) -> None:
    world: World = {f"{FOLDER}/serial_number/": "", f"{FOLDER}/vpd/": ""}
    with Directory(write(tmp_path, world)) as tree:
        assert asked(tree) == {}
