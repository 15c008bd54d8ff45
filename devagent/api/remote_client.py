# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The client of other hosts' agents: HTTP over TLS, with a certificate of its own or with Keystone's tokens.

RemoteClient("https://compute7:9443", cacert="ca.pem", cert="relay.pem", key="relay.key").get("/v1/status")
RemoteClient("https://compute7:9443", cacert="ca.pem", tokens=session).delete("/v1/preparations/...", wait=60)
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from devagent.api.client import TIMEOUT, Client, Document
from devagent.errors import AgentDenied, AgentError, AgentRefused, AgentUnreachable, ConfigurationError


class Tokens(Protocol):
    """Where tokens come from: what a session of keystoneauth1 has."""

    def get_token(self) -> str | None:
        """Gives one that is valid, as far as it knows."""
        ...

    def invalidate(self) -> bool:
        """Forgets it, since somebody refused it; tells whether there may be another one."""
        ...


class RemoteClient(Client):
    """Calls the agent at `url`, https://HOST:PORT; every method raises AgentError as Client's do.

    `cacert` is a PEM file with the authorities that issue the agents' certificates, by default the system's; `cert` and
    `key` are this client's own certificate; `tokens` is a session of keystoneauth1. Raises ConfigurationError.
    """

    _elsewhere = "[api] listen there names its port"

    def __init__(
        self,
        url: str,
        *,
        cacert: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        tokens: Tokens | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        super().__init__(url, timeout=timeout)
        self._host, self._port = _address(url)
        self._context = _context(cacert, cert, key)
        self._tokens = tokens

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)

    def _call(
        self,
        method: str,
        path: str,
        body: Document | None = None,
        headers: Mapping[str, str] | None = None,
        wait: int = 0,
    ) -> Document:
        try:
            return super()._call(method, path, body, self._with_token(headers), wait)
        except AgentRefused as error:
            if error.status != http.client.UNAUTHORIZED or self._tokens is None or not self._tokens.invalidate():
                raise
        return super()._call(method, path, body, self._with_token(headers), wait)

    def _with_token(self, headers: Mapping[str, str] | None) -> Mapping[str, str]:
        token = self._tokens.get_token() if self._tokens else None
        return {**(headers or {}), **({"X-Auth-Token": token} if token else {})}

    def _unreachable(self, error: OSError) -> AgentError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return AgentDenied(f"{self._where}: its certificate is not to be trusted: {error.verify_message}")
        if isinstance(error, ssl.SSLError):
            said = (error.reason or str(error)).replace("_", " ").lower()
            return AgentDenied(f"{self._where}: no TLS with it: {said}: does it want a certificate of this client?")
        if isinstance(error, ConnectionError | http.client.RemoteDisconnected):
            return AgentUnreachable(f"no agent answers on {self._where} ([api] listen there?): {_words(error)}")
        return AgentUnreachable(f"{self._where}: {_words(error)}")


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None or parts.scheme != "https" or parts.path.strip("/"):
        raise ConfigurationError(f"{url}: an agent of another host is named as https://HOST:PORT")
    return host, port


def _context(cacert: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=cacert)
        if cert is not None:
            context.load_cert_chain(cert, key)
    except OSError as error:
        files = ", ".join(filter(None, (cacert, cert, key)))
        raise ConfigurationError(f"{files}: {_words(error)}: PEM files are wanted, and a key that fits") from None
    return context


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
