# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a process tells the kernel about itself (prctl(2)), without a library for it."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_SET_PDEATHSIG: Final = 1
_SET_NAME: Final = 15
_SET_NO_NEW_PRIVS: Final = 38

libc: Final = ctypes.CDLL(None, use_errno=True)


def name(text: str) -> None:
    """Gives the process a name of 15 letters at most, by which ps and top show it."""
    _prctl(_SET_NAME, text.encode())


def die_with_parent() -> None:
    """Has the process killed when its parent ends, whatever it is at then."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)


def no_new_privileges() -> None:
    """Keeps the process and all that it will start from gaining rights by starting a program. Raises OSError."""
    _prctl(_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, argument: int | bytes) -> None:
    value = argument if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    # The kernel refuses most options if the unused arguments are not 0, all of them as wide as a register.
    checked(libc.prctl(option, value, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def checked(status: int) -> None:
    """Raises OSError if a call of libc has failed."""
    if status == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
