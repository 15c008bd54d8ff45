# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Until when a certificate may be shown to clients: asked of TLS itself, by a handshake that stays in memory."""

from __future__ import annotations

import ssl
from contextlib import suppress


def ends(cert: str, key: str) -> float:
    """Gives when the certificate in the PEM file `cert` ends, in seconds of the epoch.

    Raises ssl.SSLCertVerificationError where no client would take it: it has ended, has not begun, is for another use.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key, password="")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # Whoever issued it: that is for the clients to know.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cafile=cert)
    shown = _handshake(client, server).getpeercert() or {}
    return ssl.cert_time_to_seconds(str(shown["notAfter"]))


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> ssl.SSLObject:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(back, there)
    far = server.wrap_bio(there, back, server_side=True)
    for side in (near, far, near):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return near
