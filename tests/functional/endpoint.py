# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One endpoint that stands for the agents of many hosts: it takes hints over TLS, and keeps whom they name."""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from unit.api.authority import Authority


class Endpoint:
    """Listens on loopback; `sections` is what a relay has in [notifications] to reach it for every host."""

    def __init__(self, folder: Path) -> None:
        self.consumers: list[str] = []
        self.calls = 0
        authority = Authority(folder / "tls")
        cert, key = authority.issue("127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        # The host stands in the path's place of a user, which nobody looks at: there is one address for all.
        url = f"https://{{host}}@127.0.0.1:{self._server.server_port}"
        self.sections = {"mode": "relay", "agents": url, "cacert": authority.cacert, "pool": "devagent-bench"}

    def __enter__(self) -> Endpoint:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Takes hints."""
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.calls += 1
                endpoint.consumers.extend(each["consumer"] for each in body["hints"])
                answer = b'{"known": 0}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler
