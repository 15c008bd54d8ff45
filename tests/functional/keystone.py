# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A Keystone of a few lines, and behind its tokens the real Placement: enough for keystoneauth's plugins.

One server is both: /v3 answers as Keystone does (password and application credential), /placement hands
on to the embedded Placement what carries a valid token. Tokens can be made to expire.
"""

from __future__ import annotations

import json
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

PASSWORD = "s3cret"
SECRET = "app-s3cret"
ELSEWHERE = "http://127.0.0.1:1/elsewhere"  # nobody listens: who takes this endpoint of the catalog fails


@dataclass
class Keystone:
    """What it issued and was asked; `roles` go to Placement with each request."""

    placement: str
    url: str = ""
    roles: str = "service"
    tokens: set[str] = field(default_factory=set)
    logins: list[str] = field(default_factory=list)

    def expire(self) -> None:
        """Makes every token issued so far invalid."""
        self.tokens.clear()

    def login(self, body: Any) -> tuple[str, dict[str, Any]] | None:
        """Gives a token and its description for the right secret, None for a wrong one."""
        identity = body["auth"]["identity"]
        (method,) = identity["methods"]
        user = identity[method]["user"] if method == "password" else identity[method]
        right = user.get("password") == PASSWORD or user.get("secret") == SECRET
        if not right:
            return None
        self.logins.append(method)
        token = uuid.uuid4().hex
        self.tokens.add(token)
        return token, {"token": self._describe(method)}

    def _describe(self, method: str) -> dict[str, Any]:
        def endpoint(region: str, interface: str, url: str) -> dict[str, str]:
            return {"id": uuid.uuid4().hex, "region": region, "region_id": region, "interface": interface, "url": url}

        endpoints = [
            endpoint("RegionOne", "internal", f"{self.url}/placement"),
            endpoint("RegionOne", "public", ELSEWHERE),
            endpoint("RegionTwo", "internal", ELSEWHERE),
        ]
        return {
            "methods": [method],
            "user": {"id": "u", "name": "devagent", "domain": {"id": "default", "name": "Default"}},
            "project": {"id": "p", "name": "service", "domain": {"id": "default", "name": "Default"}},
            "roles": [{"id": "r", "name": "service"}],
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "catalog": [{"type": "placement", "name": "placement", "id": "c", "endpoints": endpoints}],
        }


@contextmanager
def serving(keystone: Keystone, tls: ssl.SSLContext | None = None) -> Iterator[Keystone]:
    """Runs it, over TLS with a context, and sets its `url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.startswith("/placement"):
                self._placement(body)
            elif self.path == "/v3/auth/tokens":
                found = keystone.login(json.loads(body))
                headers = {"X-Subject-Token": found[0]} if found else {}
                self._answer(201 if found else 401, json.dumps(found[1] if found else {}), headers)
            else:
                link = {"rel": "self", "href": f"{keystone.url}/v3/"}
                self._answer(200, json.dumps({"version": {"id": "v3.14", "status": "stable", "links": [link]}}), {})

        def _placement(self, body: bytes) -> None:
            if self.headers.get("X-Auth-Token") not in keystone.tokens:
                return self._answer(401, "{}", {})
            headers = {name: value for name, value in self.headers.items() if name in _PASSED}
            headers |= {"X-Auth-Token": "behind-keystone", "X-Roles": keystone.roles}
            url = keystone.placement + (self.path.removeprefix("/placement") or "/")
            got = requests.request(self.command, url, data=body, headers=headers, timeout=30)
            return self._answer(got.status_code, got.text, {})

        def _answer(self, status: int, body: str, headers: dict[str, str]) -> None:
            self.send_response(status)
            data = b"" if status == 204 else body.encode()
            for name, value in {
                **headers,
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    keystone.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield keystone
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_PASSED = ("Content-Type", "Accept", "OpenStack-API-Version")
