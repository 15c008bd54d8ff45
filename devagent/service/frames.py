# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Messages on a stream socket, each with its length before it, so that they may be of any size."""

from __future__ import annotations

import socket
import struct
import time
from typing import Final

_LENGTH: Final = struct.Struct("=Q")
_PIECE: Final = 1 << 20


def send(connection: socket.socket, message: bytes) -> None:
    """Sends one message. Raises OSError, of which TimeoutError if the socket has a time-out."""
    connection.sendall(_LENGTH.pack(len(message)) + message)


def receive(connection: socket.socket, until: float | None = None) -> bytes | None:
    """Gives the next message; None if the other side has ended, in the middle of one or between two.

    Raises TimeoutError if it is not there by `until` (monotonic).
    """
    head = _exactly(connection, _LENGTH.size, until)
    return None if head is None else _exactly(connection, _LENGTH.unpack(head)[0], until)


def _exactly(connection: socket.socket, size: int, until: float | None) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        if until is not None:
            connection.settimeout(max(until - time.monotonic(), 0.001))
        try:
            piece = connection.recv(min(size - len(data), _PIECE))
        except ConnectionError:
            return None
        if not piece:
            return None
        data += piece
    return bytes(data)
