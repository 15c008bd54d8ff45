# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""HTTP over a unix socket, one connection for each call: all that callers on the agent's own host need of it.

    PUT /v1/preparations/5e1f0f6a-... HTTP/1.1        HTTP/1.1 200 OK
    Host: localhost                                   Content-Type: application/json
    Content-Length: 131                               Content-Length: 830
                                                      Connection: close
    {"groups": ...
                                                      {"state": "prepared", ...

By hand: libvirt waits for its hook at each start of a domain, and http.client, which imports ssl and email, would take
it more time than all else that it does.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import BinaryIO, Final, NamedTuple

NO_CONTENT: Final = 204

_TARGET: Final = re.compile("/[!-~]*")
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([2-5][0-9]{2}) [^\r\n]*\r\n")
_LENGTH: Final = re.compile(rb"content-length: *([0-9]{1,18}) *\r\n", re.IGNORECASE)
_LONGEST_LINE: Final = 1 << 16
_MOST_HEADERS: Final = 100


class Answer(NamedTuple):
    """What came back."""

    status: int
    content: bytes


def call(path: str, method: str, target: str, headers: Mapping[str, str], content: bytes, timeout: float) -> Answer:
    """Sends one request to who listens on `path`, and gives the answer; `timeout` is for each wait, in seconds.

    Raises OSError, ConnectionError if the other side ends before it answers, and ValueError if it speaks no HTTP.
    """
    if not _TARGET.fullmatch(target):
        raise ValueError(f"no request can be for {target!r}")
    said = {"Host": "localhost", **headers, "Connection": "close", "Content-Length": str(len(content))}
    head = "\r\n".join((f"{method} {target} HTTP/1.1", *(f"{name}: {text}" for name, text in said.items()), "\r\n"))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        with suppress(BrokenPipeError):  # it refused before it had read everything: its answer says why
            connection.sendall(head.encode("ascii") + content)
        with connection.makefile("rb") as answer:
            return _read(answer)


def _read(answer: BinaryIO) -> Answer:
    line = answer.readline(_LONGEST_LINE)
    if not line:
        raise ConnectionResetError("it ended before it answered")
    found = _STATUS.fullmatch(line)
    if not found:
        raise ValueError(f"no answer of HTTP begins with {line[:40]!r}")
    status, length = int(found[1]), _length(answer)
    content = b"" if status == NO_CONTENT else answer.read(length)
    if status != NO_CONTENT and len(content) != length:
        raise ValueError(f"{length} bytes were promised, and {len(content)} came")
    return Answer(status, content)


def _length(answer: BinaryIO) -> int:
    """Reads the headers, of which one says how many bytes come after them: the agent always tells."""
    length = None
    for _ in range(_MOST_HEADERS):
        line = answer.readline(_LONGEST_LINE)
        if line in (b"\r\n", b""):
            break
        if found := _LENGTH.fullmatch(line):
            length = int(found[1])
    return length or 0
