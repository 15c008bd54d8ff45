# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""An NVMe drive behind an ioctl, as the specification and linux/nvme_ioctl.h have it, and a host that it is in.

It takes the bytes of a command apart by itself: what the product thinks of their layout is not used.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devagent.privileged import capabilities, nvme_controller, nvme_disks, nvme_format, nvme_sanitize

from ..worlds import Link, write

NVME = "0000:81:00.0"
FOLDER = f"sys/bus/pci/devices/{NVME}"
COMMAND = struct.Struct("=BBHIIIQQIIIIIIIIII")
ADMIN_CMD = 3 << 30 | COMMAND.size << 16 | ord("N") << 8 | 0x41
SECRET = bytes(range(256)) * 4096


@dataclass
class Space:
    """A namespace: its file below /dev, its format, and whether the controller has it."""

    name: str = "nvme1n1"
    flbas: int = 0
    dps: int = 0
    nmic: int = 0
    attached: tuple[int, ...] = (5,)


@dataclass
class Drive:
    """A drive; what it does is noted as (opcode, nsid, command dword 10) in `done`."""

    top: Path
    oacs: int = 0b1010
    fna: int = 0
    sanicap: int = 0
    spaces: dict[int, Space] = field(default_factory=lambda: {1: Space()})
    wipes: bool = True
    done: list[tuple[int, int, int]] = field(default_factory=list)
    timeouts: list[int] = field(default_factory=list)
    answers: dict[int, list[int]] = field(default_factory=dict)
    sanitize: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])

    def ioctl(self, fd: int, request: int, argument: Any) -> int:
        """Does what the kernel's ioctl does for an NVMe controller's node."""
        node = Path(f"/proc/self/fd/{fd}").readlink()
        assert (node.name, request) == ("nvme1", ADMIN_CMD)
        words = COMMAND.unpack(bytes(argument))
        opcode, nsid, address, size, cdw10, timeout = words[0], words[3], words[7], words[9], words[10], words[16]
        answer = self.answers.get(opcode, [])
        if answer:
            status = answer.pop(0)
            if status < 0:
                raise OSError(-status, os.strerror(-status))
            if status:
                return status
        self.done.append((opcode, nsid, cdw10))
        self.timeouts.append(timeout)
        data = self._do(opcode, nsid, cdw10)
        if isinstance(data, int):
            return data
        assert len(data) == size
        ctypes.memmove(address, data, size)
        return 0

    def _do(self, opcode: int, nsid: int, cdw10: int) -> bytes | int:
        active = [number for number, space in self.spaces.items() if 5 in space.attached]
        match opcode, cdw10 & 0xFF:
            case 0x06, 0x00:
                return self._namespace(self.spaces[nsid]) if nsid in active else bytes(4096)
            case 0x06, 0x01:
                return self._controller()
            case 0x06, 0x02:
                return _list(active, nsid)
            case 0x06, 0x10:
                return _list(sorted(self.spaces), nsid)
            case 0x06, 0x12:
                owners = self.spaces[nsid].attached
                return struct.pack(f"<H{len(owners)}H", len(owners), *owners).ljust(4096, b"\0")
            case 0x02, 0x81:
                assert (nsid, cdw10 >> 16) == (0xFFFFFFFF, 127), "512 bytes are 128 dwords, counted from 0"
                part, status = self.sanitize.pop(0) if len(self.sanitize) > 1 else self.sanitize[0]
                return struct.pack("<HH", part, status).ljust(512, b"\0")
            case 0x80, _:
                for number in active if nsid == 0xFFFFFFFF or self.fna & 0b11 else [nsid]:
                    self.erase(self.spaces[number])
                return b""
            case 0x84, _:
                for space in self.spaces.values():
                    self.erase(space)
                return b""
        return 0x4002 if opcode == 0x06 else 0x4001

    def erase(self, space: Space) -> None:
        if self.wipes:
            path = self.top / "dev" / space.name
            path.write_bytes(bytes(path.stat().st_size))

    def _controller(self) -> bytes:
        data = bytearray(4096)
        struct.pack_into("<H", data, 78, 5)
        struct.pack_into("<H", data, 256, self.oacs)
        struct.pack_into("<I", data, 328, self.sanicap)
        data[524] = self.fna
        return bytes(data)

    def _namespace(self, space: Space) -> bytes:
        size = (self.top / "dev" / space.name).stat().st_size
        data = bytearray(4096)
        struct.pack_into("<QQQ", data, 0, size // 512, size // 512, size // 512)
        data[26], data[29], data[30] = space.flbas, space.dps, space.nmic
        return bytes(data)

    def content(self, name: str = "nvme1n1") -> bytes:
        return (self.top / "dev" / name).read_bytes()

    @property
    def formats(self) -> list[tuple[int, int]]:
        """The formats that were done: namespace, and how."""
        return [(nsid, how) for opcode, nsid, how in self.done if opcode == 0x80]


def _list(numbers: list[int], after: int) -> bytes:
    found = [number for number in numbers if number > after]
    return struct.pack(f"<{len(found)}I", *found).ljust(4096, b"\0")


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Drive]:
    """Puts a drive into a host whose tree is at tmp_path; nobody waits for long there."""

    def put(state: str = "live", driver: str = "nvme", **more: Any) -> Drive:
        found = Drive(tmp_path, **more)
        write(tmp_path, {f"{FOLDER}/driver": Link(f"../../drivers/{driver}"), "proc/1/mountinfo": "", "proc/swaps": ""})
        write(tmp_path, {f"{FOLDER}/nvme/nvme1/state": f"{state}\n", "dev/nvme1": ""})
        write(tmp_path, {f"{FOLDER}/class": "0x010802\n"})
        for nsid, space in found.spaces.items():
            # As it is where the controller could have others beside it: a path, not the block device.
            path = space.name.replace("nvme1n", "nvme1c1n")
            block = {f"sys/class/block/{space.name}/dev": f"259:{nsid}\n"}
            write(tmp_path, {f"{FOLDER}/nvme/nvme1/{path}/nsid": f"{nsid}\n", **block})
            (tmp_path / "dev" / space.name).write_bytes(SECRET)
        monkeypatch.setattr(fcntl, "ioctl", found.ioctl)
        return found

    monkeypatch.setattr(capabilities, "has", lambda _: True)
    for module in (nvme_controller, nvme_disks, nvme_format, nvme_sanitize):
        monkeypatch.setattr(module, "_POLL_S", 0.001)
    monkeypatch.setattr(nvme_controller, "_SCAN_S", 0.01)
    monkeypatch.setattr(os, "O_DIRECT", 0)  # not every file system has it
    monkeypatch.setattr(nvme_disks, "_PATIENCE_S", 0.01)
    return put
