# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The block devices of NVMe namespaces: keeps them from use while they are wiped, says who uses them, samples them.

/proc/1/mountinfo    36 25 259:1 / /srv rw,relatime shared:1 - ext4 /dev/nvme1n1p1 rw
/proc/swaps          /dev/nvme1n1p2                          partition    1048572    0    -2
/sys/class/block/nvme1n1/nvme1n1p3/holders/dm-3
/proc/4711/fd/3 -> /dev/nvme1n1
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.privileged.device import Device
from devagent.privileged.refused import PERMANENT, RETRY, VerbRefused

_PATIENCE_S: Final = 10.0
"""udev reads what is on a disk that has just appeared."""
_POLL_S: Final = 0.2
_BLOCK: Final = 4096
_DISK: Final = re.compile("nvme[0-9]+(c[0-9]+)?n[0-9]+", re.ASCII)
_SAMPLES: Final = 64


@contextmanager
def unchanged_is_refused(device: Device, disks: list[str]) -> Iterator[None]:
    """Keeps the disks from use while they are wiped within, and looks whether that has changed what is on them.

    Raises VerbRefused if somebody has one, or if a block still has what it had before.
    """
    with _claimed(device, disks):
        before = {disk: _samples(device, disk) for disk in disks}
        yield
        for disk in disks:
            after = _samples(device, disk)
            same = [place for place, data in before[disk].items() if after.get(place) == data]
            if same:
                text = f": /dev/{disk} was reported wiped, and has at byte {same[0]} what it had before"
                raise device.refusal(PERMANENT, f"{text}: nobody may have it as it is")


@contextmanager
def _claimed(device: Device, disks: list[str]) -> Iterator[None]:
    """Keeps everybody else from mounting the disks, or building on them. Raises VerbRefused if somebody has one."""
    until = time.monotonic() + _PATIENCE_S
    with ExitStack() as stack:
        for disk in disks:
            while True:
                try:
                    stack.callback(os.close, _claim(device, disk))
                    break
                except VerbRefused:
                    if time.monotonic() >= until:
                        raise
                time.sleep(_POLL_S)
        yield


def nobody_builds_on(device: Device) -> None:
    """Raises VerbRefused if a disk of an NVMe function is mounted or swapped on, or something is built on it."""
    names = {path.name for path in device.folder.glob("nvme/nvme*/nvme*n*")}
    for disk in sorted(re.sub("c[0-9]+n", "n", name) for name in names if _DISK.fullmatch(name)):
        use = _use(device.root, _parts(device, disk))
        if use is not None:
            raise device.refusal(RETRY, f": {use}, and would lose it: end that first")


def _samples(device: Device, disk: str) -> dict[int, bytes]:
    """Reads blocks of a disk, by place in bytes, that are of more than one value, past what the kernel has in memory.

    A block that cannot be read is left out: after a wipe, one without data need not be readable. Raises OSError.
    """
    found: dict[int, bytes] = {}
    # Direct reads need memory that begins with a page.
    with mmap.mmap(-1, _BLOCK) as page:
        fd = os.open(device.root / "dev" / disk, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            for place in _places(os.lseek(fd, 0, os.SEEK_END)):
                with suppress(OSError):
                    if os.preadv(fd, [page], place) == _BLOCK and page[:] != page[:1] * _BLOCK:
                        found[place] = page[:]
        finally:
            os.close(fd)
    return found


def _places(size: int) -> list[int]:
    blocks = size // _BLOCK
    wanted = {0, 1, 256, blocks - 1, *(blocks * each // _SAMPLES for each in range(_SAMPLES))}
    return [block * _BLOCK for block in sorted(wanted) if 0 <= block < blocks]


def _claim(device: Device, disk: str) -> int:
    """Gives the descriptor that claims a disk while it is open. Raises VerbRefused."""
    _nobody_uses(device, disk)
    try:
        return os.open(device.root / "dev" / disk, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        why = "is mounted, or something is built on it" if error.errno == errno.EBUSY else "cannot be opened"
        raise device.refusal(RETRY, f": /dev/{disk} {why} ({system_words(error)}): it is not wiped") from None


def _nobody_uses(device: Device, disk: str) -> None:
    """Raises VerbRefused with who has a disk or a partition of it, as far as that is seen."""
    parts = _parts(device, disk)
    use = _use(device.root, parts)
    if use is not None:
        raise device.refusal(RETRY, f": {use}: it is not wiped")
    device.nobody_opens({f"/dev/{name}": "" for name in (*parts, disk.replace("nvme", "ng", 1))})


def _parts(device: Device, disk: str) -> dict[str, Path]:
    folder = device.root / "sys/class/block" / disk
    return {disk: folder} | {each.parent.name: each.parent for each in folder.glob("*/partition")}


def _use(root: Path, parts: dict[str, Path]) -> str | None:
    numbers = {}
    for name, folder in parts.items():
        with suppress(OSError):
            numbers[(folder / "dev").read_text().strip()] = name
        with suppress(OSError):
            for holder in sorted((folder / "holders").iterdir()):
                return f"/dev/{name} holds {holder.name}"
    for line in _lines(root / "proc/1/mountinfo"):
        before, _, after = line.partition(" - ")
        words, source = before.split(), (after.split() or [""] * 2)[1:2]
        # A btrfs shows a number that is no disk's.
        disk = numbers.get(words[2]) or next((name for name in parts if source == [f"/dev/{name}"]), None)
        if disk is not None:
            return f"/dev/{disk} is mounted on {words[4]}"
    for line in _lines(root / "proc/swaps"):
        name = line.split()[0].removeprefix("/dev/")
        if name in parts:
            return f"/dev/{name} is swapped on"
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
