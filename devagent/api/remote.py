# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How the API is reached from other hosts, read from [api]: where, with which TLS, and how callers are known."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from devagent.api import certificate
from devagent.api.doors import Identify, TcpDoor
from devagent.api.remote_client import tls_words
from devagent.cause import system_words
from devagent.errors import ConfigurationError

CERTIFICATE: Final = "certificate"
KEYSTONE: Final = "keystone"
_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z.-]+)):([0-9]{1,5})", re.ASCII)
_NEEDED: Final = ("keystonemiddleware", "oslo_policy")


@dataclass(frozen=True, slots=True)
class Remote:
    """`host` and `port` to listen on, `auth` as in [api]; the rest may change while the agent runs."""

    host: str
    port: int
    auth: str
    tls: ssl.SSLContext = field(compare=False)
    names: frozenset[str] = field(compare=False)


def read(api: Any) -> Remote | None:
    """Reads it, with the files that it names; None where nothing is to listen.

    Raises ConfigurationError: without TLS, or with nobody asked who they are, nothing listens.
    """
    if not api.listen:
        return None
    wrong = list(_wrong(api))
    address = _ADDRESS.fullmatch(api.listen)
    if address is None or not 0 < int(address[3]) < 1 << 16:
        wrong.insert(0, f"[api] listen: {api.listen!r} is no HOST:PORT, as 192.0.2.7:9443 is")
    if wrong or address is None:
        raise ConfigurationError(f"configuration: {'; '.join(wrong)}")
    names = frozenset(map(str.lower, api.client_names))
    return Remote(address[1] or address[2], int(address[3]), api.auth, _context(api), names)


def door(settings: Any, in_force: Callable[[], Any]) -> TcpDoor:
    """Gives what is to be opened; `in_force` gives the settings at any time. Raises ConfigurationError."""
    wanted: Remote = settings.remote
    if wanted.auth == KEYSTONE:
        from devagent.api import keystone  # noqa: PLC0415 - a third of a second that few need

        identify: Identify = keystone.identified_by(settings.conf)
    else:
        identify = certificate.identified_by(lambda: in_force().remote.names)
    return TcpDoor(wanted.host, wanted.port, lambda: in_force().remote.tls, identify)


def _wrong(api: Any) -> Iterator[str]:
    """Says what lacks, and what would have no effect: who set it believes that it protects."""
    needed = {"tls_cert": "the certificate of this host", "tls_key": "its private key"}
    if api.auth == CERTIFICATE:
        needed |= {"tls_client_ca": "who issues the certificates of clients", "client_names": "which clients may call"}
    yield from (f"[api] {name}: needed with [api] listen: {what}" for name, what in needed.items() if not api[name])
    if not api.auth:
        yield "[api] auth: needed with [api] listen: certificate or keystone, for nobody is served unknown"
    if api.auth == KEYSTONE:
        for name in ("tls_client_ca", "client_names"):
            if api[name]:
                yield f"[api] {name}: has no effect with auth = keystone: remove it, or set auth = certificate"
        if not all(map(find_spec, _NEEDED)):
            yield "[api] auth: keystone needs what is not installed here: pip install '.[keystone]'"


def _context(api: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _loading("tls_cert", api.tls_cert, Path(api.tls_cert).read_bytes)
    _loading("tls_key", api.tls_key, Path(api.tls_key).read_bytes)
    # A key with a password is refused: nobody is there to be asked for it.
    both = f"{api.tls_cert}, {api.tls_key}"
    _loading("tls_cert, tls_key", both, lambda: context.load_cert_chain(api.tls_cert, api.tls_key, password=""))
    if api.auth == CERTIFICATE:
        context.verify_mode = ssl.CERT_REQUIRED
        _loading("tls_client_ca", api.tls_client_ca, lambda: context.load_verify_locations(cafile=api.tls_client_ca))
    return context


def _loading(option: str, path: str, load: Callable[[], object]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        said = tls_words(error)
        raise ConfigurationError(
            f"configuration: [api] {option}: {path}: {said}: PEM is wanted, and a key that fits and has no password"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"configuration: [api] {option}: {path}: {system_words(error)}") from None
