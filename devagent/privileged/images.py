# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Takes an image for an FPGA from the agent's cache, and believes of it only what it has seen itself.

    /var/lib/devagent/images/5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03

The name is the sha256 of what is in the file. What was read and hashed is what is programmed, from memory: whatever
becomes of the file meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.errors import BadBitstream
from devagent.model.bitstream import Header, read
from devagent.places import STATE_PATH
from devagent.privileged.device import Device
from devagent.privileged.refused import PERMANENT, RETRY

FOLDER: Final = Path(STATE_PATH) / "images"
"""Where images are unless the configuration has another state_path."""
MAX_SIZE: Final = 1 << 30
"""Bytes; no driver takes more (xclmgmt: 1 GiB), and most take much less."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image in memory, whose sha256 is `digest`."""

    digest: str
    data: bytearray
    header: Header

    @property
    def payload(self) -> memoryview:
        """What is for the kernel."""
        return memoryview(self.data)[self.header.offset : self.header.offset + self.header.length]

    @property
    def address(self) -> int:
        """Where that begins in this process's memory."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self.data, self.header.offset))


def load(device: Device, folder: Path, digest: str) -> Image:
    """Gives the image with this digest. Raises VerbRefused if it is not there, not whole, or damaged."""
    try:
        data = _read(folder / digest)
    except FileNotFoundError:
        raise device.refusal(RETRY, f": its image {digest} is not in {folder} (any more): it must be fetched") from None
    except OSError as error:
        raise device.refusal(RETRY, f": its image {folder / digest} cannot be read: {system_words(error)}") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise device.refusal(RETRY, f": {folder / digest} is not what its name says: remove it, to have it fetched")
    try:
        return Image(digest, data, read(data))
    except BadBitstream as error:
        raise device.refusal(PERMANENT, f": its image {digest} cannot be programmed: {error}") from None


def _read(path: Path) -> bytearray:
    # Not to wait for a writer, should it be a pipe.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        if status.st_size > MAX_SIZE:
            raise OSError(errno.EFBIG, f"it has {status.st_size} bytes; {MAX_SIZE} are the most")
        data = bytearray(status.st_size)
        rest = memoryview(data)
        while rest and (count := os.readv(fd, [rest])):
            rest = rest[count:]
    finally:
        os.close(fd)
    if rest:
        raise OSError(errno.EIO, "it became shorter meanwhile")
    return data
