# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Certificates for the API over TLS, and an agent that is reached with them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

from devagent.api import certificate
from devagent.api.doors import Identify, TcpDoor
from devagent.api.remote_client import RemoteClient

from .agents import Agent, serving_at

RELAY = "relay.example.org"


@dataclass
class Authority:
    """Issues certificates into a folder."""

    folder: Path
    ca: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cacert = str(self.folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.cacert)

    def issue(self, *names: str, common_name: str | None = None) -> tuple[str, str]:
        """Gives the paths of a certificate and its key."""
        made = self.ca.issue_cert(*names, common_name=common_name)
        base = self.folder / (common_name or names[0])
        cert, key = f"{base}.pem", f"{base}.key"
        made.cert_chain_pems[0].write_to_path(cert)
        made.private_key_pem.write_to_path(key)
        return cert, key

    def server(self, *, asks: bool = True) -> ssl.SSLContext:
        """Gives what an agent on this machine speaks TLS with; `asks`: clients need a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue("127.0.0.1"))
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cafile=self.cacert)
        return context

    def client(self, name: str = RELAY) -> ssl.SSLContext:
        """Gives what a client speaks TLS with that has a certificate."""
        context = ssl.create_default_context(cafile=self.cacert)
        context.load_cert_chain(*self.issue(name))
        return context


@dataclass
class Reached:
    """An agent that listens on a port of this machine."""

    door: TcpDoor
    authority: Authority

    @property
    def url(self) -> str:
        """Where it is."""
        return "https://{}:{}".format(*self.door.address)

    def client(self, name: str = RELAY, **more: Any) -> RemoteClient:
        """Gives a client with a certificate."""
        cert, key = self.authority.issue(name)
        return RemoteClient(self.url, cacert=self.authority.cacert, cert=cert, key=key, **{"timeout": 30, **more})

    def connected(self) -> socket.socket:
        """Connects, and says nothing."""
        return socket.create_connection(self.door.address, 30)

    def secured(self, name: str = RELAY) -> ssl.SSLSocket:
        """Connects, with TLS."""
        return self.authority.client(name).wrap_socket(self.connected(), server_hostname="127.0.0.1")


@contextmanager
def reached(
    agent: Agent, authority: Authority, *, allowed: frozenset[str] = frozenset({RELAY}), **more: Any
) -> Iterator[Reached]:
    """Serves an agent for clients with certificates."""
    with reached_by(agent, authority, certificate.identified_by(lambda: allowed), **more) as found:
        yield found


@contextmanager
def reached_by(
    agent: Agent, authority: Authority, identify: Identify, *, asks: bool = True, **more: Any
) -> Iterator[Reached]:
    """Serves an agent over TLS for callers that are known in some way."""
    context = authority.server(asks=asks)
    door = TcpDoor("127.0.0.1", 0, lambda: context, identify)
    with serving_at(door, agent, **more):
        yield Reached(door, authority)
