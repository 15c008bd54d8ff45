# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Callers over TLS who are known by their certificate, which the handshake has checked against [api] tls_client_ca."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from devagent.api.faults import Code, Fault
from devagent.api.operations import Operation


@dataclass(frozen=True, slots=True)
class Certified:
    """Who has a certificate with these names; `allowed`: one of them may call, and then do everything."""

    names: tuple[str, ...]
    address: str
    allowed: bool

    def admit(self, operation: Operation) -> None:  # noqa: ARG002 - as the others
        """Raises Fault (403) for a certificate that nobody has allowed."""
        if not self.allowed:
            detail = f"{self} may not call: [api] client_names on this host lists none of the certificate's names"
            raise Fault(403, Code.FORBIDDEN, detail)

    def __str__(self) -> str:
        """Gives `certificate nova-compute, from 192.0.2.1`."""
        return f"certificate {', '.join(self.names) or 'without a name'}, from {self.address}"


def identified_by(allowed: Callable[[], Collection[str]]) -> Callable[[ssl.SSLSocket, dict[str, Any]], Certified]:
    """Gives what identifies callers; `allowed` are the names that are in force now."""

    def identify(connection: ssl.SSLSocket, environ: dict[str, Any]) -> Certified:
        found = names(connection.getpeercert() or {})
        return Certified(found, environ["REMOTE_ADDR"], not {*map(str.lower, found)}.isdisjoint(allowed()))

    return identify


def names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """Gives the names of a certificate: the subject's CN, then the DNS names, each once.

    {'subject': ((('organizationName', 'Example'),), (('commonName', 'nova-compute'),)),
     'subjectAltName': (('DNS', 'compute7.example.org'), ('IP Address', '192.0.2.7')), ...}
    """
    subject = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    alternative = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return tuple(dict.fromkeys([*subject, *alternative]))
