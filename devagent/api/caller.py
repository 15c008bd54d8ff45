# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Who calls, and whether they may; on the unix socket by the kernel's word."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from devagent.api.faults import Code, Fault
from devagent.api.operations import Operation, Who

# include/uapi/asm-generic/socket.h, since Linux 4.13; the socket module does not name it.
_SO_PEERGROUPS: Final = 59
_ROOM: Final = 1024
"""Bytes that socket.getsockopt gives at most: 256 groups."""

_UCRED: Final = struct.Struct("iII")


class Caller(Protocol):
    """Who makes a call; as text it is what the log and an override have of them."""

    def admit(self, operation: Operation) -> None:
        """Raises Fault unless they may make that call: 401 it is not known who they are, 403 it is not for them."""
        ...


@dataclass(frozen=True, slots=True)
class Local:
    """The process that connected, as it was then; `operator`: it may also change things."""

    uid: int
    gid: int
    pid: int
    operator: bool

    def admit(self, operation: Operation) -> None:
        """Raises Fault (403) for what only operators may do."""
        if operation.who is Who.OPERATOR and not self.operator:
            detail = f"{self} may look, but not do this: that is for root and the group of the agent's socket"
            raise Fault(403, Code.FORBIDDEN, detail)

    def __str__(self) -> str:
        """Gives `uid 0 (root), pid 123`."""
        name = _name(self.uid)
        return f"uid {self.uid}{f' ({name})' if name else ''}, pid {self.pid}"


def of_connection(connection: socket.socket, group: int) -> Local:
    """Asks the kernel who connected; `group` is the one whose members are operators."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    member = group in (gid, *_groups(connection))
    return Local(uid, gid, pid, member or uid in (0, os.geteuid()))


def _groups(connection: socket.socket) -> tuple[int, ...]:
    """Gives the supplementary groups that the process had when it connected."""
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _ROOM)
    except OSError:  # ERANGE: it has more; who may do what is not to be guessed from elsewhere
        return ()
    return struct.unpack(f"{len(packed) // 4}I", packed)


@lru_cache(maxsize=64)
def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
