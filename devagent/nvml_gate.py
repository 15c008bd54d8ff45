# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""When NVML may be open: by any number of processes at once, or, while a GPU changes hands, by nobody.

    <state_path>/nvml.lock      flock(2), shared for as long as a session lasts, else exclusive
    <state_path>/nvml.wanted    held exclusive by who waits for that: no further session begins meanwhile

A session keeps the GPUs open, and whatever takes one from its driver waits for that to end. The kernel keeps these
locks: a look that hangs with NVML open holds its own until it ends, whoever has given up waiting for it.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devagent.errors import GateBusy

_LOCK: Final = "nvml.lock"
_WANTED: Final = "nvml.wanted"
_TICK_S: Final = 0.02
# 12: FLOCK  ADVISORY  READ 4711 fe:01:131842 0 EOF
_ROW: Final = r"^[0-9]+: FLOCK +ADVISORY +READ +([0-9]+) [0-9a-f]+:[0-9a-f]+:{inode} "


@dataclass(frozen=True, slots=True)
class NvmlGate:
    """The gate of the agent whose state is in `folder`; where that has no such files, nobody keeps anybody out."""

    folder: Path

    def make(self) -> None:
        """Makes the files, which only the agent and root can open: who can may keep it shut. Raises OSError."""
        for name in (_LOCK, _WANTED):
            os.close(os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    @contextmanager
    def open(self, seconds: float) -> Iterator[None]:
        """Lets NVML be open for the time of the `with`. Raises GateBusy if it must not within so many seconds."""
        until = time.monotonic() + seconds
        with ExitStack() as stack:
            wanted, lock = self._file(stack, _WANTED), self._file(stack, _LOCK)
            if wanted is not None and lock is not None and not _within(until, lambda: _both(wanted, lock)):
                raise GateBusy("a GPU is being given to another driver or divided anew, which needs NVML closed")
            yield

    @contextmanager
    def shut(self, seconds: float) -> Iterator[None]:
        """Keeps NVML closed for the time of the `with`. Raises GateBusy with who has it open after so many seconds."""
        until = time.monotonic() + seconds
        with ExitStack() as stack:
            wanted, lock = self._file(stack, _WANTED), self._file(stack, _LOCK)
            if wanted is not None and lock is not None:
                if not _within(until, lambda: _taken(wanted, fcntl.LOCK_EX)):
                    raise GateBusy("another GPU is being given to another driver or divided anew")
                if not _within(until, lambda: _taken(lock, fcntl.LOCK_EX)):
                    why = "devagent itself still has NVML open, for a look or a MIG instance that takes long or hangs"
                    raise GateBusy(why, _readers(lock))
            yield

    def _file(self, stack: ExitStack, name: str) -> int | None:
        """Opens a file anew: a lock belongs to who has opened it, not to the process."""
        try:
            fd = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        stack.callback(os.close, fd)
        return fd


def _both(wanted: int, lock: int) -> bool:
    """Takes the lock, shared, unless somebody waits for it alone."""
    if not _taken(wanted, fcntl.LOCK_SH):
        return False
    try:
        return _taken(lock, fcntl.LOCK_SH)
    finally:
        fcntl.flock(wanted, fcntl.LOCK_UN)


def _taken(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _within(until: float, take: Callable[[], bool]) -> bool:
    while not take():
        if time.monotonic() >= until:
            return False
        time.sleep(_TICK_S)
    return True


def _readers(fd: int) -> tuple[int, ...]:
    """Gives the processes that hold a lock shared, as far as the kernel tells."""
    try:
        text = Path("/proc/locks").read_text()
    except OSError:
        return ()
    pids = re.findall(_ROW.format(inode=os.fstat(fd).st_ino), text, re.MULTILINE)
    return tuple(sorted({int(pid) for pid in pids} - {0}))
