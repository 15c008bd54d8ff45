# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""HTTP servers that are not Placement, or not a healthy one."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from unit.http_server import listening

Answer = Callable[[str], tuple[int, str, str]]
"""Gives status, content type and body for a path."""


def html(status: int) -> Answer:
    """Gives a web page, as a proxy or a dashboard does."""
    return lambda path: (status, "text/html", "<html><body>It works!</body></html>")


def error(status: int, detail: str = "no") -> Answer:
    """Gives an error in Placement's form."""
    body = {"errors": [{"status": status, "title": "t", "detail": detail, "code": "placement.undefined_code"}]}
    return lambda path: (status, "application/json", json.dumps(body))


def versions(newest: str, then: Answer) -> Answer:
    """Gives Placement's version document at /, and `then` elsewhere."""
    document = {"versions": [{"id": "v1.0", "min_version": "1.0", "max_version": newest, "status": "CURRENT"}]}
    return lambda path: (200, "application/json", json.dumps(document)) if path == "/" else then(path)


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Runs the server and gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, kind, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with listening(Handler) as url:
        yield url


def closed_port() -> str:
    """Gives a URL where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
