# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Serves the API at one door, a unix socket or a TCP port with TLS: cheroot, with what it lacks.

- A thread is given only to a request that has come as a whole: who is silent, or says half of something, waits in the
  selector, also with the handshake of TLS, and no longer than `patience`.
- The threads and the connections are bounded; who comes over the bound has the place of who was silent for longest.
  What comes while the agent ends is answered 503.
- stop() has a bound. Each turn of the accept loop is a beat, by which a watchdog sees that it lives.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from queue import Queue
from typing import Any, Final

from cheroot import connections, wsgi
from cheroot.makefile import MakeFile
from cheroot.server import HTTPConnection, HTTPRequest

from devagent.api import faults
from devagent.api.app import CALLER, REQUEST_ID, Application
from devagent.api.arrival import Arrival
from devagent.api.doors import Door
from devagent.api.request import BODY_LIMIT
from devagent.api.request_id import new_id
from devagent.api.workers import Workers

LOG: Final = logging.getLogger(__name__)

_HEADER_LIMIT: Final = 32 << 10
_BACKLOG: Final = 512
CONNECTIONS: Final = 384
"""At each door: of the 1024 descriptors that a service has by default, two doors leave enough for all else."""
_REFUSALS: Final = 64
_TICK: Final = 5.0
"""Seconds between two turns of the accept loop in which nothing comes; each costs a tenth of a millisecond."""
_KEPT_ALIVE: Final = 64
_ENDING: Final = "the agent has as much to do as it can, or is ending: ask again"
_UNPLAIN: Final = (
    "the length of the body must be said once: by Content-Length, as digits, or Transfer-Encoding: chunked"
)
_SLOW: Final = "the request did not come as a whole in time"


class Server:
    """The API at one door. `patience`: seconds in which a request must have come, and between two of them."""

    def __init__(self, application: Application, door: Door, *, threads: int = 16, patience: float = 10.0) -> None:
        self._http = _Http(application, door, threads, patience)

    def listen(self) -> None:
        """Opens the door and starts the threads. Raises ListenError, ConfigurationError; may then be called again."""
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

    def read_request_headers(self) -> bool:
        # Else a thread would wait for a body of which nobody knew, before it is known who sends it.
        if not self.conn.rfile.is_plain:
            self.simple_response("400 Bad Request", _UNPLAIN)
            return False
        return bool(super().read_request_headers())  # type: ignore[no-untyped-call]

    def simple_response(self, status: str, msg: str = "") -> None:
        self.close_connection = True
        with suppress(OSError):  # nobody may be there to read it
            self.conn.wfile.write(_refusal(int(str(status)[:3]), msg))


class _Connection(HTTPConnection):
    """A connection; `since` is when its request began to come, or it began to be silent (time.monotonic)."""

    RequestHandlerClass = _Request
    rfile: Any

    def __init__(self, server: Any, accepted: socket.socket, makefile: Any = MakeFile) -> None:
        super().__init__(server, accepted, makefile)
        self.entered = False
        self.since = time.monotonic()

    def rest(self) -> None:
        """Begins to wait for the next request, or the first. Raises OSError."""
        if not self.entered:
            self.socket = self.server.door.enter(self.socket)
            self.rfile = Arrival(self.socket, self.server.timeout)
            self.wfile = MakeFile(self.socket, "wb", self.wbufsize)
            self.entered = True
        self.since = time.monotonic()
        self.rfile.rest()

    def gather(self) -> bool:
        """Takes what has come; tells whether a thread can do something with it. Raises OSError."""
        silent = not self.rfile.has_data()
        done: bool = self.rfile.gather()
        if silent and self.rfile.has_data():
            self.since = time.monotonic()
        return done

    def get_peer_creds(self) -> Any:
        raise RuntimeError("who calls is for the door to say")


class _Gateway(wsgi.Gateway_10):
    """The WSGI environment, with who called."""

    def get_environ(self) -> Any:
        environ: Any = super().get_environ()  # type: ignore[no-untyped-call]
        environ[CALLER] = self.req.server.door.caller(self.req.conn.socket, environ)
        return environ

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        # Else cheroot would first read the rest of a body that does not come.
        self.req.close_connection |= ("Connection", "close") in headers
        return super().start_response(status, headers, exc_info)


class _Bell:
    """Wakes the accept loop, which takes it for a connection."""

    def __init__(self) -> None:
        self.number = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        os.eventfd_write(self.number, 1)

    def close(self) -> None:
        os.close(self.number)


class _Connections(connections.ConnectionManager):
    """The accept loop, and the connections that wait in it."""

    _num_connections: int
    _selector: Any

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self._bell = _Bell()
        self._selector.register(self._bell.number, selectors.EVENT_READ, data=self._bell)

    @property
    def waiting(self) -> int:
        return self._num_connections - 1  # the bell is none

    def put(self, conn: Any) -> None:
        """Waits for the first request of a connection, or the next."""
        try:
            conn.rest()
        except OSError as error:
            LOG.debug("a client of the API went away: %s", error)
            conn.close()
        else:
            self.server.arrived(conn)

    def wait(self, conn: Any) -> None:
        """Looks again once more has come."""
        self._selector.register(conn.socket.fileno(), selectors.EVENT_READ, data=conn)

    def make_room(self) -> bool:
        """Sends away who has waited for longest; false if nobody does."""
        guests = [each for _, each in self._guests()]
        if guests:
            longest = min(guests, key=lambda each: each.since)
            longest.since = time.monotonic()
            # Not close(): its number would be another's, while this turn of the loop may still have news of it.
            with suppress(OSError):
                socket.socket.shutdown(longest.socket, socket.SHUT_RDWR)
        return bool(guests)

    def _guests(self) -> list[tuple[int, _Connection]]:
        return [(number, each) for number, each in self._selector.connections if isinstance(each, _Connection)]

    def _expire(self, threshold: float) -> None:  # noqa: ARG002 - by a clock that jumps
        # cheroot calls it each expiration_interval, whether something came or not.
        self.server.beat()
        late = time.monotonic() - self.server.timeout
        for number, conn in self._guests():
            if conn.since < late:
                self._selector.unregister(number)
                self.server.dismiss(conn)

    def run(self, expiration_interval: float) -> None:
        try:
            super().run(expiration_interval)
        except OSError as error:
            LOG.error("the API cannot take a connection: %s", error)
            time.sleep(expiration_interval)  # it will be so for a while, for example with too many open files

    def stop(self) -> None:
        self._stop_requested = True
        self._bell.ring()  # the loop looks up at once, not at its next turn
        super().stop()


class _Http(wsgi.Server):
    ConnectionClass = _Connection
    keep_alive_conn_limit = _KEPT_ALIVE
    expiration_interval = _TICK
    max_request_header_size = _HEADER_LIMIT
    max_request_body_size = BODY_LIMIT
    beat: Callable[[], object]
    timeout: float
    requests: Workers
    _connections: _Connections
    _unservicable_conns: Queue[Any]

    def __init__(self, application: Application, door: Door, threads: int, patience: float) -> None:
        # What is no pair of host and port, cheroot takes for a path, and has bind_unix_socket() open it.
        super().__init__("devagent", application, request_queue_size=_BACKLOG, server_name="devagent")
        self.door = door
        self.timeout = patience
        self.requests = Workers(self, threads)
        self.gateway = _Gateway
        self._ending = False

    def bind_unix_socket(self, bind_addr: str) -> socket.socket:  # noqa: ARG002
        opened: socket.socket = self.door.open()
        self.socket = opened
        return opened

    def prepare(self) -> None:
        super().prepare()
        self._connections.close()
        self._connections = _Connections(self)

    def process_conn(self, conn: Any) -> None:
        if isinstance(conn, _Bell):
            conn.close()
            return
        if not self.ready:
            conn.close()
        elif self._ending:
            self._refuse(conn, HTTPStatus.SERVICE_UNAVAILABLE, _ENDING)
        elif conn.entered:
            self.arrived(conn)
        elif self._is_full and not self._connections.make_room():
            self._refuse(conn, HTTPStatus.SERVICE_UNAVAILABLE, _ENDING)
        else:
            self._connections.put(conn)

    def arrived(self, conn: Any) -> None:
        """Gives a connection to a thread once its request is there, and lets it wait until then."""
        try:
            if not conn.gather():
                self._connections.wait(conn)
                return
        except OSError as error:
            level = logging.INFO if isinstance(error, ssl.SSLError) else logging.DEBUG
            LOG.log(level, "a client of the API is gone: %s", error)
            self._say(conn, b"")  # TLS has said why
            return
        if self._ending:
            self._refuse(conn, HTTPStatus.SERVICE_UNAVAILABLE, _ENDING)
        else:
            conn.rfile.hand_over()
            self.requests.put(conn)

    def dismiss(self, conn: Any) -> None:
        """Ends a connection whose time is over, with a word if it had begun to ask."""
        if conn.rfile.has_data():
            self._refuse(conn, HTTPStatus.REQUEST_TIMEOUT, _SLOW)
        else:
            conn.close()

    @property
    def _is_full(self) -> bool:
        return self._connections.waiting + self.requests.pending >= CONNECTIONS

    def end(self, timeout: float) -> bool:
        if not self.ready:
            return True
        deadline = time.monotonic() + timeout
        self._ending = True
        done = self.requests.drain(timeout)
        self.shutdown_timeout = max(0.0, deadline - time.monotonic())
        self.stop()
        self.door.remove()
        self.door.close()
        return done

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        LOG.log(level, "API server: %s", msg, exc_info=traceback)

    def _refuse(self, conn: Any, status: HTTPStatus, detail: str) -> None:
        self._say(conn, _refusal(status, detail) if conn.entered or not self.door.secure else b"")

    def _say(self, conn: Any, answer: bytes) -> None:
        """Ends a connection with an answer, without a wait for that."""
        if self._unservicable_conns.qsize() < _REFUSALS:
            self._unservicable_conns.put((conn, answer))
        else:
            conn.close()

    def _serve_unservicable(self) -> None:
        """Answers what _say() was given, in a thread that cheroot starts; stop() ends it with something else."""
        threading.current_thread().name = "api-refusals"
        while isinstance(item := self._unservicable_conns.get(), tuple):
            conn, answer = item
            with suppress(OSError):
                conn.socket.settimeout(0.2)
                # What stays unread would have the kernel reset the connection, and the answer lost; TLS is done with.
                socket.socket.recv(conn.socket, 1 << 16)
            with suppress(OSError):
                conn.socket.sendall(answer)
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
