# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A Keystone of a few lines, and behind its tokens the real Placement: enough for keystoneauth's plugins.

One server is both: /v3 answers as Keystone does (password and application credential, and whose a token is that
somebody validates), /placement hands on to the embedded Placement what carries a valid token. Tokens can be made to
expire.
"""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import requests
from unit.http_server import listening

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
    callers: dict[str, dict[str, Any]] = field(default_factory=dict)
    validations: int = 0

    def expire(self) -> None:
        """Makes every token issued so far invalid."""
        self.tokens.clear()

    def issue(self, user: str, *roles: str, project: str = "service") -> str:
        """Gives a token of a user with these roles in a project."""
        token = uuid.uuid4().hex
        self.tokens.add(token)
        found = self._describe("password")
        found["user"] |= {"id": f"id-of-{user}", "name": user}
        found["project"] |= {"id": f"id-of-{project}", "name": project}
        found["roles"] = [{"id": f"id-of-{role}", "name": role} for role in roles]
        self.callers[token] = {"token": found}
        return token

    def validate(self, asking: str | None, subject: str | None) -> tuple[int, dict[str, Any]]:
        """Tells whose token it is: 401 to who has no token of its own, 404 for what is none."""
        self.validations += 1
        if asking not in self.tokens:
            return 401, {"error": {"code": 401, "title": "Unauthorized", "message": "authenticate"}}
        if subject not in self.tokens or subject not in self.callers:
            return 404, {"error": {"code": 404, "title": "Not Found", "message": "Could not recognize Fernet token"}}
        return 200, self.callers[subject]

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
        self.callers[token] = {"token": self._describe(method)}
        return token, self.callers[token]

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
            "catalog": [
                {"type": "placement", "name": "placement", "id": "c", "endpoints": endpoints},
                {
                    "type": "identity",
                    "name": "keystone",
                    "id": "k",
                    "endpoints": [endpoint("RegionOne", "internal", f"{self.url}/v3")],
                },
            ],
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
            elif self.command == "GET" and self.path.partition("?")[0] == "/v3/auth/tokens":
                asking, subject = (self.headers.get(f"X-{whose}-Token") for whose in ("Auth", "Subject"))
                status, document = keystone.validate(asking, subject)
                self._answer(status, json.dumps(document), {"X-Subject-Token": subject or ""})
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

    with listening(Handler, tls) as keystone.url:
        yield keystone


_PASSED = ("Content-Type", "Accept", "OpenStack-API-Version")
