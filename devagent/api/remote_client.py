# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The client of other hosts' agents: HTTP over TLS, with a certificate of its own or with Keystone's tokens.

RemoteClient("https://compute7:9443", cacert="ca.pem", cert="relay.pem", key="relay.key").get("/v1/status")
RemoteClient("https://compute7:9443", cacert="ca.pem", tokens=session).delete("/v1/preparations/...", wait=60)
"""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

from devagent.api.client import TIMEOUT, Client, Document
from devagent.api.unix_http import Answer
from devagent.cause import system_words
from devagent.errors import AgentDenied, AgentError, AgentRefused, AgentUnreachable, ConfigurationError

T = TypeVar("T")

# What the other side's alerts mean here (RFC 8446, 6.2), as OpenSSL names them.
_ALERTS: Final = (
    ("certificate required", "it wants a certificate of this client: --cert and --key"),
    ("unknown ca", "this client's certificate is of no authority in [api] tls_client_ca there"),
    ("certificate expired", "this client's certificate has expired"),
    ("bad certificate", "it does not take this client's certificate"),
    ("wrong version number", "it speaks no TLS"),
    ("protocol version", "it speaks no TLS 1.2 or newer"),
)


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

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes | None, timeout: float
    ) -> Answer:
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)
        try:
            connection.connect()
            with suppress(BrokenPipeError):  # it refused before it had read everything: its answer says why
                connection.request(method, path, content, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except http.client.RemoteDisconnected:
            raise
        except http.client.HTTPException as error:
            raise ValueError(repr(error)) from None
        finally:
            connection.close()

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
            said = tls_words(error)
            why = next((why for alert, why in _ALERTS if said.endswith(alert)), "does it want other certificates?")
            return AgentDenied(f"{self._where}: no TLS with it: {why} ({said})")
        if isinstance(error, ConnectionError):
            return AgentUnreachable(f"no agent answers on {self._where} ([api] listen there?): {system_words(error)}")
        return AgentUnreachable(f"{self._where}: {system_words(error)}")


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
    context = _loading(cacert, lambda: ssl.create_default_context(cafile=cacert))
    if cert is None and key is not None:
        raise ConfigurationError(f"{key}: a key needs its certificate: --cert")
    if cert is not None:
        for path in filter(None, (cert, key)):
            _loading(path, Path(path).read_bytes)
        # A key with a password is refused: what asks for it would wait for nobody.
        _loading(key or cert, lambda: context.load_cert_chain(cert, key, password=""))
    return context


def _loading(path: str | None, load: Callable[[], T]) -> T:
    try:
        return load()
    except ssl.SSLError as error:
        said = tls_words(error)
        wanted = "PEM is wanted, and for --cert the key that fits, without a password"
        raise ConfigurationError(f"{path}: {said}: {wanted}") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: {system_words(error)}") from None


def tls_words(error: ssl.SSLError) -> str:
    """Gives what OpenSSL says: `[SSL: KEY_VALUES_MISMATCH] key values mismatch (_ssl.c:3926)` without its brackets."""
    return re.sub(r"\[[^]]*\] ?| ?\(_ssl[^)]*\)", "", error.reason or str(error)).replace("_", " ").lower()
