# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Gives up capabilities for good (capset(2), capabilities(7)); numbers are those of linux/capability.h."""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Iterable
from typing import Final

from devagent.privileged import prctl

_VERSION_3: Final = 0x20080522


class Capability(enum.IntEnum):
    """Those that something of ours keeps or needs, by name and number."""

    DAC_READ_SEARCH = 2
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    SYSLOG = 34


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Word(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def drop() -> None:
    """Gives up every capability of this thread, and of the threads and programs that it will start. Raises OSError.

    A thread that runs already would keep its own: call it before there is any.
    """
    keep(())


def keep(wanted: Iterable[Capability]) -> None:
    """Gives up every capability but those of `wanted` that the thread holds. Raises OSError.

    Programs that it starts get none, and those of a root user no more than these.
    """
    prctl.no_new_privileges()
    held = _permitted() & sum(1 << each for each in set(wanted))
    # What is not inheritable leaves the ambient set, too.
    words = (_Word * 2)(*(_Word(held >> shift & 0xFFFFFFFF, held >> shift & 0xFFFFFFFF, 0) for shift in (0, 32)))
    prctl.checked(prctl.libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), words))


def has(capability: Capability) -> bool:
    """Tells whether this thread may use a capability. Raises OSError."""
    return bool(_permitted() >> capability & 1)


def _permitted() -> int:
    words = (_Word * 2)()
    prctl.checked(prctl.libc.capget(ctypes.byref(_Header(_VERSION_3, 0)), words))
    return int(words[0].permitted) | int(words[1].permitted) << 32
