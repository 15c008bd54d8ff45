# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A server that answers as Glance does (api-ref/image/v2), and fails as Glance and what stands before it do."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from keystoneauth1 import adapter, session, token_endpoint

from devagent.images.glance import Glance

from ..http_server import listening

TOKEN = "t0ken"
PATIENCE_S = 30.0


@dataclass
class FakeGlance:
    """What it has and what it was asked; `fails` are statuses that the next requests get, by the end of their path."""

    url: str = ""
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails: list[tuple[str, int]] = field(default_factory=list)
    send: Callable[[Handler, bytes], None] = lambda handler, data: handler.whole(data)

    def add(self, name: str, data: bytes, **more: Any) -> str:
        """Adds an image as an upload does, and gives its id."""
        own = str(uuid.uuid4())
        self.images[own] = {
            "id": own, "name": name, "status": "active", "visibility": "shared", "owner": "p", "size": len(data),
            "os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(data).hexdigest(), "checksum": "d41d8cd9",
            "container_format": "bare", "disk_format": "raw", "file": f"/v2/images/{own}/file",
        } | more  # fmt: skip
        self.data[own] = data
        return own

    def client(self) -> Glance:
        """Gives a client as it is configured for this server."""
        own = session.Session(auth=token_endpoint.Token(self.url, TOKEN), timeout=PATIENCE_S)
        return Glance(adapter.Adapter(own, service_type="image"))

    def halt_after(self, size: int) -> threading.Event:
        """Sends so many bytes of each image from now on, and the rest when the event is set that it gives."""
        go_on = threading.Event()

        def halting(handler: Handler, data: bytes) -> None:
            handler.begin("application/octet-stream", len(data))
            handler.wfile.write(data[:size])
            go_on.wait(PATIENCE_S)
            handler.wfile.write(data[size:])

        self.send = halting
        return go_on

    def downloads(self) -> int:
        """Tells how often data was asked for."""
        return sum(path.endswith("/file") for path in self.asked)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    glance: FakeGlance

    def do_GET(self) -> None:
        """Answers."""
        url = urlsplit(self.path)
        self.glance.asked.append(url.path)
        for number, (end, status) in enumerate(self.glance.fails):
            if url.path.endswith(end):
                del self.glance.fails[number]
                return self.fail(status)
        if self.headers.get("X-Auth-Token") != TOKEN:
            return self.fail(401)
        if url.path == "/v2/images":
            return self.json({"images": self._listed(parse_qs(url.query)), "schema": "/v2/schemas/images"})
        parts = url.path.removeprefix("/v2/images/").split("/")
        found = self.glance.images.get(parts[0])
        if found is None:
            return self.fail(404)
        with suppress(ConnectionError):
            return self.json(found) if parts[1:] != ["file"] else self.glance.send(self, self.glance.data[parts[0]])

    def _listed(self, query: Mapping[str, list[str]]) -> list[dict[str, Any]]:
        name = query.get("name", [""])[0]
        return [each for each in self.glance.images.values() if each["name"] == name or name.startswith("in:")]

    def json(self, document: Any) -> None:
        """Answers with a document."""
        self.begin("application/json", len(data := json.dumps(document).encode()))
        self.wfile.write(data)

    def fail(self, status: int) -> None:
        """Answers with an error, as Glance does: a page."""
        data = b"<html><head><title>no</title></head></html>"
        self.begin("text/html", len(data), status)
        self.wfile.write(data)

    def begin(self, kind: str, length: int | None, status: int = 200) -> None:
        """Sends what comes before the body."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if 300 <= status < 400:
            self.send_header("Location", f"{self.glance.url}/elsewhere")
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def whole(self, data: bytes) -> None:
        """Sends an image as it is."""
        self.begin("application/octet-stream", len(data))
        self.wfile.write(data)

    def chunked(self, data: bytes) -> None:
        """Sends it as some servers do."""
        self.begin("application/octet-stream", None)
        for start in range(0, len(data), 1000):
            part = data[start : start + 1000]
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def endless(self, data: bytes) -> None:
        """Never ends."""
        self.begin("application/octet-stream", None)
        while True:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def cut(self, data: bytes) -> None:
        """Ends in the middle, as when Glance is restarted."""
        self.begin("application/octet-stream", len(data))
        self.wfile.write(data[: len(data) // 2])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def serving() -> Iterator[FakeGlance]:
    """Runs one, empty."""
    glance = FakeGlance()
    with listening(type("Bound", (Handler,), {"glance": glance})) as glance.url:
        yield glance
