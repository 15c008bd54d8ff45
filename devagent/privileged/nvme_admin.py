# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sends admin commands to an NVMe controller, through its driver (include/uapi/linux/nvme_ioctl.h).

    fd = open("/dev/nvme0"); ioctl(fd, NVME_IOCTL_ADMIN_CMD, struct nvme_admin_cmd)

The ioctl gives 0, -1 with an errno where the kernel refuses, or the controller's own status.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from pathlib import Path
from typing import Final

ADMIN_CMD: Final = 0xC0484E41  # _IOWR('N', 0x41, struct nvme_admin_cmd)
EVERY: Final = 0xFFFFFFFF
"""In place of a namespace's number."""

GET_LOG_PAGE: Final = 0x02
IDENTIFY: Final = 0x06
FORMAT: Final = 0x80
SANITIZE: Final = 0x84

FORMAT_IN_PROGRESS: Final = 0x084
SANITIZE_IN_PROGRESS: Final = 0x01D

# NVM Express Base Specification 2.0, figures 94 to 98: type in bits 8-10, code in bits 0-7.
_STATUS: Final = {
    0x001: "it does not know the command",
    0x002: "it does not take one of the command's fields",
    0x006: "internal error",
    0x00B: "it has no such namespace, or not in that format",
    0x015: "operation denied",
    0x01C: "an earlier sanitize has failed",
    SANITIZE_IN_PROGRESS: "it is being sanitized",
    0x020: "the namespace is write protected",
    FORMAT_IN_PROGRESS: "it is being formatted",
    0x10A: "it cannot be formatted so",
}


class AdminCommand(ctypes.Structure):
    """struct nvme_admin_cmd, 72 bytes."""

    _fields_ = (
        ("opcode", ctypes.c_uint8),
        ("flags", ctypes.c_uint8),
        ("reserved", ctypes.c_uint16),
        ("nsid", ctypes.c_uint32),
        ("cdw2", ctypes.c_uint32),
        ("cdw3", ctypes.c_uint32),
        ("metadata", ctypes.c_uint64),
        ("addr", ctypes.c_uint64),
        ("metadata_len", ctypes.c_uint32),
        ("data_len", ctypes.c_uint32),
        ("cdw10", ctypes.c_uint32),
        ("cdw11", ctypes.c_uint32),
        ("cdw12", ctypes.c_uint32),
        ("cdw13", ctypes.c_uint32),
        ("cdw14", ctypes.c_uint32),
        ("cdw15", ctypes.c_uint32),
        ("timeout_ms", ctypes.c_uint32),
        ("result", ctypes.c_uint32),
    )


class NvmeStatus(Exception):
    """The controller has refused a command; `code` is its status, type and code in one."""

    def __init__(self, code: int) -> None:
        self.code = code & 0x7FF
        super().__init__(f"{_STATUS.get(self.code, 'it answered')} (NVMe status {self.code:#05x})")


class Admin:
    """The admin queue of the controller whose node is `path`; to be closed."""

    def __init__(self, path: Path) -> None:
        """Opens the node. Raises OSError."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def __enter__(self) -> Admin:
        """Gives itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the node."""
        os.close(self._fd)

    def identify(self, cns: int, nsid: int = 0) -> bytes:
        """Gives the 4096 bytes of an Identify data structure. Raises OSError or NvmeStatus."""
        return self.command(IDENTIFY, nsid=nsid, cdw10=cns, size=4096)

    def log_page(self, page: int, size: int) -> bytes:
        """Gives the first `size` bytes of a log page of the controller. Raises OSError or NvmeStatus."""
        return self.command(GET_LOG_PAGE, nsid=EVERY, cdw10=(size // 4 - 1) << 16 | page, size=size)

    def command(
        self, opcode: int, *, nsid: int = 0, cdw10: int = 0, cdw11: int = 0, size: int = 0, timeout_s: float = 0.0
    ) -> bytes:
        """Has a command done and gives the `size` bytes that it returns; 0 seconds are as many as the kernel has.

        Raises OSError if the kernel refuses, NvmeStatus if the controller does.
        """
        data = ctypes.create_string_buffer(size) if size else None
        command = AdminCommand(opcode=opcode, nsid=nsid, cdw10=cdw10, cdw11=cdw11, timeout_ms=int(timeout_s * 1000))
        if data is not None:
            command.addr, command.data_len = ctypes.addressof(data), size
        status = fcntl.ioctl(self._fd, ADMIN_CMD, command)
        if status:
            raise NvmeStatus(status)
        return data.raw if data is not None else b""
