# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What has come of a request: gathered without a thread until all of it is there, then read by the one that answers.

It stands where cheroot has a file. Only its head, its end and its length are looked at here; whether it is a request is
for cheroot to say.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from typing import Final

GATHERED: Final = 64 << 10
"""Bytes of a request that wait for the rest without a thread: all of the head, and the body of any usual request."""

_PART: Final = 16 << 10
_CRLF: Final = b"\r\n"
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_FRAMING: Final = re.compile(rb"\r\n\s*(?:content-length|transfer-encoding)\s*:", re.IGNORECASE)
_FOLDED: Final = re.compile(rb"\r\n[ \t]")
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)


class Arrival:
    """The bytes of one connection, in the order in which they came; `patience` in seconds is for each request."""

    def __init__(self, connection: socket.socket, patience: float) -> None:
        self._socket, self._patience = connection, patience
        self._data = bytearray()
        self._ended = False
        self.is_plain = True
        """Whether the head says in the one plain way how long the body is, or that there is none (RFC 9112, 6.3)."""
        self._deadline = 0.0
        self.rest()

    def rest(self) -> None:
        """Begins with the next request; nothing waits for the other end until hand_over()."""
        self._socket.settimeout(0)
        self._searched = 0
        self._chunk = 0
        self._needed: int | None = None

    def gather(self) -> bool:
        """Takes what has come; tells whether there is something to do: a whole request, an end, or too much.

        Raises OSError.
        """
        try:
            if isinstance(self._socket, ssl.SSLSocket):
                self._socket.do_handshake()  # does nothing once it is done
            while not self._whole():
                self._take(self._socket.recv(_PART))
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def hand_over(self) -> None:
        """From now on a thread reads, and waits for what is lacking."""
        self._socket.settimeout(self._patience)
        self._deadline = time.monotonic() + self._patience

    def has_data(self) -> bool:
        """Tells whether something has come that is not read."""
        return bool(self._data)

    def read(self, size: int) -> bytes:
        """Reads so many bytes, fewer only at the end. Raises TimeoutError, ValueError as any file does."""
        if size < 0:  # what a negative Content-Length leads to
            raise ValueError(f"{size} bytes cannot be read")
        while len(self._data) < size and self._fill():
            pass
        return self._cut(size)

    def readline(self, size: int = -1) -> bytes:
        """Reads up to the end of the line, or so many bytes of it. Raises TimeoutError."""
        searched = 0
        while (found := self._data.find(b"\n", searched)) < 0 and not 0 <= size <= len(self._data):
            searched = len(self._data)
            if not self._fill():
                break
        end = len(self._data) if found < 0 else found + 1
        return self._cut(end if size < 0 else min(end, size))

    def close(self) -> None:
        """Forgets what is not read."""
        self._data.clear()

    def _cut(self, size: int) -> bytes:
        found = bytes(self._data[:size])
        del self._data[:size]
        return found

    def _take(self, part: bytes) -> None:
        self._data += part
        self._ended = not part

    def _fill(self) -> bool:
        """Waits for more, until the time of the request is over; tells whether there was any."""
        left = self._deadline - time.monotonic()
        if self._ended or left <= 0:
            if self._ended:
                return False
            raise TimeoutError("timed out")  # as a socket says it: cheroot goes by the words
        self._socket.settimeout(left)
        try:
            self._take(self._socket.recv(_PART))
        finally:
            self._socket.settimeout(self._patience)
        return not self._ended

    def _whole(self) -> bool:
        if self._needed is None and not self._chunk:
            self._find_head()
        if self._ended or not self.is_plain or len(self._data) >= GATHERED:
            return True
        if self._chunk:
            return self._last_chunk()
        return self._needed is not None and len(self._data) >= self._needed

    def _find_head(self) -> None:
        """Looks for the end of the head, and in it for how the body ends."""
        end = self._data.find(_END, max(0, self._searched - len(_END)))
        self._searched = len(self._data)
        if end < 0:
            return
        head = bytes(self._data[: end + len(_CRLF)])
        length = _LENGTH.search(head)
        self.is_plain = _is_plain(head, length)
        if _CHUNKED.search(head):
            self._chunk = end + len(_END)
        else:
            self._needed = min(end + len(_END) + (int(length[1]) if length else 0), GATHERED)

    def _last_chunk(self) -> bool:
        """Goes from chunk to chunk (RFC 9112, 7.1); true also for what are none, which cheroot refuses."""
        while (end := self._data.find(_CRLF, self._chunk)) >= 0:
            try:
                size = int(bytes(self._data[self._chunk : end]).partition(b";")[0], 16)
            except ValueError:
                return True
            if size <= 0:
                return self._data.find(_END, end) >= 0
            following = end + size + 2 * len(_CRLF)
            if following > min(len(self._data), GATHERED):
                return following > GATHERED
            self._chunk = following
        return False


def _is_plain(head: bytes, length: re.Match[bytes] | None) -> bool:
    """Tells whether cheroot, too, finds the length of the body where it was looked for here, and nowhere else."""
    found = _FRAMING.findall(head)
    if len(found) > 1 or _FOLDED.search(head):
        return False
    return not found or length is not None or found[0].lower() == b"\r\ntransfer-encoding:"
