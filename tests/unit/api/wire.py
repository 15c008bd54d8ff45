# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Requests and answers as they stand on the wire, and what to hold of an answer."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

from devagent.api.schemas import validator

GET = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSE = b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
RESCAN = b"POST /v1/rescan HTTP/1.1\r\nHost: x\r\nConnection: close\r\nPrefer: wait=300\r\n\r\n"


def status(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert found, answer
    return int(found[1])


def error(answer: bytes, wanted: int, code: str) -> dict[str, Any]:
    """Checks that an answer is a whole one, an error in the form of all errors, and gives its headers."""
    assert status(answer) == wanted
    head, _, body = answer.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert headers["Content-Length"] == str(len(body))
    document = json.loads(body)
    validator("errors").validate(document)
    assert document["errors"][0]["code"] == code
    assert document["errors"][0]["request_id"] == headers["X-Openstack-Request-Id"]
    return headers


def one_answer(opened: socket.socket) -> bytes:
    """Reads one whole answer of a connection that stays open."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += opened.recv(1)
    size = re.search(rb"Content-Length: (\d+)", found)
    assert size
    with opened.makefile("rb", 0) as rest:
        while len(found) - found.index(b"\r\n\r\n") - 4 < int(size[1]):
            found += rest.read(1)
    return found
