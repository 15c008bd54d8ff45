# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether somebody who may has signed an image: a detached signature over its sha256.

openssl dgst -sha256 -sign private.pem -out loopback.gbs.sig loopback.gbs      an RSA key (PKCS #1 v1.5), or an EC key
openssl pkey -in private.pem -pubout -out public.pem                           what [images] signing_key names
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from devagent.cause import system_words
from devagent.errors import ConfigurationError
from devagent.images.refused import permanent

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey


class SigningKey:
    """The public key in the PEM file at `path`. Raises ConfigurationError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = _load(path)

    def check(self, origin: str, digest: str, signature: bytes | None) -> None:
        """Checks the signature over a sha256 (hex) of what is from `origin`. Raises NoImage if it is not right."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
        from cryptography.hazmat.primitives.hashes import SHA256

        if signature is None:
            raise permanent(f"{origin} is not signed, and [images] signing_key wants that")
        hashed = utils.Prehashed(SHA256())
        try:
            if isinstance(self._key, rsa.RSAPublicKey):
                self._key.verify(signature, bytes.fromhex(digest), padding.PKCS1v15(), hashed)
            else:
                self._key.verify(signature, bytes.fromhex(digest), ec.ECDSA(hashed))
        except InvalidSignature:
            raise permanent(f"{origin}: its signature is not by the key in {self._path}, or of other data") from None


def _load(path: Path) -> RSAPublicKey | EllipticCurvePublicKey:
    where = f"configuration: [images] signing_key: {path}"
    try:
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise ConfigurationError(f"{where}: needs Python's cryptography: pip install '.[signatures]'") from None
    try:
        key: Any = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{where}: {system_words(error)}") from None
    except Exception as error:
        raise ConfigurationError(f"{where}: is no public key in PEM: {error}") from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise ConfigurationError(f"{where}: is neither an RSA nor an EC key")
    return key
