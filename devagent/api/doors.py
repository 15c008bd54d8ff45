# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the API can be reached, and who comes in there: a unix socket, or a TCP port with TLS."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from devagent.api.caller import Caller, of_connection
from devagent.api.unix_socket import UnixSocket
from devagent.cause import system_words
from devagent.errors import ListenError

Environ = dict[str, Any]
Identify = Callable[[ssl.SSLSocket, Environ], Caller]
"""Gives who is at the other end of a TLS connection, for a request with that WSGI environment."""

_SILENT_S: Final = 10
"""The kernel keeps a connection to itself so long if nothing comes on it."""


class Door(Protocol):
    """One address of the API."""

    secure: bool

    def open(self) -> socket.socket:
        """Gives the socket, bound but not listening. Raises ListenError, ConfigurationError."""
        ...

    def enter(self, accepted: socket.socket) -> socket.socket:
        """Gives what is to be read from and written to; waits for nothing. Raises OSError."""
        ...

    def caller(self, connection: socket.socket, environ: Environ) -> Caller:
        """Gives who calls; what is known of the connection goes into `environ`."""
        ...

    def remove(self) -> None:
        """Nobody finds it any more."""
        ...

    def close(self) -> None:
        """Lets go of the address."""
        ...


class UnixDoor:
    """A socket in the file system, for `group` besides root and the agent's own user."""

    secure = False

    def __init__(self, path: Path, group: str | None = None) -> None:
        self._path, self._group = path, group

    def open(self) -> socket.socket:
        """Gives the socket. Raises ListenError, ConfigurationError."""
        self._opened = UnixSocket(self._path, self._group)
        return self._opened.socket

    def enter(self, accepted: socket.socket) -> socket.socket:
        """Gives it as it is."""
        return accepted

    def caller(self, connection: socket.socket, environ: Environ) -> Caller:  # noqa: ARG002 - as the other door
        """Gives who connected, by the kernel's word."""
        return of_connection(connection, self._opened.gid)

    def remove(self) -> None:
        """Takes the file away."""
        self._opened.remove()

    def close(self) -> None:
        """Lets go of the path."""
        self._opened.close()


class TcpDoor:
    """A TCP port that speaks nothing but TLS; `context` gives what is in force for a new connection."""

    secure = True

    def __init__(self, host: str, port: int, context: Callable[[], ssl.SSLContext], identify: Identify) -> None:
        self._host, self._port = host, port
        self._context, self._identify = context, identify

    @property
    def address(self) -> tuple[str, int]:
        """Where it is open: the port is another one where 0 was wanted."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def open(self) -> socket.socket:
        """Gives the socket. Raises ListenError."""
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            self._socket = _bound(family, address)
        except OSError as error:
            raise ListenError(f"{self._host}:{self._port}: {_why(error)}") from None
        return self._socket

    def enter(self, accepted: socket.socket) -> socket.socket:
        """Gives it with TLS, whose handshake is still to be made."""
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._context().wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)

    def caller(self, connection: socket.socket, environ: Environ) -> Caller:
        """Gives who the certificate or the token says it is."""
        assert isinstance(connection, ssl.SSLSocket)
        environ["wsgi.url_scheme"], environ["REMOTE_ADDR"] = "https", _peer(connection)
        return self._identify(connection, environ)

    def remove(self) -> None:
        """Does nothing: a port is gone once it is closed."""

    def close(self) -> None:
        """Lets go of the port."""
        self._socket.close()


def _bound(family: int, address: Any) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _SILENT_S)
        opened.bind(address)
    except BaseException:
        opened.close()
        raise
    return opened


def _peer(connection: socket.socket) -> str:
    try:
        return str(connection.getpeername()[0])
    except OSError:  # it has gone away meanwhile
        return "an address that is gone"


def _why(error: OSError) -> str:
    said = system_words(error)
    if error.errno == errno.EADDRINUSE:
        return f"{said}: stop what listens there (ss -ltnp), or set another port in [api] listen"
    if error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME):
        return f"{said}: [api] listen must name an address of this host"
    if error.errno == errno.EACCES:
        return f"{said}: [api] listen must name a port above 1023"
    return said
