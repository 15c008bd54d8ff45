# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Replaces what tells one machine from another by something of the same shape; the same always by the same.

Hex digits stay hex digits, decimal ones decimal, letters letters of the same case, all else stays: a
UUID is a UUID still, and a serial number as long as it was. The key is forgotten with the capture.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

_UUID: Final = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Fa-f])")
# Ethernet has six octets, InfiniBand twenty.
_MAC: Final = re.compile(
    r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{2}:){5}(?:(?:[0-9A-Fa-f]{2}:){14})?[0-9A-Fa-f]{2}(?![0-9A-Fa-f:])"
)
# A root bus, a bus or a function's address: the tree is made of them.
_PLACE: Final = re.compile(r"pci[0-9a-f]{4,}(?:[:/].*)?|[0-9a-f]{4,8}:[0-9a-f]{2}(?::[0-9a-f]{2}(?:\.[0-7])?)?")
_VENDOR: Final = len("aa:bb:cc:")
_NOVA: Final = "instance-"
_TOKEN: Final = re.compile(r"[0-9A-Za-z]+(?:[-_.:][0-9A-Za-z]+)*")
_NOTHING: Final = frozenset({"", "na", "none", "null", "unknown", "notspecified", "notavailable", "default"})
# Version and variant of a UUID, as places in its 32 digits.
_FIXED: Final = (12, 16)
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
# What is shorter is replaced in its own place only: elsewhere it may mean anything.
_SHORTEST: Final = 6


class Pseudonyms:
    """The replacements of one capture."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(32)
        self._known: set[str] = set()

    def learn(self, secret: str) -> None:
        """Has `secret` replaced wherever it stands as a word, if it can be nothing else: no place, no word alone."""
        plain = _plain(secret)
        numbered = any(character.isdigit() for character in plain)
        if len(plain) >= _SHORTEST and numbered and not _has_shape(secret) and not _PLACE.fullmatch(secret.strip()):
            self._known.add(plain)

    def of(self, secret: str) -> str:
        """Gives the replacement; spellings that differ in separators and case have the same digits."""
        plain = _plain(secret)
        if plain in _NOTHING or not plain.strip("0") or not plain.strip("f"):
            return secret
        alphabet = _alphabet(plain)
        upper = any(character.isupper() for character in secret)
        stream = self._stream(plain, len(plain))
        kept = _FIXED if len(plain) == 32 and alphabet else ()
        result = list(secret)
        places = [place for place, character in enumerate(secret) if character.isascii() and character.isalnum()]
        for number, place in enumerate(places[-len(plain) :]):
            if number not in kept:
                own = alphabet or ("0123456789" if secret[place].isdigit() else _LETTERS)
                new = own[stream[number] % len(own)]
                result[place] = new.upper() if upper else new
        return "".join(result)

    def whole(self, text: str) -> str:
        """Replaces a text that is a secret and nothing else."""
        return self.text(text) if _has_shape(text) else self.of(text)

    def name(self, name: str) -> str:
        """Replaces a name, label by label; one that Nova made looks as if it had made it still."""
        if not name.isascii():
            name = name.encode("punycode", "replace").decode()
        if name.startswith(_NOVA):
            return _NOVA + self.of(name.removeprefix(_NOVA))
        return ".".join(map(self.of, name.split(".")))

    def number(self, secret: str, below: int) -> int:
        """Gives a number for `secret`, from 0 on."""
        return int.from_bytes(self._stream(secret, 16), "big") % below

    def text(self, text: str) -> str:
        """Replaces all UUIDs and MAC addresses, whose vendor stays, and what was learnt."""
        if "-" in text:
            text = _UUID.sub(lambda match: self.of(match[0]), text)
        if ":" in text:
            text = _MAC.sub(lambda match: self._mac(match[0]), text)
        return _TOKEN.sub(lambda match: self._word(match[0]), text) if self._known else text

    def _word(self, token: str) -> str:
        if _PLACE.fullmatch(token):
            return token
        if _plain(token) in self._known:
            return self.of(token)
        return re.sub(
            "[0-9A-Za-z]+", lambda match: self.of(match[0]) if _plain(match[0]) in self._known else match[0], token
        )

    def _mac(self, mac: str) -> str:
        if not mac.strip("0:") or not mac.strip("fF:"):
            return mac
        # The vendor stays; the stream is that of the whole, so that no vendor's addresses meet another's.
        return mac[:_VENDOR] + self.of(mac[_VENDOR:] + mac[:_VENDOR])[: len(mac) - _VENDOR]

    def _stream(self, plain: str, length: int) -> bytes:
        return hashlib.shake_256(self._key + plain.encode()).digest(length)


def _plain(secret: str) -> str:
    """Gives the letters and digits that make a secret, however it is spelled."""
    plain = "".join(character for character in secret if character.isascii() and character.isalnum()).lower()
    return plain.removeprefix("0x")


def _has_shape(secret: str) -> bool:
    return bool(_UUID.search(secret) or _MAC.search(secret))


def _alphabet(plain: str) -> str | None:
    """Gives the digits that a number is written with; None for what is no number."""
    if plain.isdigit():
        return "0123456789"
    return "0123456789abcdef" if re.fullmatch("[0-9a-f]+", plain) else None
