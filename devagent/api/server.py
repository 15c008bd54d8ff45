# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Serves the API on its unix socket: cheroot, with what it lacks.

- A thread is given only to a client that says something: one that is silent waits in the selector.
- The threads and the connections are bounded; what is over the bound, or comes while the agent ends, is answered 503.
- stop() has a bound. Each turn of the accept loop is a beat, by which a watchdog sees that it lives.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from queue import Queue
from typing import Any, Final

from cheroot import connections, wsgi
from cheroot.server import HTTPConnection, HTTPRequest

from devagent.api import faults
from devagent.api.app import CALLER, REQUEST_ID, Application, new_id
from devagent.api.caller import of_connection
from devagent.api.listener import Listener
from devagent.api.request import BODY_LIMIT
from devagent.api.workers import Workers

LOG: Final = logging.getLogger(__name__)

_HEADER_LIMIT: Final = 32 << 10
_BACKLOG: Final = 512
_CONNECTIONS: Final = 512  # of the 1024 descriptors that a service has by default
_REFUSALS: Final = 64
_TICK: Final = 5.0
"""Seconds between two turns of the accept loop in which nothing comes; each costs a tenth of a millisecond."""
_KEPT_ALIVE: Final = 64
_ENDING: Final = "the agent has as much to do as it can, or is ending: ask again"


class Server:
    """The API on one path. `patience`: seconds that a client may take between two bytes, or two requests."""

    def __init__(
        self,
        application: Application,
        path: Path,
        *,
        group: str | None = None,
        threads: int = 16,
        patience: float = 10.0,
    ) -> None:
        self._http = _Http(application, path, group, threads, patience)

    def listen(self) -> None:
        """Opens the socket and starts the threads. Raises ListenError, ConfigurationError."""
        self._http.prepare()

    def serve(self, beat: Callable[[], object]) -> None:
        """Takes connections until stop(), with a `beat` at least every five seconds; call listen() before."""
        self._http.beat = beat
        self._http.serve()

    def stop(self, timeout: float) -> bool:
        """Refuses what is new, lets what is under way end, and closes; false if `timeout` seconds were not enough.

        What was not answered by then loses its connection.
        """
        return self._http.end(timeout)


class _Request(HTTPRequest):
    """A request; what cheroot refuses by itself is answered in the form of all other errors."""

    def simple_response(self, status: str, msg: str = "") -> None:
        self.close_connection = True
        with suppress(OSError):  # nobody may be there to read it
            self.conn.wfile.write(_refusal(int(str(status)[:3]), msg))


class _Connection(HTTPConnection):
    RequestHandlerClass = _Request


class _Gateway(wsgi.Gateway_10):
    """The WSGI environment, with who called."""

    def get_environ(self) -> Any:
        environ: Any = super().get_environ()  # type: ignore[no-untyped-call]
        environ[CALLER] = of_connection(self.req.conn.socket, self.req.server.group)
        return environ

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        # Else cheroot would first read the rest of a body that does not come.
        self.req.close_connection |= ("Connection", "close") in headers
        return super().start_response(status, headers, exc_info)


class _Connections(connections.ConnectionManager):
    """The accept loop."""

    _num_connections: int

    @property
    def waiting(self) -> int:
        return self._num_connections

    def _expire(self, threshold: float) -> None:
        # cheroot calls it each expiration_interval, whether something came or not.
        self.server.beat()
        super()._expire(threshold)  # type: ignore[misc]

    def run(self, expiration_interval: float) -> None:
        try:
            super().run(expiration_interval)
        except OSError as error:
            LOG.error("the API cannot take a connection: %s", error)
            time.sleep(expiration_interval)  # it will be so for a while, for example with too many open files

    def stop(self) -> None:
        self._stop_requested = True
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bell:
            bell.setblocking(False)
            bell.connect(self.server.bind_addr)  # the loop looks up at once, not at its next turn
        super().stop()


class _Http(wsgi.Server):
    ConnectionClass = _Connection
    keep_alive_conn_limit = _KEPT_ALIVE
    expiration_interval = _TICK
    max_request_header_size = _HEADER_LIMIT
    max_request_body_size = BODY_LIMIT
    beat: Callable[[], object]
    group: int
    timeout: float
    requests: Workers
    _connections: _Connections
    _unservicable_conns: Queue[Any]

    def __init__(self, application: Application, path: Path, group: str | None, threads: int, patience: float) -> None:
        super().__init__(str(path), application, request_queue_size=_BACKLOG, server_name="devagent")
        self.timeout = patience
        self.requests = Workers(self, threads)
        self.gateway = _Gateway
        self._group = group
        self._ending = False

    def bind_unix_socket(self, bind_addr: str) -> socket.socket:
        self._listener = Listener(Path(bind_addr), self._group)
        self.group, self.socket = self._listener.gid, self._listener.socket
        return self._listener.socket

    def prepare(self) -> None:
        super().prepare()
        self._connections.close()
        self._connections = _Connections(self)

    def process_conn(self, conn: Any) -> None:
        if not self.ready:
            conn.close()
        elif self._ending or self._connections.waiting + self.requests.pending >= _CONNECTIONS:
            self._refuse(conn)
        elif conn.last_used is None:  # new, and nothing read of it yet
            self._connections.put(conn)
        else:
            self.requests.put(conn)

    def end(self, timeout: float) -> bool:
        if not self.ready:
            return True
        deadline = time.monotonic() + timeout
        self._ending = True
        done = self.requests.drain(timeout)
        self.shutdown_timeout = max(0.0, deadline - time.monotonic())
        self.stop()
        self._listener.remove()
        self._listener.close()
        return done

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        LOG.log(level, "API server: %s", msg, exc_info=traceback)

    def _refuse(self, conn: Any) -> None:
        if self._unservicable_conns.qsize() < _REFUSALS:
            self._unservicable_conns.put(conn)
        else:
            conn.close()

    def _serve_unservicable(self) -> None:
        """Answers what _refuse() was given, in a thread that cheroot starts; stop() ends it with something else."""
        threading.current_thread().name = "api-refusals"
        while isinstance(conn := self._unservicable_conns.get(), _Connection):
            with suppress(OSError):
                conn.socket.settimeout(0.2)
                conn.socket.recv(1 << 16)  # a client that is still writing would not read the answer
            with suppress(OSError):
                conn.socket.sendall(_refusal(HTTPStatus.SERVICE_UNAVAILABLE, _ENDING))
            conn.close()


def _refusal(status: int, detail: str) -> bytes:
    """Gives a whole answer with an error, as bytes."""
    fault, request_id = faults.of_status(status, detail), new_id()
    body = json.dumps(fault.document(request_id)).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        REQUEST_ID: request_id,
        **fault.headers,
    }
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{key}: {value}" for key, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
