# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One agent per host, wherever it keeps its state: two would give the same device to two consumers.

The lock is on a file of the kernel's that is there once per host, and that only those can open for writing who may
change devices; nothing is ever written to it. It ends with the process, and no child has it (fcntl(2), F_SETLK).
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from devagent.errors import StateError

_FILE: Final = "sys/bus/pci/rescan"
_FLOCK: Final = "hhqqi"
"""struct flock where files are 64 bits wide: l_type, l_whence, l_start, l_len, l_pid."""


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Holds the lock of the host below `root`. Raises StateError if another process does.

    Who may not open the file can change no device either, and goes on without.
    """
    try:
        lock = os.open(root / _FILE, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateError(f"{_who(lock)} works on this host already, and only one devagent may: end it") from None
        yield
    finally:
        os.close(lock)


def _who(lock: int) -> str:
    asked = fcntl.fcntl(lock, fcntl.F_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    pid = struct.unpack(_FLOCK, asked)[4]
    command = ""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ").split()
        command = f" ({' '.join(words)})"
    return f"process {pid}{command}" if pid > 0 else "a process in a container"
