# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads and replaces what is remembered below the state directory: a file is there whole, as it was or as it will be.

health.json                       what everybody reads
health.new                        only while it is written
health.damaged-1763712000         what was set aside, for whoever wants to read or mend it
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

LOG: Final = logging.getLogger(__name__)


def read(path: Path) -> bytes | None:
    """Gives what a file holds, None if there is none.

    Raises OSError, also for what is no regular file: whoever opens a FIFO waits until somebody writes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Replaces a file in one step, durably; everybody may read it. Raises OSError, and then the old one is there."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    try:
        temporary.unlink(missing_ok=True)  # whatever it is: opening it might wait, or lead elsewhere
        with temporary.open("xb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def update(path: Path, data: bytes, decode: Callable[[bytes], object], damage: tuple[type[Exception], ...]) -> None:
    """Replaces a file as `replace` does, unless it holds that already. Raises OSError.

    One that was damaged, so that `decode` raises one of `damage`, is set aside: somebody may still mend it.
    """
    before = read(path)
    if before == data:
        return
    if before is not None:
        try:
            decode(before)
        except damage as error:
            LOG.warning("%s is damaged (%s): set aside as %s", path, error, set_aside(path).name)
    replace(path, data)


def set_aside(path: Path) -> Path:
    """Gives a damaged file another name, which it gives back. Raises OSError."""
    return path.replace(path.with_suffix(f".damaged-{int(time.time())}"))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
